"""One pass over the rows: from blocks to moments."""

import math
from collections.abc import Iterable

import numpy as np

from lmmkit.design.blocks import GroupBlock
from lmmkit.errors import DataError
from lmmkit.linalg import block_diagonal, row_products
from lmmkit.moments.basis import Basis, standard_basis
from lmmkit.moments.factors import FactorMoments, PairMoments, merge_levels
from lmmkit.moments.levels import level_moments, pair_moments, standard_rows
from lmmkit.moments.moments import Moments
from lmmkit.records import FloatArray, adopt, record, same

_ROWS_AT_A_TIME = 8_192
_SMALL_GROUP = 64


def cross_products(
    blocks: tuple[GroupBlock, ...] | GroupBlock, basis: Basis | None = None
) -> Moments:
    """The moments of ``blocks``: a fold, so that any split of the blocks adds up to the same.

    Parameters
    ----------
    blocks : GroupBlock or tuple of GroupBlock
    basis : Basis, optional
        Standard coordinates; by default chosen from the blocks themselves. Moments in different
        bases add, so that this matters to precision in extreme cases only.
    """
    blocks = (blocks,) if isinstance(blocks, GroupBlock) else blocks
    blocks = tuple(blocks) if isinstance(blocks, Iterable) else ()
    if not blocks or not all(isinstance(block, GroupBlock) for block in blocks):
        raise DataError(
            f"cross_products: expected blocks of rows, as group() cuts them, got {blocks!r:.60}"
        )
    shapes = {(block.X.shape[2], *(z.shape[2] for z in block.Z)) for block in blocks}
    if len(shapes) > 1:
        raise DataError(
            "cross_products: expected blocks of one model, got blocks of different models, whose X "
            f"and Z have these numbers of columns: {sorted(shapes)}"
        )
    labels = blocks[0].labels
    if not all(same(block.labels, labels) for block in blocks):
        raise DataError(
            "cross_products: expected blocks of one design, got blocks whose level codes mean "
            "different levels"
        )
    basis = standard_basis(blocks) if basis is None else basis
    parts = (
        [_of_groups(block, basis) for block in blocks]
        if all(_groups_are_levels(block) for block in blocks)
        else [_of_rows(blocks, basis)]
    )
    return Moments(
        n_obs=sum(block.rows.size for block in blocks),
        log_weights=sum(part.log_weights for part in parts),
        xx=sum((part.xx for part in parts[1:]), parts[0].xx),
        xy=sum((part.xy for part in parts[1:]), parts[0].xy),
        yy=sum((part.yy for part in parts[1:]), parts[0].yy),
        factors=tuple(
            merge_levels(list(pieces))
            for pieces in zip(*(part.factors for part in parts), strict=True)
        ),
        pairs=parts[0].pairs,
        sizes=tuple(z.shape[2] for z in blocks[0].Z),
        basis=basis,
        labels=labels,
        relations=blocks[0].relations,
    )


@record
class _Sums:
    """The moments of some rows."""

    log_weights: float
    xx: FloatArray
    xy: FloatArray
    yy: FloatArray
    factors: tuple[FactorMoments, ...]
    pairs: tuple[PairMoments, ...] = ()


def _groups_are_levels(block: GroupBlock) -> bool:
    """Whether the rows of a group are those of one level of the only grouping factor."""
    return len(block.factors) <= 1 and not block.loads and not block.relations


def _of_rows(blocks: tuple[GroupBlock, ...], basis: Basis) -> _Sums:
    """Rows of any levels: sums by level and by pair of levels that meet in a row."""
    rows = standard_rows(blocks, basis)
    p = len(basis.x.T)
    lead = blocks[0].y.shape[:-2]
    cross = rows.outer.T @ rows.outer
    return _Sums(
        log_weights=rows.log_weights,
        xx=cross[:p, :p],
        xy=cross[p:, :p].reshape(*lead, p),
        yy=np.diagonal(cross[p:, p:]).reshape(lead),
        factors=level_moments(rows, p, lead),
        pairs=pair_moments(rows),
    )


