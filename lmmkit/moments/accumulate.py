"""One pass over the rows: from blocks to moments."""

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.blocks import GroupBlock
from lmmkit.errors import DataError, UnsupportedModelError
from lmmkit.linalg import block_diagonal, row_products
from lmmkit.moments.basis import Basis, standard_basis
from lmmkit.moments.moments import Moments, merge_levels
from lmmkit.records import FloatArray, IntArray, record, same

_Number = TypeVar("_Number", bound=np.number)
_ROWS_AT_A_TIME = 16_384
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

    Raises
    ------
    UnsupportedModelError
        Where the random terms have different grouping factors.
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
    sizes = tuple(z.shape[2] for z in blocks[0].Z)
    parts = [_of_block(block, basis) for block in blocks]
    return merge_levels(
        n_obs=sum(block.rows.size for block in blocks),
        log_weights=sum(part.log_weights for part in parts),
        xx=sum((part.xx for part in parts[1:]), parts[0].xx),
        xy=sum((part.xy for part in parts[1:]), parts[0].xy),
        yy=sum((part.yy for part in parts[1:]), parts[0].yy),
        levels=_joined([part.levels for part in parts]),
        zz=_joined([part.zz for part in parts]),
        zx=_joined([part.zx for part in parts]),
        zy=_joined([part.zy for part in parts], axis=-2),
        sizes=sizes,
        basis=basis,
        labels=labels,
    )


def _joined(arrays: list[NDArray[_Number]], axis: int = 0) -> NDArray[_Number]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)


@record
class _Sums:
    """The moments of one block, its groups as pieces of levels."""

    log_weights: float
    xx: FloatArray
    xy: FloatArray
    yy: FloatArray
    levels: IntArray
    zz: FloatArray
    zx: FloatArray
    zy: FloatArray


def _of_block(block: GroupBlock, basis: Basis) -> _Sums:
    """Runs of groups small enough for the processor's cache, one product a group."""
    if not all(np.array_equal(block.levels[0], other) for other in block.levels[1:]) or not all(
        (codes == codes[:, :1]).all() for codes in block.levels[:1]
    ):
        raise UnsupportedModelError(
            "the random terms have different grouping factors (crossed or nested); this version "
            "fits models whose random terms share one grouping factor"
        )
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
    return _Sums(
        log_weights=log_weights,
        xx=cross[:p, :p],
        xy=cross[p:, :p].reshape(*lead, p),
        yy=np.diagonal(cross[p:, p:]).reshape(lead),
        levels=block.levels[0][:, 0] if block.levels else np.zeros(0, dtype=np.int32),
        zz=zz,
        zx=zx,
        zy=zy.reshape(*lead, m, q),
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
