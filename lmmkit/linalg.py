"""Small dense matrices, many at once.

The stack is the last axis, so that each step of a factorization is one operation on whole vectors.
Shapes are ``(..., q, q, P)``: any leading axes, the matrix, and P matrices side by side.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from lmmkit.records import FloatArray, IntArray, adopt

_FEW_ROWS = 7
_INDEPENDENT = 1e-10


def cholesky(a: FloatArray) -> FloatArray:
    """Lower factors L of ``a = L L'``, shape (..., q, q, P); NaN where ``a`` is not positive."""
    factor = np.zeros_like(a)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(a.shape[-2]):
            column = _column_less_earlier(a, factor, j)
            factor[..., j:, j, :] = column / np.sqrt(column[..., :1, :])
    return factor


def semidefinite_cholesky(a: FloatArray, tolerance: float = 1e-11) -> FloatArray:
    """Lower factors of positive semidefinite matrices, shape (..., q, q, P).

    A pivot below ``tolerance`` times its diagonal element counts as zero and gives a zero column.
    """
    factor = np.zeros_like(a)
    for j in range(a.shape[-2]):
        column = _column_less_earlier(a, factor, j)
        pivot = column[..., :1, :]
        positive = pivot > tolerance * np.abs(a[..., j : j + 1, j, :])
        root = np.sqrt(np.where(positive, pivot, 1.0))
        factor[..., j:, j, :] = np.where(positive, column / root, 0.0)
    return factor


def _column_less_earlier(a: FloatArray, factor: FloatArray, j: int) -> FloatArray:
    column = a[..., j:, j, :]
    if j == 0:
        return column
    earlier: FloatArray = np.einsum(
        "...ikp,...kp->...ip", factor[..., j:, :j, :], factor[..., j, :j, :]
    )
    return column - earlier


def solve_lower(factor: FloatArray, b: FloatArray) -> FloatArray:
    """``L^-1 b`` for b (..., q, r, P); rows whose diagonal element of L is zero come out zero."""
    lead = factor.shape[:-3]
    if b.ndim - 3 > len(lead):
        lead = np.broadcast_shapes(lead, b.shape[:-3])
    solution = np.empty(lead + b.shape[-3:])
    for i in range(factor.shape[-2]):
        row = b[..., i, :, :]
        if i == 1:
            row = row - factor[..., 1, 0, None, :] * solution[..., 0, :, :]
        elif i:
            row = row - np.einsum(
                "...kp,...krp->...rp", factor[..., i, :i, :], solution[..., :i, :, :]
            )
        pivot = factor[..., i, i, :]
        zero = pivot == 0.0
        inverse = 1.0 / (pivot + zero) * ~zero if zero.any() else 1.0 / pivot
        np.multiply(row, inverse[..., None, :], out=solution[..., i, :, :])
    return solution


def inverse_lower(factor: FloatArray) -> FloatArray:
    """``L^-1`` of each of (q, q, P); rows whose diagonal element is zero are zero."""
    return solve_lower(factor, np.broadcast_to(np.eye(len(factor))[..., None], factor.shape))


def gram(a: FloatArray) -> FloatArray:
    """``sum over k, p of a[k, i, p] a[k, j, p]``: shape (..., i, j) from (..., k, i, P)."""
    if a.shape[-2] < _FEW_ROWS:
        products = np.vecdot(a[..., :, None, :], a[..., None, :, :])
    else:
        products = np.matmul(a, np.swapaxes(a, -1, -2))
    return np.asarray(products.sum(axis=-3))


def row_products(a: FloatArray) -> FloatArray:
    """``a a'`` of a few long rows (k, N); the matrix product is slow at very few."""
    return np.asarray(np.vecdot(a[:, None], a) if len(a) < _FEW_ROWS else a @ a.T)


def transposed(a: FloatArray) -> FloatArray:
    """The matrices (..., n, m) transposed."""
    return np.swapaxes(a, -1, -2)


@cache
def triangle(q: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of the entries of a lower triangle, row by row."""
    rows, columns = np.tril_indices(q)
    return adopt(rows), adopt(columns)


@cache
def duplication(q: int) -> FloatArray:
    """D (q*q, q(q+1)/2) with ``vec(S) = D vech(S)``, vech being the lower triangle row by row."""
    rows, columns = triangle(q)
    matrix = np.zeros((q, q, len(rows)))
    position = np.arange(len(rows))
    matrix[rows, columns, position] = 1.0
    matrix[columns, rows, position] = 1.0
    return adopt(matrix.reshape(q * q, len(rows)))


def vech(a: FloatArray) -> FloatArray:
    """The lower triangle of (..., q, q), row by row: shape (..., q(q+1)/2)."""
    rows, columns = triangle(a.shape[-1])
    return a[..., rows, columns]


def lower(values: FloatArray, q: int) -> FloatArray:
    """The lower triangular (..., q, q) whose :func:`vech` is ``values``."""
    matrix = np.zeros((*values.shape[:-1], q, q))
    rows, columns = triangle(q)
    matrix[..., rows, columns] = values
    return matrix


def symmetric(values: FloatArray, q: int) -> FloatArray:
    """The symmetric (..., q, q) whose :func:`vech` is ``values``."""
    return (values @ duplication(q).T).reshape(*values.shape[:-1], q, q)


def psd_factor(a: FloatArray) -> FloatArray:
    """Lower factor, diagonal >= 0, of positive semidefinite (..., q, q), singular ones too."""
    return semidefinite_cholesky(a[..., None], tolerance=1e-14)[..., 0]


def product_jacobian(t: FloatArray) -> FloatArray:
    """``d vech(T T') / d vech(T)`` for lower triangular (..., q, q): shape (..., n, n)."""
    # d (T T')_ab / d T_ij = [a = i] T_bj + [b = i] T_aj
    rows, columns, same_row, column_is_row, _ = pairings(t.shape[-1])
    return np.asarray(
        same_row * t[..., columns[:, None], columns]
        + column_is_row * t[..., rows[:, None], columns]
    )


@cache
def pairings(q: int) -> tuple[IntArray, IntArray, FloatArray, FloatArray, FloatArray]:
    """A triangle's rows and columns, and which pairs of entries share a row or a column."""
    rows, columns = triangle(q)
    return (
        rows,
        columns,
        adopt((rows[:, None] == rows).astype(np.float64)),
        adopt((columns[:, None] == rows).astype(np.float64)),
        adopt((columns[:, None] == columns).astype(np.float64)),
    )


def block_diagonal(blocks: Sequence[FloatArray]) -> FloatArray:
    """One matrix with ``blocks`` along its diagonal."""
    matrix = np.zeros((sum(len(b) for b in blocks), sum(b.shape[1] for b in blocks)))
    row = column = 0
    for block in blocks:
        rows, columns = block.shape
        matrix[row : row + rows, column : column + columns] = block
        row, column = row + rows, column + columns
    return matrix


def solve_or_nan(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """``matrix^-1 right`` over leading axes, right (..., n, k); NaN where a matrix is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        singular = np.linalg.slogdet(matrix)[0] == 0
        return np.linalg.solve(np.where(singular[..., None, None], np.nan, matrix), right)


def null_space(rows: FloatArray) -> FloatArray:
    """Orthonormal columns that span what ``rows``, which may depend on one another, map to zero."""
    if not len(rows):
        return np.eye(rows.shape[1])
    _, values, right = np.linalg.svd(rows)
    rank = int((values > _INDEPENDENT * values[0]).sum())
    return np.asarray(right[rank:].T)
