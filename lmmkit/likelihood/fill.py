"""Which effects a sparse elimination takes out together, found once from which of them meet.

Minimum degree orders the effects: the one that meets fewest others goes next, with all that meet
the same others (a supernode), and what it met now meets. Supernodes are then merged with the one
that follows them in the elimination tree where larger blocks are worth the zeros in them (George
and Liu 1989, SIAM Review 31; Ashcraft and Grimes 1989, ACM TOMS 15).
"""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DENSEST, _REST, _NEARLY = 0.7, 0.85, 0.9
_WORD = 64
_PER_FLOP, _PER_ENTRY, _PER_SUPERNODE = 2.5e-11, 2e-9, 2e-5


class Supernode(NamedTuple):
    """Effects that are eliminated at once, and the later ones that they meet by then."""

    pivots: NDArray[np.intp]
    rows: NDArray[np.intp]


class _Node(NamedTuple):
    """A supernode while it is merged: its rows are the bits of a number."""

    pivots: list[int]
    own: int
    rows: int


def supernodes(met: NDArray[np.bool_]) -> tuple[Supernode, ...]:
    """The supernodes of a symmetric matrix, in the order of their elimination.

    One of all effects where most of the factor would not be zero.

    Parameters
    ----------
    met : ndarray of bool (n, n)
        Where the matrix to be factored is not zero.
    """
    n = len(met)
    whole, most = (Supernode(np.arange(n), np.arange(0)),), _DENSEST * n**2
    if np.count_nonzero(met) > most:
        return whole
    found = _minimum_degree(met)
    if _stored(found) > most:
        return whole
    merged = _merged(found, n)
    return whole if _stored(merged) > most else merged


def _stored(nodes: Iterable[Supernode]) -> int:
    return sum(len(pivots) * (len(pivots) + len(rows)) for pivots, rows in nodes)


def _minimum_degree(met: NDArray[np.bool_]) -> list[Supernode]:
    """Where nearly all of what remains meets, it is the last one."""
    n = left = len(met)
    bits = n + -n % _WORD
    octets = np.zeros((n, bits // 8), dtype=np.uint8)
    octets[:, : -(-n // 8)] = np.packbits(met | np.eye(n, dtype=bool), axis=1)
    meets = octets.view(np.uint64)
    degree = np.bitwise_count(meets).sum(axis=1, dtype=np.int64)
    gone = np.zeros(bits, dtype=bool)
    found = []
    while left:
        first = degree.argmin()
        if degree[first] > _REST * left:
            break
        reached = meets[first].copy()
        around = np.flatnonzero(np.unpackbits(reached.view(np.uint8)))
        alike = around[degree[around] == degree[first]]
        alike = alike[(meets[alike] == reached).all(axis=1)]
        gone[alike] = True
        rows = around[~gone[around]]
        kept = ~np.packbits(gone).view(np.uint64)
        meets[rows] = (meets[rows] & kept) | (reached & kept)
        degree[rows] = np.bitwise_count(meets[rows]).sum(axis=1)
        degree[alike] = n + 1
        left -= len(alike)
        found.append(Supernode(alike, rows))
    if left:
        found.append(Supernode(np.flatnonzero(degree <= n), np.arange(0)))
    return found


def _merged(found: list[Supernode], n: int) -> tuple[Supernode, ...]:
    """Of a supernode and its parent, the first among its rows, merge the pair that gains most.

    What a pair gains is looked up anew when its turn comes: it loses where the parent has grown.
    """
    nodes = _abreast(found, n)
    home = np.zeros(n, dtype=np.intp)
    for k, node in enumerate(nodes):
        home[node.pivots] = k
    parent = [int(home[_members(node.rows, n)].min()) if node.rows else -1 for node in nodes]
    children: list[set[int]] = [set() for _ in nodes]
    queue: list[tuple[float, int, int]] = []

    def lost(k: int) -> float:
        child, into = nodes[k], nodes[parent[k]]
        return _seconds(_joined(child, into)) - _seconds(child) - _seconds(into)

    def consider(k: int) -> None:
        if parent[k] >= 0 and (seconds := lost(k)) < 0.0:
            heapq.heappush(queue, (seconds, k, parent[k]))

    for k, above in enumerate(parent):
        if above >= 0:
            children[above].add(k)
        consider(k)
    while queue:
        before, k, above = heapq.heappop(queue)
        if parent[k] != above:
            continue
        if lost(k) > _NEARLY * before:
            consider(k)
            continue
        nodes[above] = _joined(nodes[k], nodes[above])
        nodes[k], parent[k] = _Node([], 0, 0), -1
        for child in children[k]:
            parent[child] = above
            consider(child)
        children[above] = (children[above] | children[k]) - {k}
        consider(above)
    return tuple(
        Supernode(np.array(node.pivots), _members(node.rows, n)) for node in nodes if node.pivots
    )


def _abreast(found: list[Supernode], n: int) -> list[_Node]:
    """Supernodes that meet the same later effects, joined as long as a pivot takes less time."""
    nodes: list[_Node] = []
    latest: dict[int, int] = {}
    for pivots, rows in found:
        node = _Node(pivots.tolist(), _bits(pivots, n), _bits(rows, n))
        k = latest.get(node.rows)
        if k is not None:
            both = _joined(nodes[k], node)
            if _per_pivot(both) < _per_pivot(nodes[k]):
                nodes[k], node = _Node([], 0, 0), both
        latest[node.rows] = len(nodes)
        nodes.append(node)
    return [node for node in nodes if node.pivots]


def _bits(members: NDArray[np.intp], n: int) -> int:
    present = np.zeros(n, dtype=bool)
    present[members] = True
    return int.from_bytes(np.packbits(present).tobytes(), "big")


def _members(bits: int, n: int) -> NDArray[np.intp]:
    octets = np.frombuffer(bits.to_bytes(-(-n // 8), "big"), np.uint8)
    return np.flatnonzero(np.unpackbits(octets))


def _joined(child: _Node, parent: _Node) -> _Node:
    rows = (child.rows | parent.rows) & ~parent.own
    return _Node(child.pivots + parent.pivots, child.own | parent.own, rows)


def _seconds(node: _Node) -> float:
    """What the elimination of a supernode takes, about."""
    w, r = len(node.pivots), node.rows.bit_count()
    flops = w**3 / 3 + r * w**2 + r**2 * w
    return flops * _PER_FLOP + r**2 * _PER_ENTRY + _PER_SUPERNODE


def _per_pivot(node: _Node) -> float:
    return _seconds(node) / len(node.pivots)
