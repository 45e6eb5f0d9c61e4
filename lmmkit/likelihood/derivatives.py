"""Value and derivatives of the log-likelihood in relative coordinates ``(beta, delta, sigma2)``.

delta is the packed lower triangle of each term's relative covariance D, in standard coordinates; E
and F are directions of D. With ``C = X'V^-1X``, ``B = Z'V^-1X``, ``s = Z'V^-1(y - X beta)`` and ``rss = (y - X
beta)'V^-1(y - X beta)``,

    -2 loglik = m log(2 pi sigma2) + sum log|V| + rss / sigma2 [+ log|C|] - sum log w,

m = N, or N - p under REML (in brackets; beta enters the restricted likelihood through rss alone).
    d/dE      = <G, E>,  G = sum W - sum s s' / sigma2 [- sum B C^-1 B']
    d2/dE dF  = -sum tr(W E W F) + 2/sigma2 sum s'E W F s
                [+ 2 tr(C^-1 sum B'E W F B) - tr(C^-1 sum B'E B C^-1 sum B'F B)]
    d2/dE dbeta = 2/sigma2 sum B'E s
and the expected information of E, F is half of
    sum tr(W E W F) [- 2 tr(C^-1 sum B'E W F B) + tr(C^-1 sum B'E B C^-1 sum B'F B)].
"""

from enum import Enum
from functools import cache

import numpy as np

from lmmkit.likelihood.grouped import GroupTerms
from lmmkit.linalg import duplication
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, float_array, record


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
        matrix[block, block, column:end] = duplication(size).reshape(size, size, -1)
        row, column = row + size, end
    return matrix.reshape(q * q, -1)


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

    beta: FloatArray = float_array(finite=False)
    sigma2: FloatArray = float_array(finite=False)
    rss: FloatArray = float_array(finite=False)
    gap: FloatArray = float_array(finite=False)
    C: FloatArray = float_array(finite=False)


@record
class SecondOrder:
    """Gradient and a symmetric matrix over ``(beta, delta, sigma2)``."""

    gradient: FloatArray = float_array(finite=False)
    matrix: FloatArray = float_array(finite=False)


