"""Cut a design's rows into independent groups and stack the groups of one size."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.design import Design, RandomTerm
from lmmkit.design.groups import run_starts
from lmmkit.design.relation import LevelCovariance
from lmmkit.records import FloatArray, IntArray, adopt, same

_Number = TypeVar("_Number", bound=np.number)


def group(design: Design) -> tuple[GroupBlock, ...]:
    """The blocks of a design: one a distinct number of rows in a group, the smallest first.

    A group is a set of rows that share no level of any random term with the rows outside it, and
    whose levels no relation ties to theirs; a design without random terms is one group. Inside a
    group rows keep the order of the frame. Rows that already come sorted by group in equal
    numbers are not copied.
    """
    factors = grouping_factors(design)
    codes = _independent_groups(design, factors)
    order = None if (codes[1:] >= codes[:-1]).all() else _stable_order(codes)
    starts = run_starts(codes if order is None else codes[order])
    counts = np.diff(starts, append=len(codes))
    y = design.y if design.offset is None else adopt(design.y - design.offset)
    blocks = []
    for size in np.flatnonzero(np.bincount(counts)):
        members = np.flatnonzero(counts == size)
        if order is None and len(members) == len(counts):
            rows = adopt(np.arange(len(codes), dtype=np.int32))
            take = None
        else:
            places = (starts[members][:, None] + np.arange(size)).ravel()
            rows = adopt(places.astype(np.int32) if order is None else order[places])
            take = rows
        shape = (len(members), int(size))
        blocks.append(_block(design, factors, y, shape, rows, take))
    return tuple(blocks)


def _stable_order(codes: IntArray) -> IntArray:
    """Positions that sort ``codes``; packed with the position, a plain sort is a stable one."""
    keys = (codes.astype(np.int64) << 32) | np.arange(len(codes))
    keys.sort()
    return adopt(keys.astype(np.int32))


def _block(
    design: Design,
    factors: tuple[tuple[int, ...], ...],
    y: FloatArray,
    shape: tuple[int, int],
    rows: IntArray,
    take: IntArray | None,
) -> GroupBlock:
    def stack(array: NDArray[_Number], axis: int = 0) -> NDArray[_Number]:
        chosen = array if take is None else adopt(np.take(array, take, axis=axis))
        return chosen.reshape(*array.shape[:axis], *shape, *array.shape[axis + 1 :])

    X = stack(design.X)
    return GroupBlock(
        y=stack(y, axis=y.ndim - 1),
        X=X,
        Z=tuple(X if term.Z is design.X else stack(term.Z) for term in design.terms),
        levels=tuple(stack(term.codes) for term in design.terms),
        rows=rows.reshape(shape),
        weights=None if design.weights is None else stack(design.weights),
        factors=factors,
        labels=tuple(term.levels for term in design.terms),
        loads=(
            ()
            if all(term.loads is None for term in design.terms)
            else tuple(None if t.loads is None else stack(t.loads) for t in design.terms)
        ),
        relations=(
            ()
            if all(term.relation is None for term in design.terms)
            else tuple(term.relation for term in design.terms)
        ),
    )


def grouping_factors(design: Design) -> tuple[tuple[int, ...], ...]:
    """Positions of the random terms on each grouping factor, in the order of the terms."""
    found: list[list[int]] = []
    for k, term in enumerate(design.terms):
        for factor in found:
            if _on_one_factor(design.terms[factor[0]], term):
                factor.append(k)
                break
        else:
            found.append([k])
    return tuple(map(tuple, found))


def _on_one_factor(a: RandomTerm, b: RandomTerm) -> bool:
    """Whether the effects of two terms belong to the same levels in the same rows."""
    return (
        a.group == b.group
        and np.array_equal(a.codes, b.codes)
        and same(a.loads, b.loads)
        and same(a.relation, b.relation)
    )


def _independent_groups(design: Design, factors: tuple[tuple[int, ...], ...]) -> IntArray:
    """The group of each row, as a number."""
    if not factors:
        return np.zeros(design.n_obs, dtype=np.int32)
    plain = all(term.loads is None and term.relation is None for term in design.terms)
    if plain and len(factors) == 1:
        return design.terms[0].codes
    return _connected_rows(design)


def _connected_rows(design: Design) -> IntArray:
    """Components of the graph of levels, joined where they meet in a row or in a relation."""
    nodes: list[IntArray] = []
    ties: list[IntArray] = []
    start = 0
    for term in design.terms:
        codes = term.codes if term.codes.ndim == 2 else term.codes[:, None]
        nodes += [column + np.int32(start) for column in codes.T]
        if term.relation is not None:
            ties.append(_tied_levels(term.relation) + np.int32(start))
        start += len(term.levels)
    heads = [nodes[0][:0], *[nodes[0]] * (len(nodes) - 1), *(tie[0] for tie in ties)]
    tails = [nodes[0][:0], *nodes[1:], *(tie[1] for tie in ties)]
    return _components(np.concatenate(heads), np.concatenate(tails), start)[nodes[0]]


def _tied_levels(relation: LevelCovariance) -> IntArray:
    """Each level below the first one of its component of K, which is that of the root."""
    levels = np.arange(len(relation.levels), dtype=np.int32)
    if relation.root[:, 0].all():
        return np.stack([np.zeros_like(levels), levels])
    below, above = np.nonzero(relation.root)
    label = _components(below, above, len(levels))
    first = np.unique(label, return_index=True)[1].astype(np.int32)
    return np.stack([first[label], levels])


def _components(head: NDArray[Any], tail: NDArray[Any], n_nodes: int) -> IntArray:
    """The component of each node, as a number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(head), dtype=np.int8), (head, tail)), shape=(n_nodes, n_nodes))
    label: IntArray = connected_components(graph, directed=False)[1].astype(np.int32)
    return label
