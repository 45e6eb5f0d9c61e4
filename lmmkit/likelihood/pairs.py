"""Pairs of later effects that meet in a level of the first stage.

Eliminating level i of the first stage changes the cross-products of the later effects by
``U_i' M_i U_i``, and the levels' W need ``U_i K U_i'``. U does not depend on the parameters: the
products of its entries are written once, and an evaluation only weighs or sums them.
"""

from functools import reduce
from typing import Any

import numpy as np

from lmmkit.likelihood.dense import mirror
from lmmkit.likelihood.sparse import Sparse
from lmmkit.linalg import symmetric, triangle
from lmmkit.records import FloatArray, record

_MOST_ENTRIES = 8_000_000


@record
class Pairs:
    """Products of the entries of U, a pair of effects a row, a level a column.

    Attributes
    ----------
    n : int
        Number of later effects.
    entries : tuple of sparse (n * n, m)
        For each row j and column k of the triangle of ``M_i``, ``(u_ja u_kb + u_ka u_jb) / 2`` in
        row ``a n + b``, for a >= b, and half of that for a = b.
    """

    n: int
    entries: tuple[Any, ...]


def pairs_of(U: Sparse, q: int) -> Pairs | None:
    """The pairs of ``U`` (m q, n), q rows a level; None where they would be too many."""
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
    where = np.repeat(blocks.indices * np.int32(n), count) + blocks.indices.take(other)
    starts = np.concatenate([[0], ends])[blocks.indptr].astype(np.int32)
    values = np.ascontiguousarray(blocks.data[..., 0].T)
    entries = []
    for j, k in zip(rows, columns, strict=True):
        product = np.repeat(values[j], count) * values[k].take(other)
        if j != k:
            product = 0.5 * (product + np.repeat(values[k], count) * values[j].take(other))
        product[ends - 1] *= 0.5
        entries.append(csc_array((product, where, starts), shape=(n * n, len(degree))))
    return Pairs(n, tuple(entries))


def weighed(pairs: Pairs, M: FloatArray) -> FloatArray:
    """``sum U_i' M_i U_i`` of symmetric M (q, q, m): dense (n, n)."""
    rows, columns = triangle(len(M))
    parts = (
        entries @ (M[j, k] if j == k else 2.0 * M[j, k])
        for entries, j, k in zip(pairs.entries, rows, columns, strict=True)
    )
    square = reduce(np.add, parts).reshape(pairs.n, pairs.n)
    square[np.diag_indices(pairs.n)] *= 2.0
    return mirror(square)


def seen(pairs: Pairs, K: FloatArray) -> FloatArray:
    """``U_i K U_i'`` of each level, for a symmetric K: (m, q, q)."""
    flat = K.ravel(order="K")
    q = int(np.sqrt(2 * len(pairs.entries)))
    return symmetric(2.0 * np.stack([e.T @ flat for e in pairs.entries], axis=-1), q)
