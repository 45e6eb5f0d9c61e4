"""What the derivatives of the log-likelihood at one point are computed from."""

from enum import Enum

import numpy as np

from lmmkit.likelihood.elimination import Elimination
from lmmkit.likelihood.sums import FactorPieces
from lmmkit.likelihood.terms import FactorTerms, Terms, all_terms
from lmmkit.linalg import transposed
from lmmkit.records import FloatArray, IntArray, computed_array, record


class Criterion(Enum):
    """Maximum likelihood, or restricted maximum likelihood."""

    ML = "ML"
    REML = "REML"


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
class Pieces:
    """What the derivatives at one point share.

    Attributes
    ----------
    point : Point
    elimination : Elimination
    restricted : bool
        Whether the criterion is REML.
    total : ndarray (..., q, q)
        ``sum W [- sum B C^-1 B']``, block diagonal by factor.
    squares : ndarray (..., q, q)
        ``sum s s'``, block diagonal by factor.
    terms : Terms or None
        None where the elimination has totals.
    factors : tuple of FactorPieces
        One a factor; () where the elimination has totals.
    """

    point: Point
    elimination: Elimination
    restricted: bool
    total: FloatArray = computed_array()
    squares: FloatArray = computed_array()
    terms: Terms | None = None
    factors: tuple[FactorPieces, ...] = ()


def pieces(point: Point, elimination: Elimination, criterion: Criterion) -> Pieces:
    """What :func:`gradient`, :func:`hessian` and :func:`information` are computed from."""
    restricted = criterion is Criterion.REML
    if elimination.totals is not None:
        sums = elimination.totals
        total = sums.W - sums.leverage(point.C) if restricted else sums.W
        return Pieces(point, elimination, restricted, total, sums.squares(point.beta))
    terms = all_terms(elimination)
    factors = [_of_factor(point, f, restricted) for f in terms.factors]
    q = elimination.D.shape[-1]
    total, squares = np.zeros((q, q)), np.zeros((q, q))
    for factor in factors:
        W = factor.W @ factor.count
        if factor.leverage is not None:
            W = W - factor.leverage.sum(axis=-1)
        total = total + _placed(W, factor.columns, q)
        squares = squares + _placed(factor.s @ transposed(factor.s), factor.columns, q)
    return Pieces(point, elimination, restricted, total, squares, terms, tuple(factors))


def _of_factor(point: Point, factor: FactorTerms, restricted: bool) -> FactorPieces:
    terms = factor.terms
    B = terms.projected[..., :-1, :]
    s = terms.projected[..., -1, :] - np.einsum("...apk,...p->...ak", B, point.beta)
    leverage = _leverage(point.C, B) if restricted else None
    return FactorPieces(factor.columns, terms.W, terms.W_each, terms.count, B, s, leverage)


def _placed(block: FloatArray, columns: IntArray, q: int) -> FloatArray:
    """A factor's block among all columns of D."""
    if len(columns) == q:
        return block
    matrix = np.zeros((q, q))
    matrix[columns[:, None], columns] = block
    return matrix


def gradient_matrix(parts: Pieces) -> FloatArray:
    """G, the derivative of -2 loglik by D: shape (..., q, q), block diagonal by factor."""
    return parts.total - parts.squares / parts.point.sigma2[..., None, None]


def _leverage(C: FloatArray, B: FloatArray) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    inverse = np.linalg.inv(C)[..., None, :, :]
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, np.swapaxes(inverse @ B, -2, -3))
    return product
