"""Sums by level of each grouping factor, and by pair of levels that meet in a row."""

from itertools import combinations_with_replacement
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.blocks import GroupBlock
from lmmkit.moments.basis import Basis
from lmmkit.moments.factors import FactorMoments, PairMoments
from lmmkit.records import FloatArray, IntArray, adopt, record

_SPREAD, _COLUMNS = 2, 8

_Index: TypeAlias = NDArray[np.intp] | slice


@record
class Incidence:
    """Which levels of one grouping factor each row loads on.

    Attributes
    ----------
    terms : tuple of int
        Positions of the random terms on the factor.
    codes : ndarray (N, r)
    loads : ndarray (N, r) or None
        None where r = 1 and every load is 1, and where Z has the loads in it.
    Z : ndarray (N, q) or (N, r, q)
        The columns of all terms on the factor, those of each membership where they differ.
    """

    terms: tuple[int, ...]
    codes: IntArray
    loads: FloatArray | None
    Z: FloatArray

    @property
    def n_codes(self) -> int:
        """One more than the largest code."""
        return int(self.codes.max(initial=0)) + 1

    @property
    def single(self) -> bool:
        """Whether each row loads on one level, with load 1."""
        return self.loads is None and self.Z.ndim == 2

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which memberships (N, r) there are."""
        if self.Z.ndim == 3:
            return np.asarray((self.Z != 0).any(axis=2))
        return np.ones(self.codes.shape, dtype=bool) if self.loads is None else self.loads != 0

    def columns(self, row: _Index, member: _Index) -> FloatArray:
        """What rows load on the effects of one of their levels, (n, q)."""
        if self.Z.ndim == 3:
            return self.Z[row, member]
        if self.loads is None:
            return self.Z[row]
        return self.Z[row] * self.loads[row, member][:, None]


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
        k = terms[0]
        codes = np.concatenate([_by_row(block.levels[k], block) for block in blocks])
        codes = codes.reshape(len(codes), -1)
        loads = None
        if blocks[0].loads and blocks[0].loads[k] is not None:
            loads = np.concatenate([_by_row(block.loads[k], block) for block in blocks])
        columns = []
        for k in terms:
            Z = np.concatenate([_by_row(block.Z[k], block) for block in blocks]) * root[:, None]
            if loads is not None and loads.ndim == 3:
                Z = loads * Z[:, None]
            columns.append(Z @ basis.z[k])
        Z = np.concatenate(columns, axis=-1)
        factors.append(Incidence(terms, codes, loads if Z.ndim == 2 else None, Z))
    return StandardRows(log_weights, outer, tuple(factors))


def _by_row(array: NDArray[np.generic] | None, block: GroupBlock) -> NDArray[np.generic]:
    each = np.asarray(array)
    return each.reshape(block.rows.size, *each.shape[2:])


def level_moments(rows: StandardRows, p: int, lead: tuple[int, ...]) -> tuple[FactorMoments, ...]:
    """The moments of each factor's levels; ``outer`` has p columns of X first."""
    found = []
    for factor in rows.factors:
        q = factor.Z.shape[-1]
        keys, zz = _pairs_of_rows(factor, factor, np.equal)
        levels, zz_sums = _sums_by(keys % factor.n_codes, zz)
        keys, zo = _members_of_rows(factor, rows.outer)
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
        if first == second and a.single:
            continue
        keys, zz = _pairs_of_rows(a, b, np.less if first == second else None)
        pairs, sums = _sums_by(keys, zz)
        found.append(
            PairMoments(
                first=first,
                second=second,
                rows=adopt((pairs // b.n_codes).astype(np.int32)),
                columns=adopt((pairs % b.n_codes).astype(np.int32)),
                zz=adopt(sums.reshape(len(pairs), a.Z.shape[-1], b.Z.shape[-1])),
            )
        )
    return tuple(pair for pair in found if len(pair.rows))


_Keyed: TypeAlias = tuple[NDArray[np.int64], FloatArray]


def _products(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a_n b_n'`` of each row n, flat."""
    return (a[:, :, None] * b[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])


def _members_of_rows(a: Incidence, outer: FloatArray) -> _Keyed:
    """Level and products with ``outer`` of everything that rows load on."""
    if a.single:
        return a.codes[:, 0].astype(np.int64), _products(a.Z, outer)
    kept = a.present
    row, member = np.nonzero(kept)
    return a.codes[kept].astype(np.int64), _products(a.columns(row, member), outer[row])


def _pairs_of_rows(a: Incidence, b: Incidence, only: np.ufunc | None) -> _Keyed:
    """Key and products of the pairs of levels that a row loads on.

    ``only`` compares the two codes, where not every pair is wanted.
    """
    if a.single and b.single:
        return a.codes[:, 0] * np.int64(b.n_codes) + b.codes[:, 0], _products(a.Z, b.Z)
    keys = a.codes[:, :, None] * np.int64(b.n_codes) + b.codes[:, None, :]
    kept = a.present[:, :, None] & b.present[:, None, :]
    if only is not None:
        kept &= only(a.codes[:, :, None], b.codes[:, None, :])
    row, left, right = np.nonzero(kept)
    return keys[kept], _products(a.columns(row, left), b.columns(row, right))


def _sums_by(keys: NDArray[np.int64], values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """The distinct keys, ascending, and the sums of the rows of ``values`` that share one."""
    n = len(keys)
    if not n:
        return keys, values
    largest = int(keys.max())
    if largest < _SPREAD * n and values.shape[1] <= _COLUMNS:
        found = np.flatnonzero(np.bincount(keys))
        columns = [np.bincount(keys, column)[found] for column in values.T]
        return found, np.stack(columns, axis=1) if columns else np.zeros((len(found), 0))
    bits = n.bit_length()
    if largest >> (62 - bits):
        order = np.argsort(keys, kind="stable")
    else:
        # packed with their positions, plain numbers sort faster
        order = np.sort((keys << bits) | np.arange(n)) & ((1 << bits) - 1)
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[starts], np.add.reduceat(values[order], starts, axis=0)
