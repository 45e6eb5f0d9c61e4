"""``L^-1 r`` with ``V = L L'``, without forming either.

Entry i is the error of predicting ``r_i`` from the rows before it, over its standard deviation.
Given the effects of all other grouping factors the rows of one level of a factor depend on one
another only: so the rows are first predicted from those of the same level, see
:mod:`lmmkit.inference.level_predictions`. What is left depends on the other effects alone, whose
mean and covariance given the rows so far predict it.
"""

from collections.abc import Iterator

import numpy as np

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.design import Design
from lmmkit.design.group import group
from lmmkit.errors import ModelSizeError
from lmmkit.inference.level_predictions import LevelRows, level_rows, predicted
from lmmkit.inference.loadings import Loadings, fitted_rows, loaded_columns, new_loadings
from lmmkit.likelihood.dense import solve_triangular
from lmmkit.likelihood.sparse import Sparse
from lmmkit.linalg import block_diagonal
from lmmkit.memory import memory_shortage
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, IntArray, int_array, record

_ROWS_AT_A_TIME = 256
_COPIES = 3


def innovations(design: Design, natural: NaturalParams, residual: FloatArray) -> FloatArray:
    """``L^-1 r`` of the rows of a design, each independent group in the order of the frame."""
    sigma2 = float(natural.sigma2)
    weights = np.ones(design.n_obs) if design.weights is None else design.weights
    if not design.terms:
        return np.asarray(residual * np.sqrt(weights / sigma2))
    blocks = group(design)
    result = np.empty_like(residual)
    loadings = new_loadings(design, fitted_rows(design))
    first = _predicted_first(design, loadings)
    if len(loadings) == 1 and first is not None:
        psi = block_diagonal(natural.psi)
        for block in blocks:
            result[block.rows] = _row_by_row(block, residual[block.rows], psi, sigma2)
        return result
    order = np.concatenate([block.rows.ravel() for block in blocks])
    noise = sigma2 / weights[order]
    others = tuple(part for part in loadings if part is not first)
    effects, Z = _effects(design, natural, others)
    own = None
    if first is not None:
        psi = block_diagonal([natural.psi[k] for k in first.terms])
        own = level_rows(first.Z[order], first.codes[order], psi, noise)
    result[order] = _in_runs(effects, Z[order], residual[order], noise, own)
    return result


def _predicted_first(design: Design, loadings: tuple[Loadings, ...]) -> Loadings | None:
    """The factor with most effects of those whose levels are independent, one to a row."""
    plain = [
        part
        for part in loadings
        if part.codes.ndim == 1 and design.terms[part.terms[0]].relation is None
    ]
    return max(plain, key=lambda part: part.Z.shape[1] * int(part.codes.max() + 1), default=None)


def _row_by_row(
    block: GroupBlock, residual: FloatArray, psi: FloatArray, sigma2: float
) -> FloatArray:
    """Groups of one level each, side by side: O(n q^2) a group, and the memory O(q^2)."""
    Z = np.concatenate(block.Z, axis=2)
    g, n, q = Z.shape
    noise = np.full((g, n), sigma2) if block.weights is None else sigma2 / block.weights
    modes = np.zeros((g, q))
    covariance = np.broadcast_to(psi, (g, q, q)).copy()
    result = np.empty((g, n))
    for i in range(n):
        z = Z[:, i]
        with_effects = np.einsum("gab,gb->ga", covariance, z)
        deviation = np.sqrt((z * with_effects).sum(axis=1) + noise[:, i])
        result[:, i] = (residual[:, i] - (z * modes).sum(axis=1)) / deviation
        gain = with_effects / deviation[:, None]
        modes += gain * result[:, i, None]
        covariance -= gain[:, :, None] * gain[:, None, :]
    return result


@record
class _Effects:
    """All random effects, factor after factor; entry i of an array is about effect i.

    Attributes
    ----------
    factor, level, column : ndarray (e,) of int32
    psi : tuple of ndarray (q_f, q_f)
        Of each factor.
    roots : tuple of ndarray or None
        Of the known covariance between a factor's levels.
    """

    factor: IntArray = int_array(1)
    level: IntArray = int_array(1)
    column: IntArray = int_array(1)
    psi: tuple[FloatArray, ...]
    roots: tuple[FloatArray | None, ...]

    def covariance(self, some: IntArray) -> FloatArray:
        """The prior covariance of some effects."""
        matrix = np.zeros((len(some), len(some)))
        for f, (psi, root) in enumerate(zip(self.psi, self.roots, strict=True)):
            here = np.flatnonzero(self.factor[some] == f)
            level, column = self.level[some[here]], self.column[some[here]]
            between = level[:, None] == level if root is None else root[level] @ root[level].T
            matrix[here[:, None], here] = between * psi[column[:, None], column]
        return matrix

    @property
    def tied(self) -> IntArray:
        """The effects of factors with a known covariance between levels."""
        which = np.array([root is not None for root in self.roots])
        return np.flatnonzero(which[self.factor]).astype(np.int32)


