"""One pass over the rows: from blocks to moments."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lmmkit.design.blocks import GroupBlock
from lmmkit.errors import DataError, UnsupportedModelError
from lmmkit.moments.basis import Basis, standard_basis
from lmmkit.moments.moments import Moments, empty_moments, merge_levels
from lmmkit.records import FloatArray

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
    if not blocks:
        raise DataError("cross_products: expected at least one block of rows, got none")
    basis = standard_basis(blocks) if basis is None else basis
    pieces = [piece for block in blocks for piece in _pieces(block, basis)]
    sizes = tuple(z.shape[2] for z in blocks[0].Z)
    xx, xy, yy, log_weights = (sum(part) for part in zip(*(p[0] for p in pieces), strict=True))
    if not sizes:
        neutral = empty_moments(sizes, basis)
        levels, zz, zx, zy = neutral.levels, neutral.zz, neutral.zx, neutral.zy
    else:
        levels, zz, zx = (np.concatenate([p[1][i] for p in pieces]) for i in range(3))
        zy = np.concatenate([p[1][3] for p in pieces], axis=-2)
    return merge_levels(
        n_obs=sum(block.rows.size for block in blocks),
        log_weights=float(log_weights),
        xx=xx,
        xy=xy,
        yy=yy,
        levels=levels,
        zz=zz,
        zx=zx,
        zy=zy,
        sizes=sizes,
        basis=basis,
    )


def _pieces(block: GroupBlock, basis: Basis) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Sums of runs of groups small enough for the processor's cache: totals, and by level."""
    n_groups, n = block.rows.shape
    if not all(np.array_equal(block.levels[0], other) for other in block.levels[1:]):
        raise UnsupportedModelError(
            "the random terms have different grouping factors (crossed or nested); this version "
            "fits models whose random terms share one grouping factor"
        )
    step = max(1, _ROWS_AT_A_TIME // n)
    for start in range(0, n_groups, step):
        yield _piece(block, slice(start, start + step), basis)


def _piece(
    block: GroupBlock, groups: slice, basis: Basis
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    raw_x = block.X[groups]
    x = raw_x @ basis.x
    y = block.y[..., groups, :] - _fitted(raw_x, basis.origin)
    parts = [z[groups] @ c for z, c in zip(block.Z, basis.z, strict=True)]
    z = parts[0] if len(parts) == 1 else np.concatenate([*parts, x[..., :0]], axis=-1)
    log_weights = 0.0
    if block.weights is not None:
        weights = block.weights[groups]
        log_weights = float(np.log(weights).sum())
        root = np.sqrt(weights)
        x, y, z = x * root[..., None], y * root, z * root[..., None]
    flat_x = x.reshape(-1, x.shape[2])
    flat_y = y.reshape(*y.shape[:-2], -1)
    totals = (flat_x.T @ flat_x, flat_y @ flat_x, (flat_y**2).sum(axis=-1), log_weights)
    if not block.levels:
        return totals, ()
    across = np.swapaxes(z, 1, 2)
    zy = np.matmul(y[..., None, :], z)[..., 0, :]
    return totals, (block.levels[0][groups, 0], across @ z, across @ x, zy)


def _fitted(X: FloatArray, beta: FloatArray) -> FloatArray:
    """``X beta`` for X (g, n, p) and beta (..., p)."""
    if beta.ndim == 1:
        return X @ beta
    return np.einsum("gnp,...p->...gn", X, beta)
