"""Moments as the system of equations that an evaluation eliminates."""

from typing import Any

import numpy as np

from lmmkit.errors import ModelSizeError
from lmmkit.likelihood.blocks import diagonal_of, masked, plus
from lmmkit.likelihood.meeting import layout_of
from lmmkit.likelihood.nodes import Node, cross_products_of, node_of, outer_products
from lmmkit.likelihood.order import elimination_order
from lmmkit.likelihood.pairs import Pairs, pairs_of, stored, weighed
from lmmkit.likelihood.sparse import Sparse, block_diagonal, by_effect
from lmmkit.likelihood.supernodal import Layout, dense_layout
from lmmkit.linalg import inverse_lower
from lmmkit.memory import memory_shortage
from lmmkit.moments.collapse import Patterns, collapse, no_levels
from lmmkit.moments.moments import Moments
from lmmkit.records import FloatArray, record

_INSIDE = 1e-13
_DENSE_COPIES = 5


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
        For later stages k <= l, ``Z_k'Z_l``: (m, q, q) where k = l is in the chain, stored by
        ``layout`` where both are the last, else sparse.
    outer : dict
        For each later stage k, ``Z_k'[X y]``.
    layout : Layout
        Of the last stage's effects: which of them meet when they are eliminated.
    pairs : Pairs or None
        Of ``inside``, where the first stage meets none but the last one.
    """

    nodes: tuple[Node, ...]
    first: Patterns
    inside: dict[int, Sparse]
    across: dict[tuple[int, int], Any]
    outer: dict[int, FloatArray]
    layout: Layout
    pairs: Pairs | None = None

    @property
    def last(self) -> int:
        """Position of the remainder."""
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
    nodes = (*(node_of(moments, (k,)) for k in order), node_of(moments, remaining))
    nodes = nodes if order else (node_of(moments, ()), *nodes)
    _check_size(moments, nodes[-1])
    start = moments.factors[order[0]] if order else no_levels(moments)
    later = [k for k in range(1, len(nodes)) if nodes[k].starts[-1]]
    first = collapse(moments, start, stand_ins=not later)
    if not later:
        return System(nodes, first, {}, {}, {}, dense_layout(0))
    across = cross_products_of(moments, nodes)
    outer = {k: outer_products(moments, nodes[k]) for k in later}
    inverse = inverse_lower(first.factor)
    root = block_diagonal(inverse[..., first.pattern])
    inside = {to: root @ across.pop((0, to)) for to in later if (0, to) in across}
    q, last = len(first.factor), len(nodes) - 1
    pairs = pairs_of(inside[last], q) if list(inside) == [last] else None
    layout = layout_of(nodes, inside, across, pairs)
    if (last, last) in across:
        across[last, last] = layout.values(across[last, last])
    pairs = stored(pairs, layout) if pairs is not None else None
    before = {k: diagonal_of(across[k, k], layout) for k in inside}
    for k, part in inside.items():
        outer[k] = outer[k] - part.T @ by_effect(first.inside)
    if pairs is not None:
        identity = np.broadcast_to(np.eye(q)[..., None], (q, q, inside[last].shape[0] // q))
        across[last, last] = across[last, last] - weighed(pairs, identity)
    else:
        for k, part in inside.items():
            for to in inside:
                if to >= k:
                    across[k, to] = plus(across[k, to], -(part.T @ inside[to]), layout)
    outside = {k: diagonal_of(across[k, k], layout) > _INSIDE * before[k] for k in inside}
    real = {k: kept.astype(np.float64) for k, kept in outside.items() if not kept.all()}
    for k, to in across:
        if k in real or to in real:
            across[k, to] = masked(across[k, to], real.get(k), real.get(to), layout)
    outer |= {k: outer[k] * mask[:, None] for k, mask in real.items()}
    return System(nodes, first, inside, across, outer, layout, pairs)


def _check_size(moments: Moments, dense: Node) -> None:
    """Refuse before the first iteration what would end for want of memory."""
    n = dense.starts[-1]
    shortage = memory_shortage(_DENSE_COPIES * n**2) if n else None
    if shortage is not None:
        needed, present = shortage
        raise ModelSizeError(
            f"{_named(moments, dense)}: their {n} effects depend on one another, since the factors "
            "are crossed, or levels are tied by a known covariance or by multiple membership; to "
            f"factor them together needs {needed:.0f} GiB of memory, and this machine has "
            f"{present:.0f}; fit fewer such factors, or a part of the levels"
        )


def _named(moments: Moments, node: Node) -> str:
    """``"the grouping factors of u (6000 levels) and v (3700 levels)"``."""
    terms = [moments.factors[f].terms[0] for f in node.factors]
    names = [moments.labels[k].name if moments.labels else "" for k in terms]
    parts = [f"{name} ({m} levels)" for name, m in zip(names, node.n_levels, strict=True)]
    return "the grouping factors of " + " and ".join(parts)
