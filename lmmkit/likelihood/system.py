"""Moments as the system of equations that an evaluation eliminates."""

from typing import Any

import numpy as np

from lmmkit.errors import ModelSizeError
from lmmkit.likelihood.order import elimination_order
from lmmkit.likelihood.pairs import Pairs, pairs_of, weighed
from lmmkit.likelihood.sparse import (
    Sparse,
    block_diagonal,
    by_effect,
    diagonal_of,
    from_blocks,
    masked,
    plus,
)
from lmmkit.linalg import inverse_lower
from lmmkit.memory import memory_shortage
from lmmkit.moments.collapse import Patterns, collapse, no_levels
from lmmkit.moments.moments import Moments, PairMoments
from lmmkit.records import FloatArray, IntArray, int_arrays, record

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
    columns: tuple[IntArray, ...] = int_arrays(1)
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
    pairs : Pairs or None
        Of ``inside``, where the first stage meets none but the dense one.
    """

    nodes: tuple[Node, ...]
    first: Patterns
    inside: dict[int, Sparse]
    across: dict[tuple[int, int], Any]
    outer: dict[int, FloatArray]
    pairs: Pairs | None = None

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
    start = moments.factors[order[0]] if order else no_levels(moments)
    later = [k for k in range(1, len(nodes)) if nodes[k].starts[-1]]
    first = collapse(moments, start, stand_ins=not later)
    if not later:
        return System(nodes, first, {}, {}, {})
    across = _joined(moments, nodes)
    outer = {k: _outer(moments, nodes[k]) for k in later}
    inverse = inverse_lower(first.factor)
    root = block_diagonal(inverse[..., first.pattern])
    inside = {to: root @ across.pop((0, to)) for to in later if (0, to) in across}
    q, last = len(first.factor), len(nodes) - 1
    pairs = pairs_of(inside[last], q) if list(inside) == [last] else None
    real = {}
    for k, part in inside.items():
        before = diagonal_of(across[k, k])
        outer[k] = outer[k] - part.T @ by_effect(first.inside)
        if pairs is None:
            for to in inside:
                if to >= k:
                    across[k, to] = plus(across[k, to], -(part.T @ inside[to]))
        else:
            identity = np.broadcast_to(np.eye(q)[..., None], (q, q, part.shape[0] // q))
            across[k, k] = across[k, k] - weighed(pairs, identity)
        outside = diagonal_of(across[k, k]) > _INSIDE * before
        if not outside.all():
            real[k] = outside.astype(np.float64)
    for k, to in across:
        if k in real or to in real:
            across[k, to] = masked(across[k, to], real.get(k), real.get(to))
    outer |= {k: outer[k] * mask[:, None] for k, mask in real.items()}
    return System(nodes, first, inside, across, outer, pairs)


def _node(moments: Moments, factors: tuple[int, ...]) -> Node:
    widths = np.cumsum([0, *moments.sizes])
    columns = tuple(
        np.concatenate([np.arange(widths[k], widths[k + 1]) for k in moments.factors[f].terms])
        for f in factors
    )
    return Node(factors, columns, tuple(moments.n_levels(moments.factors[f]) for f in factors))


def _outer(moments: Moments, node: Node) -> FloatArray:
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


def _joined(moments: Moments, nodes: tuple[Node, ...]) -> dict[tuple[int, int], Any]:
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
