"""Moments as the system of equations that an evaluation eliminates."""

import os
from typing import Any

import numpy as np

from lmmkit.errors import ModelSizeError
from lmmkit.likelihood.order import elimination_order
from lmmkit.likelihood.sparse import (
    Sparse,
    block_diagonal,
    by_effect,
    diagonal_of,
    from_blocks,
    masked,
    plus,
)
from lmmkit.linalg import solve_lower
from lmmkit.moments.collapse import Patterns, collapse
from lmmkit.moments.moments import FactorMoments, Moments
from lmmkit.records import FloatArray, IntArray, record

_INSIDE = 1e-13
_DENSE_COPIES = 5


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
    columns: tuple[IntArray, ...]
    n_levels: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each factor's effects begin, and where the last one's end."""
        sizes = [len(c) * m for c, m in zip(self.columns, self.n_levels, strict=True)]
        return tuple(sum(sizes[:k]) for k in range(len(sizes) + 1))


@record
class System:
    """Cross-products of the random effects' columns, in the order of their elimination.

    The blocks of later stages are those of the columns' parts outside the span of the first
    stage's Z: what eliminating it at an infinite variance would leave.

    Attributes
    ----------
    nodes : tuple of Node
        The chain: each a factor whose levels are independent given the stages before. The last one
        holds the remaining factors, which are factored densely; it may be empty.
    first : Patterns
        The first stage.
    inside : dict
        For each later stage k, ``F^-1 Z_0'Z_k``, sparse.
    across : dict
        For later stages k <= l, ``Z_k'Z_l``: (m, q, q) where k = l is in the chain, dense where
        both are the last, else sparse.
    outer : dict
        For each later stage k, ``Z_k'[X y]``.
    """

    nodes: tuple[Node, ...]
    first: Patterns
    inside: dict[int, Sparse]
    across: dict[tuple[int, int], Any]
    outer: dict[int, FloatArray]

    @property
    def last(self) -> int:
        """Position of the dense stage."""
        return len(self.nodes) - 1

    @property
    def one_factor(self) -> bool:
        """Whether there is nothing after the first stage."""
        return not self.outer


def system(moments: Moments) -> System:
    """The system of ``moments``.

    Raises
    ------
    ModelSizeError
        Where the factors that remain in the end have more levels than this machine's memory holds.
    """
    order, remaining = elimination_order(moments)
    nodes = (*(_node(moments, (k,)) for k in order), _node(moments, remaining))
    nodes = nodes if order else (_node(moments, ()), *nodes)
    _check_size(moments, nodes[-1])
    start = moments.factors[order[0]] if order else _no_levels(moments)
    later = [k for k in range(1, len(nodes)) if nodes[k].starts[-1]]
    first = collapse(moments, start, stand_ins=not later)
    if not later:
        return System(nodes, first, {}, {}, {})
    across = _joined(moments, nodes)
    outer = {k: _outer(moments, nodes[k]) for k in later}
    inverse = solve_lower(first.factor, np.eye(len(first.factor))[..., None])
    root = block_diagonal(inverse[..., first.pattern])
    inside = {l: root @ across.pop((0, l)) for l in later if (0, l) in across}
    real = {}
    for k, part in inside.items():
        before = diagonal_of(across[k, k])
        outer[k] = outer[k] - part.T @ by_effect(first.inside)
        for l in inside:
            if l >= k:
                across[k, l] = plus(across[k, l], -(part.T @ inside[l]))
        real[k] = (diagonal_of(across[k, k]) > _INSIDE * before).astype(np.float64)
    for k, l in across:
        if k in real or l in real:
            across[k, l] = masked(across[k, l], real.get(k), real.get(l))
    outer |= {k: outer[k] * mask[:, None] for k, mask in real.items()}
    return System(nodes, first, inside, across, outer)


def _node(moments: Moments, factors: tuple[int, ...]) -> Node:
    widths = np.cumsum([0, *moments.sizes])
    columns = tuple(
        np.concatenate([np.arange(widths[k], widths[k + 1]) for k in moments.factors[f].terms])
        for f in factors
    )
    return Node(factors, columns, tuple(len(moments.factors[f].levels) for f in factors))


def _no_levels(moments: Moments) -> FactorMoments:
    p, lead = len(moments.xx), moments.yy.shape
    levels = np.zeros(0, dtype=np.int32)
    return FactorMoments(
        (), levels, np.zeros((0, 0, 0)), np.zeros((0, 0, p)), np.zeros((*lead, 0, 0))
    )


def _outer(moments: Moments, node: Node) -> FloatArray:
    """``Z'[X y]`` of a node's effects."""
    parts = []
    for f in node.factors:
        factor = moments.factors[f]
        both = np.concatenate([factor.zx, factor.zy[..., None]], axis=-1)
        parts.append(both.reshape(-1, both.shape[-1]))
    return np.concatenate(parts)


def _joined(moments: Moments, nodes: tuple[Node, ...]) -> dict[tuple[int, int], Any]:
    """``Z_k'Z_l`` of all nodes but the first one's own."""
    place = {
        f: (k, start)
        for k, node in enumerate(nodes)
        for f, start in zip(node.factors, node.starts, strict=False)
    }
    last = len(nodes) - 1
    across: dict[tuple[int, int], Any] = {}

    def put(a: int, b: int, i: IntArray, j: IntArray, blocks: FloatArray) -> None:
        (k, row), (l, column) = place[a], place[b]
        shape = (nodes[k].starts[-1], nodes[l].starts[-1])
        q, r = blocks.shape[1:]
        part = from_blocks(row + i * q, column + j * r, blocks, shape)
        if k == l == last:
            part = part.toarray()
        across[k, l] = across[k, l] + part if (k, l) in across else part

    for f, factor in enumerate(moments.factors):
        k = place[f][0]
        if 0 < k < last:
            across[k, k] = factor.zz
        elif k == last:
            each = np.arange(len(factor.levels))
            put(f, f, each, each, factor.zz)
    for pair in moments.pairs:
        a, b, blocks = pair.first, pair.second, pair.zz
        i = np.searchsorted(moments.factors[a].levels, pair.rows)
        j = np.searchsorted(moments.factors[b].levels, pair.columns)
        if place[a][0] > place[b][0]:
            a, b, i, j, blocks = b, a, j, i, np.swapaxes(blocks, 1, 2)
        put(a, b, i, j, blocks)
        if place[a][0] == place[b][0]:
            put(b, a, j, i, np.swapaxes(blocks, 1, 2))
    return across


def _check_size(moments: Moments, dense: Node) -> None:
    """Refuse before the first iteration what would end for want of memory."""
    n = dense.starts[-1]
    needed = _DENSE_COPIES * 8 * n**2
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > present:
        names = ", ".join(str(m) for m in dense.n_levels)
        raise ModelSizeError(
            f"the grouping factors of {names} levels are crossed, and their {n} effects have to be "
            f"factored together, which needs {needed / 2**30:.0f} GiB of memory; this machine has "
            f"{present / 2**30:.0f}; fit fewer crossed factors, or a part of the levels"
        )
