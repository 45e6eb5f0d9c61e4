"""Sparse matrices of levels' effects; row ``i q + a`` is effect a of level i."""

from typing import Any, TypeAlias

import numpy as np

from lmmkit.records import FloatArray, IntArray

Sparse: TypeAlias = Any


def block_diagonal(blocks: FloatArray) -> Sparse:
    """The (m q, m r) matrix with ``blocks`` (q, r, m) along its diagonal."""
    from scipy.sparse import bsr_array

    q, r, m = blocks.shape
    if not blocks.size:
        return _empty(m * q, m * r)
    data = np.moveaxis(blocks, -1, 0)
    return bsr_array((data, np.arange(m), np.arange(m + 1)), shape=(m * q, m * r)).tocsr()


def from_blocks(
    rows: IntArray, columns: IntArray, blocks: FloatArray, shape: tuple[int, int]
) -> Sparse:
    """The matrix with ``blocks`` (n, q, r) whose first elements are at ``rows, columns``."""
    from scipy.sparse import coo_array

    _, q, r = blocks.shape
    i = rows[:, None, None] + np.arange(q)[:, None]
    j = columns[:, None, None] + np.arange(r)
    i, j = np.broadcast_arrays(i, j)
    return coo_array((blocks.ravel(), (i.ravel(), j.ravel())), shape=shape).tocsr()


def diagonal_blocks(matrix: Sparse, q: int) -> FloatArray:
    """The (m, q, q) blocks along the diagonal of a matrix that has nothing else."""
    entries = matrix.tocoo()
    blocks = np.zeros((matrix.shape[0] // q, q, q))
    blocks[entries.row // q, entries.row % q, entries.col % q] = entries.data
    return blocks


def _empty(n: int, m: int) -> Sparse:
    from scipy.sparse import csr_array

    return csr_array((n, m))


def by_level(effects: FloatArray, q: int) -> FloatArray:
    """(m q, r) as a stack (q, r, m)."""
    n, r = effects.shape
    stack = np.moveaxis(effects.reshape(n // q if q else 0, q, r), 0, -1)
    return np.ascontiguousarray(stack)


def by_effect(stack: FloatArray) -> FloatArray:
    """(q, r, m) as (m q, r)."""
    q, r, m = stack.shape
    return np.ascontiguousarray(np.moveaxis(stack, -1, 0)).reshape(m * q, r)


def row_blocks(a: Any, b: Any, q: int) -> FloatArray:
    """The (m, q, q) blocks along the diagonal of ``a b'``; both sparse or dense (m q, n)."""
    m = a.shape[0] // q if q else 0
    blocks = np.empty((m, q, q))
    if isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        entries = b.tocoo()
        first = entries.row - entries.row % q
        for i in range(q):
            products = a[first + i, entries.col] * entries.data
            blocks[:, i] = np.bincount(entries.row, products, m * q).reshape(m, q)
        return blocks
    for i in range(q):
        for j in range(q):
            if isinstance(a, np.ndarray):
                blocks[:, i, j] = np.einsum("mn,mn->m", a[i::q], b[j::q])
            else:
                blocks[:, i, j] = a[i::q].multiply(b[j::q]).sum(axis=1)
    return blocks


def sampled(values: Any, pattern: Sparse) -> Sparse:
    """``values`` where ``pattern`` has entries, zero elsewhere."""
    from scipy.sparse import coo_array

    if not isinstance(values, np.ndarray):
        where = pattern.copy()
        where.data = np.ones_like(where.data)
        return values.multiply(where).tocsr()
    entries = pattern.tocoo()
    data = values[entries.row, entries.col]
    return coo_array((data, (entries.row, entries.col)), shape=pattern.shape).tocsr()


def dense_blocks(matrix: FloatArray, q: int) -> FloatArray:
    """The (m, q, q) blocks along the diagonal of a dense matrix."""
    m = len(matrix) // q
    each = np.arange(m)
    return matrix.reshape(m, q, m, q)[each, :, each]
