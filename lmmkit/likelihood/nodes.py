"""The effects of each stage of the elimination, and their cross-products with one another."""

from typing import Any

import numpy as np

from lmmkit.likelihood.sparse import Sparse, block_diagonal, from_blocks
from lmmkit.moments.factors import PairMoments
from lmmkit.moments.moments import Moments
from lmmkit.records import FloatArray, IntArray, int_arrays, record


@record
class Node:
    """The effects that one stage eliminates, level by level, factor after factor.

    Attributes
    ----------
    factors : tuple of int
    columns : tuple of ndarray (q_k,)
        Of each factor, which columns of D are its effects.
    n_levels : tuple of int
    """

    factors: tuple[int, ...]
    columns: tuple[IntArray, ...] = int_arrays(1)
    n_levels: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each factor's effects begin, and where the last one's end."""
        sizes = [len(c) * m for c, m in zip(self.columns, self.n_levels, strict=True)]
        return tuple(sum(sizes[:k]) for k in range(len(sizes) + 1))

    def level_blocks(self, k: int) -> tuple[IntArray, IntArray]:
        """Rows and columns (m, q, q) of the effects of each level of factor k."""
        q = len(self.columns[k])
        first = self.starts[k] + q * np.arange(self.n_levels[k])
        rows = first[:, None, None] + np.arange(q)[:, None]
        i, j = np.broadcast_arrays(rows, np.swapaxes(rows, 1, 2))
        return i, j


def node_of(moments: Moments, factors: tuple[int, ...]) -> Node:
    """The stage that eliminates these grouping factors."""
    widths = np.cumsum([0, *moments.sizes])
    columns = tuple(
        np.concatenate([np.arange(widths[k], widths[k + 1]) for k in moments.factors[f].terms])
        for f in factors
    )
    return Node(factors, columns, tuple(moments.n_levels(moments.factors[f]) for f in factors))


def outer_products(moments: Moments, node: Node) -> FloatArray:
    """``Z'[X y]`` of a node's effects."""
    parts = []
    for f in node.factors:
        factor = moments.factors[f]
        both = np.concatenate([factor.zx, factor.zy[..., None]], axis=-1)
        root = _root_of(moments, f)
        if root is not None:
            both = np.einsum("lm,lqr->mqr", root, both)
        parts.append(both.reshape(-1, both.shape[-1]))
    return np.concatenate(parts)


def _root_of(moments: Moments, f: int) -> FloatArray | None:
    """Rows, for the levels seen, of the root of the known covariance between all levels.

    With ``K = R R'``, the effects are ``(R x I) u`` of u independent between levels.
    """
    relation = moments.relation(moments.factors[f])
    return None if relation is None else relation.root[moments.factors[f].levels]


def cross_products_of(moments: Moments, nodes: tuple[Node, ...]) -> dict[tuple[int, int], Any]:
    """``Z_k'Z_l`` of all nodes but the first one's own."""
    from scipy.sparse import coo_array

    place = {
        f: (k, start)
        for k, node in enumerate(nodes)
        for f, start in zip(node.factors, node.starts, strict=False)
    }
    last = len(nodes) - 1
    across: dict[tuple[int, int], Any] = {}
    dense = np.zeros((nodes[last].starts[-1],) * 2)
    if len(dense):
        across[last, last] = dense
    for a, b, block in _blocks(moments):
        if a not in place or b not in place:
            continue
        (k, row), (to, column) = place[a], place[b]
        if k > to:
            (k, row), (to, column), block = (to, column), (k, row), block.T
        if k == to == last:
            entries = coo_array(block)
            rows, columns = entries.row + row, entries.col + column
            dense[rows, columns] += entries.data
            if row != column:
                dense[columns, rows] = dense[rows, columns]
        elif k == to:
            across[k, k] = moments.factors[a].zz
        elif to == last:
            block = _shifted(block, column, nodes[last].starts[-1])
            across[k, to] = across[k, to] + block if (k, to) in across else block
        else:
            across[k, to] = block
    across.pop((0, 0), None)
    return across


def _blocks(moments: Moments) -> list[tuple[int, int, Any]]:
    """``Z_a'Z_b`` of the factors a <= b, sparse or dense."""
    roots = [_root_of(moments, f) for f in range(len(moments.factors))]
    found: list[tuple[int, int, Any]] = []
    for f, factor in enumerate(moments.factors):
        block = block_diagonal(np.ascontiguousarray(np.moveaxis(factor.zz, 0, -1)))
        for pair in moments.pairs:
            if pair.first == pair.second == f:
                above = _pair_block(moments, pair)
                block = block + above + above.T
        found.append((f, f, _rotated(block, roots[f], roots[f], moments, f, f)))
    for pair in moments.pairs:
        a, b = pair.first, pair.second
        if a != b:
            block = _rotated(_pair_block(moments, pair), roots[a], roots[b], moments, a, b)
            found.append((a, b, block))
    return found


def _pair_block(moments: Moments, pair: PairMoments) -> Sparse:
    first, second = moments.factors[pair.first], moments.factors[pair.second]
    q, r = pair.zz.shape[1:]
    return from_blocks(
        q * first.positions(pair.rows),
        r * second.positions(pair.columns),
        pair.zz,
        (q * len(first.levels), r * len(second.levels)),
    )


def _rotated(
    block: Any,
    left: FloatArray | None,
    right: FloatArray | None,
    moments: Moments,
    a: int,
    b: int,
) -> Any:
    """A block of the effects in place of the levels', where covariances are known."""
    if left is not None:
        block = np.kron(left, np.eye(moments.factors[a].zz.shape[1])).T @ block
    if right is not None:
        block = block @ np.kron(right, np.eye(moments.factors[b].zz.shape[1]))
    return block


def _shifted(block: Any, start: int, width: int) -> Sparse:
    """The columns of a block from ``start`` on, among ``width``."""
    from scipy.sparse import coo_array

    entries = coo_array(block)
    places = (entries.coords[0], entries.coords[1] + start)
    return coo_array((entries.data, places), shape=(block.shape[0], width)).tocsr()