def gradient(point: Point, terms: GroupTerms, criterion: Criterion, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Derivative of loglik with respect to (beta, delta, sigma2): shape (..., p + n + 1)."""
    sigma2 = point.sigma2
    s = residual_terms(point, terms)
    G = (terms.W * terms.count).sum(axis=-1) - (s @ _t(s)) / sigma2[..., None, None]
    if criterion is Criterion.REML:
        G = G - _leverage(point, terms).sum(axis=-1)
    by_direction = _vec(G) @ directions(sizes)
    by_sigma2 = m / sigma2 - point.rss / sigma2**2
    return np.concatenate(
        [point.gap / sigma2[..., None], -0.5 * by_direction, -0.5 * by_sigma2[..., None]], axis=-1
    )


def hessian(point: Point, terms: GroupTerms, criterion: Criterion, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Second derivative of loglik with respect to (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    s = residual_terms(point, terms)
    across = directions(sizes)
    outer = s[..., :, None, :] * s[..., None, :, :] / sigma2[..., None]
    by_directions = -_trace_wewf(terms)
    if criterion is Criterion.REML:
        outer = outer + _leverage(point, terms)
        by_directions = by_directions - _determinant_part(point, terms)
    by_directions = by_directions + 2.0 * _sandwich(outer, terms)
    B = terms.projected[..., :-1, :]
    q, p, groups = B.shape[-3:]
    Bs = B.reshape(*B.shape[:-3], q * p, groups) @ _t(s)
    beta_direction = np.moveaxis(Bs.reshape(*Bs.shape[:-2], q, p, q), -2, -3)
    beta_direction = beta_direction.reshape(*Bs.shape[:-2], p, q * q) @ across
    direction_sigma2 = _vec(s @ _t(s)) @ across / sigma2[..., 0] ** 2
    sigma2_sigma2 = (2.0 * point.rss / point.sigma2 - m) / point.sigma2**2
    return _assemble(
        -2.0 * point.C / sigma2,
        -2.0 * beta_direction / sigma2,
        -2.0 * point.gap / sigma2[..., 0] ** 2,
        -(across.T @ by_directions @ across),
        -direction_sigma2,
        -sigma2_sigma2,
    )


def information(point: Point, terms: GroupTerms, criterion: Criterion, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Expected information of (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    by_directions = _trace_wewf(terms)
    G = (terms.W * terms.count).sum(axis=-1)
    if criterion is Criterion.REML:
        leverage = _leverage(point, terms)
        by_directions = (
            by_directions - 2.0 * _sandwich(leverage, terms) + _determinant_part(point, terms)
        )
        G = G - leverage.sum(axis=-1)
    p = point.C.shape[-1]
    zero = np.zeros((*point.C.shape[:-2], p, across.shape[1]))
    return _assemble(
        2.0 * point.C / sigma2,
        zero,
        np.zeros_like(point.gap),
        across.T @ by_directions @ across,
        (_vec(G) @ across) / sigma2[..., 0],
        m / point.sigma2**2,
    )


def residual_terms(point: Point, terms: GroupTerms) -> FloatArray:
    """s of every group or stand-in: shape (..., q, K)."""
    fitted: FloatArray = np.einsum("...apk,...p->...ak", terms.projected[..., :-1, :], point.beta)
    return terms.projected[..., -1, :] - fitted


def _leverage(point: Point, terms: GroupTerms) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    B = terms.projected[..., :-1, :]
    q, p, groups = B.shape[-3:]
    solved = np.linalg.solve(
        point.C, np.moveaxis(B, -2, -3).reshape(*B.shape[:-3], p, q * groups)
    ).reshape(*B.shape[:-3], p, q, groups)
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, solved)
    return product


def _trace_wewf(terms: GroupTerms) -> FloatArray:
    """``sum tr(W E W F)`` for E = e_i e_j', F = e_k e_l': shape (..., q*q, q*q)."""
    q = terms.W.shape[-2]
    W = terms.W.reshape(*terms.W.shape[:-3], q * q, -1)
    products = ((W * terms.count) @ _t(W)).reshape(*W.shape[:-2], q, q, q, q)
    return _pairs(np.einsum("...lijk->...ijkl", products))


def _sandwich(outer: FloatArray, terms: GroupTerms) -> FloatArray:
    """``sum R_il W_jk`` for R (..., q, q, K): ``s'E W F s`` where R = s s'."""
    q = outer.shape[-2]
    R = outer.reshape(*outer.shape[:-3], q * q, -1)
    W = terms.W_each.reshape(*terms.W_each.shape[:-3], q * q, -1)
    products = (R @ _t(W)).reshape(*R.shape[:-2], q, q, q, q)
    return _pairs(np.einsum("...iljk->...ijkl", products))


def _determinant_part(point: Point, terms: GroupTerms) -> FloatArray:
    """``tr(C^-1 sum B'E B C^-1 sum B'F B)`` for E = e_i e_j', F = e_k e_l'."""
    B = terms.projected[..., :-1, :]
    q, p, groups = B.shape[-3:]
    flat = B.reshape(*B.shape[:-3], q * p, groups)
    sums = (flat @ _t(flat)).reshape(*flat.shape[:-2], q, p, q, p)
    pairs = np.einsum("...iajb->...ijab", sums)
    solved = np.linalg.solve(point.C[..., None, None, :, :], pairs)
    return _pairs(np.einsum("...ijab,...klba->...ijkl", solved, solved))


def _assemble(
    beta_beta: FloatArray,
    beta_delta: FloatArray,
    beta_sigma2: FloatArray,
    delta_delta: FloatArray,
    delta_sigma2: FloatArray,
    sigma2_sigma2: FloatArray,
) -> FloatArray:
    """Half of the symmetric matrix with these blocks."""
    p, n = beta_delta.shape[-2:]
    matrix = np.empty((*beta_beta.shape[:-2], p + n + 1, p + n + 1))
    matrix[..., :p, :p] = beta_beta
    matrix[..., :p, p:-1] = beta_delta
    matrix[..., p:-1, :p] = _t(beta_delta)
    matrix[..., :p, -1] = matrix[..., -1, :p] = beta_sigma2
    matrix[..., p:-1, p:-1] = delta_delta
    matrix[..., p:-1, -1] = matrix[..., -1, p:-1] = delta_sigma2
    matrix[..., -1, -1] = sigma2_sigma2
    return 0.5 * matrix


def _t(a: FloatArray) -> FloatArray:
    return np.swapaxes(a, -1, -2)


def _vec(a: FloatArray) -> FloatArray:
    return a.reshape(*a.shape[:-2], -1)


def _pairs(a: FloatArray) -> FloatArray:
    q = a.shape[-1]
    return a.reshape(*a.shape[:-4], q * q, q * q)
