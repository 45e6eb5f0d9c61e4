"""Sums by level of each grouping factor, and by pair of levels that meet in a row."""

from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.blocks import GroupBlock
from lmmkit.moments.basis import Basis
from lmmkit.moments.moments import FactorMoments, PairMoments
from lmmkit.records import FloatArray, IntArray, adopt, record


@record
class Incidence:
    """Which levels of one grouping factor each row loads on.

    Attributes
    ----------
    terms : tuple of int
        Positions of the random terms on the factor.
    codes : ndarray (N, r)
    loads : ndarray (N, r) or None
        None where r = 1 and every load is 1.
    Z : ndarray (N, q)
        The columns of all terms on the factor.
    """

    terms: tuple[int, ...]
    codes: IntArray
    loads: FloatArray | None
    Z: FloatArray

    @property
    def n_codes(self) -> int:
        """One more than the largest code."""
        return int(self.codes.max(initial=0)) + 1


@record
class StandardRows:
    """Rows in standard coordinates, times the roots of their weights.

    Attributes
    ----------
    log_weights : float
    outer : ndarray (N, p + responses)
        ``[X y]``.
    factors : tuple of Incidence
    """

    log_weights: float
    outer: FloatArray
    factors: tuple[Incidence, ...]


def standard_rows(blocks: tuple[GroupBlock, ...], basis: Basis) -> StandardRows:
    """All rows of ``blocks``, block after block."""
    X = np.concatenate([block.X.reshape(block.rows.size, block.X.shape[2]) for block in blocks])
    n_responses = int(np.prod(blocks[0].y.shape[:-2]))
    y = np.concatenate([block.y.reshape(n_responses, -1) for block in blocks], axis=1)
    root, log_weights = np.ones(1), 0.0
    if blocks[0].weights is not None:
        weights = np.concatenate([np.ravel(block.weights) for block in blocks])  # type: ignore[arg-type]
        root, log_weights = np.sqrt(weights), float(np.log(weights).sum())
    origin = basis.origin.reshape(n_responses, len(basis.x))
    outer = np.concatenate([X @ basis.x, y.T - X @ origin.T], axis=1) * root[:, None]
    factors = []
    for terms in blocks[0].factors:
        columns = []
        for k in terms:
            Z = np.concatenate([block.Z[k].reshape(-1, block.Z[k].shape[2]) for block in blocks])
            columns.append((Z @ basis.z[k]) * root[:, None])
        k = terms[0]
        codes = np.concatenate([_by_row(block.levels[k], block) for block in blocks])
        loads = None
        if blocks[0].loads and blocks[0].loads[k] is not None:
            loads = np.concatenate([_by_row(block.loads[k], block) for block in blocks])
        factors.append(Incidence(terms, codes, loads, np.concatenate(columns, axis=1)))
    return StandardRows(log_weights, outer, tuple(factors))


def _by_row(array: NDArray[np.generic] | None, block: GroupBlock) -> NDArray[np.generic]:
    return np.reshape(np.asarray(array), (block.rows.size, -1))


def level_moments(rows: StandardRows, p: int, lead: tuple[int, ...]) -> tuple[FactorMoments, ...]:
    """The moments of each factor's levels; ``outer`` has p columns of X first."""
    found = []
    for factor in rows.factors:
        q = factor.Z.shape[1]
        keys, weights, of_row = _pairs_of_rows(factor, factor, np.equal)
        zz = _products(factor.Z[of_row], factor.Z[of_row], weights)
        levels, zz_sums = _sums_by(keys % factor.n_codes, zz)
        keys, weights, of_row = _loads_of_rows(factor)
        zo = _products(factor.Z[of_row], rows.outer[of_row], weights)
        zo_sums = _sums_by(keys, zo)[1].reshape(len(levels), q, rows.outer.shape[1])
        zy = np.moveaxis(zo_sums[..., p:], -1, 0)
        found.append(
            FactorMoments(
                terms=factor.terms,
                levels=levels.astype(np.int32),
                zz=zz_sums.reshape(len(levels), q, q),
                zx=zo_sums[..., :p],
                zy=zy.reshape(*lead, len(levels), q),
            )
        )
    return tuple(found)


def pair_moments(rows: StandardRows) -> tuple[PairMoments, ...]:
    """``Z_k'Z_l`` of each pair of levels that some row loads on."""
    found = []
    numbered = list(enumerate(rows.factors))
    for (first, a), (second, b) in combinations_with_replacement(numbered, 2):
        if first == second and a.loads is None:
            continue
        keys, weights, of_row = _pairs_of_rows(a, b, np.less if first == second else None)
        pairs, sums = _sums_by(keys, _products(a.Z[of_row], b.Z[of_row], weights))
        found.append(
            PairMoments(
                first=first,
                second=second,
                rows=adopt((pairs // b.n_codes).astype(np.int32)),
                columns=adopt((pairs % b.n_codes).astype(np.int32)),
                zz=adopt(sums.reshape(len(pairs), a.Z.shape[1], b.Z.shape[1])),
            )
        )
    return tuple(pair for pair in found if len(pair.rows))


def _products(a: FloatArray, b: FloatArray, weights: FloatArray | None) -> FloatArray:
    """``a_n b_n'`` of each row n, flat, times its weight."""
    values = (a[:, :, None] * b[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])
    return values if weights is None else values * weights[:, None]


_Chosen = tuple[NDArray[np.int64], FloatArray | None, slice | NDArray[np.intp]]


def _loads_of_rows(a: Incidence) -> _Chosen:
    """Level, load and row of everything that rows load on."""
    if a.loads is None:
        return a.codes[:, 0].astype(np.int64), None, slice(None)
    kept = a.loads != 0
    return a.codes[kept].astype(np.int64), a.loads[kept], np.nonzero(kept)[0]


def _pairs_of_rows(a: Incidence, b: Incidence, only: np.ufunc | None) -> _Chosen:
    """Key, product of loads and row of the pairs of levels that a row loads on.

    ``only`` compares the two codes, where not every pair is wanted.
    """
    if a.loads is None and b.loads is None:
        return a.codes[:, 0] * np.int64(b.n_codes) + b.codes[:, 0], None, slice(None)
    left = np.ones(a.codes.shape) if a.loads is None else a.loads
    right = np.ones(b.codes.shape) if b.loads is None else b.loads
    keys = a.codes[:, :, None] * np.int64(b.n_codes) + b.codes[:, None, :]
    weights = left[:, :, None] * right[:, None, :]
    kept = weights != 0
    if only is not None:
        kept &= only(a.codes[:, :, None], b.codes[:, None, :])
    return keys[kept], weights[kept], np.nonzero(kept)[0]


def _sums_by(keys: NDArray[np.int64], values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """The distinct keys, ascending, and the sums of the rows of ``values`` that share one."""
    n = len(keys)
    if not n:
        return keys, values
    bits = n.bit_length()
    if int(keys.max()) >> (62 - bits):
        order = np.argsort(keys, kind="stable")
    else:
        # packed with their positions, plain numbers sort faster
        order = np.sort((keys << bits) | np.arange(n)) & ((1 << bits) - 1)
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[starts], np.add.reduceat(values[order], starts, axis=0)
