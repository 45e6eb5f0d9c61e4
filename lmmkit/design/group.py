"""Cut a design's rows into independent groups and stack the groups of one size."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.design import Design
from lmmkit.design.relation import LevelCovariance
from lmmkit.records import FloatArray, IntArray, adopt

_Number = TypeVar("_Number", bound=np.number)


def group(design: Design) -> tuple[GroupBlock, ...]:
    """The blocks of a design: one a distinct number of rows in a group, the smallest first.

    A group is a set of rows that share no level of any random term with the rows outside it, and
    whose levels no relation ties to theirs; a design without random terms is one group. Inside a
    group rows keep the order of the frame. Rows that already come sorted by group in equal
    numbers are not copied.
    """
    factors = grouping_factors(design)
    codes, n_groups = _independent_groups(design, factors)
    counts = np.bincount(codes, minlength=n_groups)
    in_order = bool((codes[1:] >= codes[:-1]).all())
    order = None if in_order else _stable_order(codes)
    starts = np.cumsum(counts) - counts
    y = design.y if design.offset is None else adopt(design.y - design.offset)
    blocks = []
    for size in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == size)
        if in_order and len(members) * size == len(codes):
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
            first = design.terms[factor[0]]
            if first.group == term.group and np.array_equal(first.codes, term.codes):
                factor.append(k)
                break
        else:
            found.append([k])
    return tuple(map(tuple, found))


def _independent_groups(
    design: Design, factors: tuple[tuple[int, ...], ...]
) -> tuple[IntArray, int]:
    if not factors:
        return np.zeros(design.n_obs, dtype=np.int32), 1
    plain = all(term.loads is None and term.relation is None for term in design.terms)
    if plain and len(factors) == 1:
        first = design.terms[0]
        return first.codes, len(first.levels)
    return _connected_rows(design)


def _connected_rows(design: Design) -> tuple[IntArray, int]:
    """Components of the graph of levels, joined where they meet in a row or in a relation."""
    sizes = [len(term.levels) for term in design.terms]
    starts = np.cumsum([0, *sizes])
    nodes = np.column_stack(
        [term.codes + start for term, start in zip(design.terms, starts, strict=False)]
    )
    edges = [np.zeros((0, 2), dtype=nodes.dtype)]
    edges += [nodes[:, [0, j]] for j in range(1, nodes.shape[1])]
    edges += [
        _tied_levels(term.relation) + start
        for term, start in zip(design.terms, starts, strict=False)
        if term.relation is not None
    ]
    n_components, label = _components(np.concatenate(edges), int(starts[-1]))
    return label[nodes[:, 0]], n_components


def _tied_levels(relation: LevelCovariance) -> NDArray[np.intp]:
    """Each level with the first one of its component of K, which is that of the root."""
    _, label = _components(np.argwhere(relation.root), len(relation.levels))
    first = np.unique(label, return_index=True)[1]
    return np.column_stack([np.arange(len(label)), first[label]])


def _components(edges: NDArray[np.intp], n_nodes: int) -> tuple[int, IntArray]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), dtype=np.int8), edges.T), shape=(n_nodes, n_nodes))
    n_components, label = connected_components(graph, directed=False)
    return int(n_components), label.astype(np.int32)