def _effects(
    design: Design, natural: NaturalParams, rows: tuple[Loadings, ...]
) -> tuple[_Effects, Sparse]:
    """The effects, and what rows load on them."""
    from scipy.sparse import hstack

    terms, parts, indices = design.terms, [], []
    for f, loadings in enumerate(rows):
        parts.append(loaded_columns(loadings, len(terms[loadings.terms[0]].levels)))
        n_effects, q = parts[-1].shape[1], loadings.Z.shape[-1]
        level, column = np.divmod(np.arange(n_effects), q)
        indices.append(np.stack([np.full(n_effects, f), level, column]).astype(np.int32))
    relations = [terms[loadings.terms[0]].relation for loadings in rows]
    factor, level, column = np.concatenate(indices, axis=1)
    effects = _Effects(
        factor=factor,
        level=level,
        column=column,
        psi=tuple(block_diagonal([natural.psi[k] for k in part.terms]) for part in rows),
        roots=tuple(None if relation is None else relation.root for relation in relations),
    )
    return effects, hstack(parts, format="csr")


def _in_runs(
    effects: _Effects,
    Z: Sparse,
    residual: FloatArray,
    noise: FloatArray,
    own: LevelRows | None,
) -> FloatArray:
    """Any factors. Effects are carried along from their first row to their last one."""
    n = len(residual)
    runs = [slice(start, start + _ROWS_AT_A_TIME) for start in range(0, n, _ROWS_AT_A_TIME)]
    entries = Z.tocoo()
    last = np.full(Z.shape[1], -1)
    until = np.arange(n) if own is None else own.last
    np.maximum.at(last, entries.col, until[entries.row])
    first = np.full(Z.shape[1], n)
    np.minimum.at(first, entries.col, entries.row)
    tied = effects.tied[last[effects.tied] >= 0]
    first[tied] = 0
    _check_size(first, last, runs)
    carried, modes, covariance = tied, np.zeros(len(tied)), effects.covariance(tied)
    result = np.empty(n)
    for run, (rows, left) in zip(runs, _standardized(Z, residual, noise, own, runs), strict=True):
        new = np.flatnonzero((first >= run.start) & (first < run.stop)).astype(np.int32)
        new = np.setdiff1d(new, carried)
        if len(new):
            carried = np.concatenate([carried, new])
            modes = np.concatenate([modes, np.zeros(len(new))])
            covariance = block_diagonal([covariance, effects.covariance(new)])
        rows = rows[:, carried]
        across = rows @ covariance
        V = (rows @ across.T).T
        V[np.diag_indices_from(V)] += 1.0
        both = np.column_stack([left - rows @ modes, across])
        both = solve_triangular(np.linalg.cholesky(V), both)
        result[run], gain = both[:, 0], both[:, 1:]
        modes += gain.T @ result[run]
        covariance -= gain.T @ gain
        kept = last[carried] >= run.stop
        if not kept.all():
            carried, modes, covariance = carried[kept], modes[kept], covariance[kept][:, kept]
    return result


def _standardized(
    Z: Sparse, residual: FloatArray, noise: FloatArray, own: LevelRows | None, runs: list[slice]
) -> Iterator[tuple[Sparse, FloatArray]]:
    """What the rows of each run load on the effects, and their residuals, with errors N(0, 1)."""
    if own is not None:
        yield from predicted(own, Z, residual, noise, runs)
        return
    from scipy.sparse import diags_array

    for run in runs:
        scale = 1.0 / np.sqrt(noise[run])
        yield (diags_array(scale) @ Z[run]).tocsr(), scale * residual[run]


def _check_size(first: IntArray, last: IntArray, runs: list[slice]) -> None:
    most = max(int(((first < run.stop) & (last >= run.start)).sum()) for run in runs)
    shortage = memory_shortage(_COPIES * most**2)
    if shortage is not None:
        needed, present = shortage
        raise ModelSizeError(
            f"normalized residuals of this fit need the joint covariance of {most} random effects, "
            f"{needed:.0f} GiB of memory; this machine has {present:.0f}. Sort the "
            "rows by a factor within which the others are nested, or take residuals of another kind"
        )
