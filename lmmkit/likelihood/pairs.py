"""Pairs of later effects that meet in a level of the first stage.

Eliminating level i of the first stage changes the cross-products of the later effects by
``U_i' M_i U_i``, and the levels' W need ``U_i K U_i'``. U does not depend on the parameters: the
products of its entries are written once, and an evaluation only weighs or sums them. The results
are stored as :mod:`lmmkit.likelihood.supernodal` stores the remainder.
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmmkit.likelihood.sparse import Sparse
from lmmkit.likelihood.supernodal import Layout
from lmmkit.linalg import symmetric, triangle
from lmmkit.records import FloatArray, adopted_array, record

_MOST_ENTRIES = 8_000_000


@record
class Pairs:
    """Products of the entries of U, a pair of effects a row, a level a column.

    Attributes
    ----------
    diagonal : ndarray (n,)
        Where an effect's pair with itself is.
    entries : tuple of sparse (size, m)
        For each row j and column k of the triangle of ``M_i``, ``(u_ja u_kb + u_ka u_jb) / 2`` of
        the effects a and b, and half of that for a = b.
    """

    diagonal: NDArray[np.integer[Any]] = adopted_array()
    entries: tuple[Any, ...]


def pairs_of(U: Sparse, q: int) -> Pairs | None:
    """The pairs of ``U`` (m q, n), q rows a level; None where they would be too many.

    They are for a dense matrix; see :func:`stored`.
    """
    from scipy.sparse import csc_array

    rows, columns = triangle(q)
    n = U.shape[1]
    blocks = U.tobsr((q, 1))
    blocks.sort_indices()
    degree = np.diff(blocks.indptr).astype(np.int64)
    too_many = len(rows) * int((degree * (degree + 1) // 2).sum()) > _MOST_ENTRIES
    if too_many or n * n > np.iinfo(np.int32).max:
        return None
    place = np.arange(len(blocks.indices))
    count = place - np.repeat(blocks.indptr[:-1], degree) + 1
    ends = np.cumsum(count)
    other = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - place - 1, count)
    where = blocks.indices.take(other) * np.int32(n) + np.repeat(blocks.indices, count)
    starts = np.concatenate([[0], ends])[blocks.indptr].astype(np.int32)
    values = np.ascontiguousarray(blocks.data[..., 0].T)
    entries = []
    for j, k in zip(rows, columns, strict=True):
        product = np.repeat(values[j], count) * values[k].take(other)
        if j != k:
            product = 0.5 * (product + np.repeat(values[k], count) * values[j].take(other))
        product[ends - 1] *= 0.5
        entries.append(csc_array((product, where, starts), shape=(n * n, len(degree))))
    return Pairs(np.arange(n) * (n + 1), tuple(entries))


def met_in(pairs: Pairs) -> NDArray[np.bool_]:
    """Which effects (n, n) are a pair."""
    n = len(pairs.diagonal)
    met = np.zeros(n * n, dtype=bool)
    met[pairs.entries[0].indices] = True
    below = met.reshape(n, n)
    return np.asarray(below | below.T)


def stored(pairs: Pairs, layout: Layout) -> Pairs:
    """The pairs of :func:`pairs_of`, each where the layout stores it."""
    from scipy.sparse import csc_array

    if layout.position is None:
        return pairs
    position, first = layout.position.ravel(), pairs.entries[0]
    rows = position.take(first.indices)
    entries = (
        csc_array((e.data, rows, e.indptr), shape=(layout.size, e.shape[1])) for e in pairs.entries
    )
    return Pairs(position.take(pairs.diagonal), tuple(entries))


def weighed(pairs: Pairs, M: FloatArray) -> FloatArray:
    """``sum U_i' M_i U_i`` of symmetric M (q, q, m), stored."""
    rows, columns = triangle(len(M))
    parts = (
        entries @ (M[j, k] if j == k else 2.0 * M[j, k])
        for entries, j, k in zip(pairs.entries, rows, columns, strict=True)
    )
    values: FloatArray = reduce(np.add, parts)
    values[pairs.diagonal] *= 2.0
    return values


def seen(pairs: Pairs, K: FloatArray) -> FloatArray:
    """``U_i K U_i'`` of each level, for a symmetric K, stored: (m, q, q)."""
    q = int(np.sqrt(2 * len(pairs.entries)))
    return symmetric(2.0 * np.stack([e.T @ K for e in pairs.entries], axis=-1), q)
