"""One pass over the rows: from blocks to moments."""

import math

import numpy as np

from lmmkit.design.blocks import GroupBlock
from lmmkit.errors import DataError, UnsupportedModelError
from lmmkit.moments.basis import Basis, standard_basis
from lmmkit.moments.moments import Moments, merge_levels
from lmmkit.records import FloatArray, IntArray, record, same

_ROWS_AT_A_TIME = 16_384


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
    blocks = (blocks,) if isinstance(blocks, GroupBlock) else tuple(blocks)
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
    basis = standard_basis(blocks) if basis is None else basis
    sizes = tuple(z.shape[2] for z in blocks[0].Z)
    parts = [_of_block(block, basis) for block in blocks]
    return merge_levels(
        n_obs=sum(block.rows.size for block in blocks),
        log_weights=sum(part.log_weights for part in parts),
        xx=sum((part.xx for part in parts[1:]), parts[0].xx),
        xy=sum((part.xy for part in parts[1:]), parts[0].xy),
        yy=sum((part.yy for part in parts[1:]), parts[0].yy),
        levels=np.concatenate([part.levels for part in parts]),
        zz=np.concatenate([part.zz for part in parts]),
        zx=np.concatenate([part.zx for part in parts]),
        zy=np.concatenate([part.zy for part in parts], axis=-2),
        sizes=sizes,
        basis=basis,
    )


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
    n_responses = math.prod(lead)
    shared = len(block.Z) == 1 and block.Z[0] is block.X and same(basis.z[0], basis.x)
    z_columns = slice(0, p) if shared else slice(p + n_responses, None)
    q = sum(z.shape[2] for z in block.Z)
    m = n_groups if block.levels else 0
    cross, log_weights = np.zeros((p + n_responses, p + n_responses)), 0.0
    zz, zx, zy = np.empty((m, q, q)), np.empty((m, q, p)), np.empty((n_responses, m, q))
    step = max(1, _ROWS_AT_A_TIME // n)
    for start in range(0, n_groups, step):
        groups = slice(start, start + step)
        columns = _columns(block, groups, basis, shared)
        if block.weights is not None:
            weights = block.weights[groups].ravel()
            log_weights += float(np.log(weights).sum())
            columns *= np.sqrt(weights)[:, None]
        outer = columns[:, : p + n_responses]
        cross += outer.T @ outer
        if m:
            stacked = columns.reshape(len(columns) // n, n, columns.shape[1])
            products = np.swapaxes(stacked[..., z_columns], 1, 2) @ stacked
            zz[groups] = products[..., z_columns]
            zx[groups] = products[..., :p]
            zy[:, groups] = np.moveaxis(products[..., p : p + n_responses], -1, 0)
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


def _columns(block: GroupBlock, groups: slice, basis: Basis, shared: bool) -> FloatArray:
    """``[X y Z]`` of some groups in standard coordinates, rows flattened; Z left out if it is X."""
    X = _flat(block.X[groups])
    p = len(basis.x)
    y = block.y[..., groups, :]
    y = y.reshape(math.prod(y.shape[:-2]), len(X))
    own = [] if shared else list(zip(block.Z, basis.z, strict=True))
    columns = np.empty((len(X), p + len(y) + sum(len(c) for _, c in own)))
    columns[:, :p] = X @ basis.x
    columns[:, p : p + len(y)] = (y - basis.origin.reshape(len(y), p) @ X.T).T
    start = p + len(y)
    for z, c in own:
        columns[:, start : start + len(c)] = _flat(z[groups]) @ c
        start += len(c)
    return columns


def _flat(stacked: FloatArray) -> FloatArray:
    groups, rows, columns = stacked.shape
    return stacked.reshape(groups * rows, columns)