def _of_groups(block: GroupBlock, basis: Basis) -> _Sums:
    """Runs of groups small enough for the processor's cache, one product a group."""
    n_groups, n = block.rows.shape
    p, lead = len(basis.x), block.y.shape[:-2]
    outer = p + math.prod(lead)
    shared = len(block.Z) == 1 and block.Z[0] is block.X and same(basis.z[0], basis.x)
    change = _change_of_columns(basis, outer, shared)
    z_columns = slice(0, p) if shared else slice(outer, None)
    q = sum(z.shape[2] for z in block.Z)
    m = n_groups if block.levels else 0
    cross, log_weights = np.zeros((outer, outer)), 0.0
    zz, zy = np.empty((m, q, q)), np.empty((outer - p, m, q))
    zx = zz if shared else np.empty((m, q, p))
    step = max(1, _ROWS_AT_A_TIME // n)
    small = n < _SMALL_GROUP
    for start in range(0, n_groups, step):
        groups = slice(start, start + step)
        columns = change @ _columns(block, groups, shared, small)
        if block.weights is not None:
            weights = block.weights[groups]
            weights = (weights.T if small else weights).ravel()
            log_weights += float(np.log(weights).sum())
            columns *= np.sqrt(weights)
        cross += row_products(columns[:outer])
        if m:
            products = _products(columns, z_columns, n, small)
            zz[groups] = products[..., z_columns]
            if not shared:
                zx[groups] = products[..., :p]
            zy[:, groups] = products[..., p:outer].transpose(2, 0, 1)
    zz, zx, zy = adopt(zz), adopt(zx), adopt(zy.reshape(*lead, m, q))
    of_levels = [FactorMoments(terms, block.levels[0][:, 0], zz, zx, zy) for terms in block.factors]
    return _Sums(
        log_weights=log_weights,
        xx=cross[:p, :p],
        xy=cross[p:, :p].reshape(*lead, p),
        yy=np.diagonal(cross[p:, p:]).reshape(lead),
        factors=tuple(of_levels),
    )


def _change_of_columns(basis: Basis, outer: int, shared: bool) -> FloatArray:
    """The matrix that takes ``[X y Z]``, columns as rows, to standard coordinates."""
    p = len(basis.x)
    first = np.eye(outer)
    first[:p, :p] = basis.x.T
    first[p:, :p] = -basis.origin.reshape(outer - p, p)
    return first if shared else block_diagonal([first, *(c.T for c in basis.z)])


def _products(columns: FloatArray, z_columns: slice, n: int, small: bool) -> FloatArray:
    """``Z'[X y Z]`` of each group: small groups side by side, a large one by itself."""
    if small:
        stacked = columns.reshape(len(columns), n, columns.shape[1] // n)
        products: FloatArray = np.einsum("ang,bng->gab", stacked[z_columns], stacked)
        return products
    stacked = np.swapaxes(columns.reshape(len(columns), columns.shape[1] // n, n), 0, 1)
    return np.asarray(stacked[:, z_columns] @ np.swapaxes(stacked, 1, 2))


def _columns(block: GroupBlock, groups: slice, shared: bool, small: bool) -> FloatArray:
    """``[X y Z]`` of some groups, a row each, small groups innermost; Z left out if it is X."""
    X, y = block.X[groups], block.y[..., groups, :]
    y = y.reshape(math.prod(y.shape[:-2]), *X.shape[:2])
    parts = [X.transpose(2, 0, 1), y]
    if not shared:
        parts += [z[groups].transpose(2, 0, 1) for z in block.Z]
    width, size = sum(map(len, parts)), X.shape[0] * X.shape[1]
    columns = np.empty((width, *(X.shape[1::-1] if small else X.shape[:2])))
    start = 0
    for part in parts:
        columns[start : start + len(part)] = np.swapaxes(part, 1, 2) if small else part
        start += len(part)
    return columns.reshape(width, size)
