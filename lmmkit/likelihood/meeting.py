"""Which effects of the last stage meet by the time that the chain before it is eliminated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmmkit.likelihood.nodes import Node
from lmmkit.likelihood.pairs import Pairs, met_in
from lmmkit.likelihood.sparse import Sparse
from lmmkit.likelihood.supernodal import Layout, dense_layout, layout

FEWEST = 500
_MOST_PAIRS = 8_000_000


def layout_of(
    nodes: tuple[Node, ...],
    inside: dict[int, Sparse],
    across: dict[tuple[int, int], Any],
    pairs: Pairs | None,
) -> Layout:
    """How to store the last stage: dense where it is small, or where most of it meets."""
    node, last = nodes[-1], len(nodes) - 1
    n = node.starts[-1]
    if n < FEWEST:
        return dense_layout(n)
    met = _met_through(nodes, inside, across) if pairs is None else met_in(pairs)
    if met is None:
        return dense_layout(n)
    met |= across[last, last] != 0.0
    if max(map(len, node.columns)) > 1:
        met = _all_effects(met, node)
    return layout(met)


def _all_effects(met: NDArray[np.bool_], node: Node) -> NDArray[np.bool_]:
    """Levels meet with all of their effects."""
    m = sum(node.n_levels)
    widths = np.repeat([len(c) for c in node.columns], node.n_levels)
    level = np.repeat(np.arange(m), widths)
    i, j = met.nonzero()
    levels = np.eye(m, dtype=bool)
    levels[level[i], level[j]] = True
    return np.asarray(levels[level[:, None], level])


def _met_through(
    nodes: tuple[Node, ...], inside: dict[int, Sparse], across: dict[tuple[int, int], Any]
) -> NDArray[np.bool_] | None:
    """What any level of the chain has in common, with the levels nested in it; None if too much."""
    last, n = len(nodes) - 1, nodes[-1].starts[-1]
    blocks = {(0, k): block for k, block in inside.items()} | across
    reached: dict[int, Sparse] = {}
    met = np.zeros((n, n), dtype=bool)
    for k in range(last):
        m, own = sum(nodes[k].n_levels), np.arange(n)
        total = _pattern(blocks.get((k, last)), nodes[k], own, (m, n))
        for j in range(k):
            if (j, k) in blocks:
                above = np.repeat(np.arange(m), len(nodes[k].columns[0]))
                nested = _pattern(blocks[j, k], nodes[j], above, (sum(nodes[j].n_levels), m))
                total = total + nested.T @ reached[j]
        reached[k] = total.tocsr()
        if int((np.diff(reached[k].indptr).astype(np.int64) ** 2).sum()) > _MOST_PAIRS:
            return None
        met |= (reached[k].T @ reached[k]).toarray()
    return met


def _pattern(
    block: Sparse | None, node: Node, columns: NDArray[np.intp], shape: tuple[int, int]
) -> Sparse:
    """Where the rows of a node's levels have entries, columns renumbered."""
    from scipy.sparse import coo_array

    if block is None:
        return coo_array(shape, dtype=np.bool_).tocsr()
    entries = block.tocoo()
    rows = entries.row // len(node.columns[0])
    places = (rows, columns[entries.col])
    return coo_array((np.ones(len(rows), dtype=np.bool_), places), shape=shape).tocsr()
