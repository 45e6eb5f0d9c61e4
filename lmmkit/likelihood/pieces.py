"""What the derivatives of the log-likelihood at one point are computed from."""

from enum import Enum
from functools import cache

import numpy as np

from lmmkit.likelihood.terms import Terms
from lmmkit.linalg import duplication, transposed
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, IntArray, adopt, computed_array, record


class Criterion(Enum):
    """Maximum likelihood, or restricted maximum likelihood."""

    ML = "ML"
    REML = "REML"


@cache
def directions(sizes: tuple[int, ...]) -> FloatArray:
    """The matrix (q*q, n) from packed delta to ``vec(D)``, D block diagonal by term."""
    q = sum(sizes)
    matrix = np.zeros((q, q, sum(map(triangle_size, sizes))))
    row = column = 0
    for size in sizes:
        end = column + triangle_size(size)
        block = slice(row, row + size)
        matrix[block, block, column:end] = duplication(size).reshape(size, size, end - column)
        row, column = row + size, end
    return adopt(matrix.reshape(q * q, column))


def direction_blocks(sizes: tuple[int, ...]) -> FloatArray:
    """The directions as matrices (q, q, n)."""
    q, matrix = sum(sizes), directions(sizes)
    return matrix.reshape(q, q, matrix.shape[1])


@record
class Point:
    """The marginal quantities at one value of (beta, D, sigma2).

    Attributes
    ----------
    beta : ndarray (..., p)
        In standard coordinates.
    sigma2 : ndarray (...)
    rss : ndarray (...)
        ``(y - X beta)'V^-1(y - X beta)``.
    gap : ndarray (..., p)
        ``X'V^-1(y - X beta)``; zero at the best beta.
    C : ndarray (..., p, p)
        ``X'V^-1X``.
    """

    beta: FloatArray = computed_array()
    sigma2: FloatArray = computed_array()
    rss: FloatArray = computed_array()
    gap: FloatArray = computed_array()
    C: FloatArray = computed_array()


@record
class FactorPieces:
    """What the derivatives share of one grouping factor; the last axis runs over its levels.

    Attributes
    ----------
    columns : ndarray (q,)
        Which columns of D are the factor's effects.
    W : ndarray (..., q, q, P)
        Of each level, or of each pattern.
    W_each : ndarray (..., q, q, K)
        Of each level or stand-in.
    count : ndarray (P,)
    B : ndarray (..., q, p, K)
        ``Z'V^-1X``.
    s : ndarray (..., q, K)
        ``Z'V^-1(y - X beta)``.
    leverage : ndarray (..., q, q, K) or None
        ``B C^-1 B'``; None under ML.
    """

    columns: IntArray
    W: FloatArray = computed_array()
    W_each: FloatArray = computed_array()
    count: FloatArray = computed_array()
    B: FloatArray = computed_array()
    s: FloatArray = computed_array()
    leverage: FloatArray | None


@record
class Pieces:
    """What the derivatives at one point share.

    Attributes
    ----------
    factors : tuple of FactorPieces
    terms : Terms
    total : ndarray (..., q, q)
        ``sum W [- sum B C^-1 B']``, block diagonal by factor.
    squares : ndarray (..., q, q)
        ``sum s s'``, block diagonal by factor.
    """

    factors: tuple[FactorPieces, ...]
    terms: Terms
    total: FloatArray = computed_array()
    squares: FloatArray = computed_array()

    @property
    def restricted(self) -> bool:
        """Whether the criterion is REML."""
        return self.factors[0].leverage is not None


def pieces(point: Point, terms: Terms, criterion: Criterion) -> Pieces:
    """What :func:`gradient`, :func:`hessian` and :func:`information` are computed from."""
    factors: list[FactorPieces] = []
    totals: list[FloatArray] = []
    squares: list[FloatArray] = []
    for factor in terms.factors:
        projected, W = factor.terms.projected, factor.terms.W
        B = projected[..., :-1, :]
        s = projected[..., -1, :] - np.einsum("...apk,...p->...ak", B, point.beta)
        total, leverage = W @ factor.terms.count, None
        if criterion is Criterion.REML:
            leverage = _leverage(point.C, B)
            total = total - leverage.sum(axis=-1)
        factors.append(
            FactorPieces(factor.columns, W, factor.terms.W_each, factor.terms.count, B, s, leverage)
        )
        totals.append(total)
        squares.append(s @ transposed(s))
    columns = [factor.columns for factor in factors]
    return Pieces(tuple(factors), terms, _placed(totals, columns), _placed(squares, columns))


def _placed(blocks: list[FloatArray], columns: list[IntArray]) -> FloatArray:
    """One matrix (..., q, q) of the factors' blocks."""
    if len(blocks) == 1:
        return blocks[0]
    q = sum(map(len, columns))
    matrix = np.zeros((q, q))
    for block, c in zip(blocks, columns, strict=True):
        matrix[c[:, None], c] = block
    return matrix


def gradient_matrix(point: Point, parts: Pieces) -> FloatArray:
    """G, the derivative of -2 loglik by D: shape (..., q, q), block diagonal by factor."""
    return parts.total - parts.squares / point.sigma2[..., None, None]


def _leverage(C: FloatArray, B: FloatArray) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    inverse = np.linalg.inv(C)[..., None, :, :]
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, np.swapaxes(inverse @ B, -2, -3))
    return product
