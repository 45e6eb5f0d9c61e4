"""Value and derivatives of the log-likelihood in relative coordinates ``(beta, delta, sigma2)``.

delta is the packed lower triangle of each term's relative covariance D, in standard coordinates; E
and F are directions of D. With ``r = y - X beta``, ``C = X'V^-1X``, ``B = Z'V^-1X``,
``s = Z'V^-1 r`` and ``rss = r'V^-1 r``,

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
from lmmkit.records import FloatArray, adopt, computed_array, record


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
    """What the derivatives at one point share; the last axis runs over patterns or groups.

    Attributes
    ----------
    W : ndarray (..., q, q, P)
    W_each : ndarray (..., q, q, K)
    count : ndarray (P,)
    B : ndarray (..., q, p, K)
        ``Z'V^-1X`` of each group or stand-in.
    s : ndarray (..., q, K)
        ``Z'V^-1(y - X beta)``.
    leverage : ndarray (..., q, q, K) or None
        ``B C^-1 B'``; None under ML.
    total : ndarray (..., q, q)
        ``sum W [- sum B C^-1 B']``.
    """

    W: FloatArray = computed_array()
    W_each: FloatArray = computed_array()
    count: FloatArray = computed_array()
    B: FloatArray = computed_array()
    s: FloatArray = computed_array()
    leverage: FloatArray | None
    total: FloatArray = computed_array()


@record
class Quadratic:
    """Blocks of a symmetric matrix over (beta, delta, sigma2)."""

    beta_beta: FloatArray = computed_array()
    beta_delta: FloatArray = computed_array()
    beta_sigma2: FloatArray = computed_array()
    delta_delta: FloatArray = computed_array()
    delta_sigma2: FloatArray = computed_array()
    sigma2_sigma2: FloatArray = computed_array()

    def assembled(self) -> FloatArray:
        """The matrix (..., p + n + 1, p + n + 1)."""
        p, n = self.beta_delta.shape[-2:]
        lead = np.broadcast_shapes(
            self.beta_beta.shape[:-2], self.delta_delta.shape[:-2], self.delta_sigma2.shape[:-1]
        )
        matrix = np.empty((*lead, p + n + 1, p + n + 1))
        matrix[..., :p, :p] = self.beta_beta
        matrix[..., :p, p:-1] = self.beta_delta
        matrix[..., p:-1, :p] = _t(self.beta_delta)
        matrix[..., :p, -1] = matrix[..., -1, :p] = self.beta_sigma2
        matrix[..., p:-1, p:-1] = self.delta_delta
        matrix[..., p:-1, -1] = matrix[..., -1, p:-1] = self.delta_sigma2
        matrix[..., -1, -1] = self.sigma2_sigma2
        return matrix


def pieces(point: Point, terms: GroupTerms, criterion: Criterion) -> Pieces:
    """What :func:`gradient`, :func:`hessian` and :func:`information` are computed from."""
    B = terms.projected[..., :-1, :]
    fitted = np.einsum("...apk,...p->...ak", B, point.beta)
    total = terms.W @ terms.count
    leverage = None
    if criterion is Criterion.REML:
        leverage = _leverage(point.C, B)
        total = total - leverage.sum(axis=-1)
    s = terms.projected[..., -1, :] - fitted
    return Pieces(terms.W, terms.W_each, terms.count, B, s, leverage, total)


def gradient_matrix(point: Point, parts: Pieces) -> FloatArray:
    """G, the derivative of -2 loglik by D: shape (..., q, q)."""
    return parts.total - (parts.s @ _t(parts.s)) / point.sigma2[..., None, None]


def gradient(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Derivative of loglik with respect to (beta, delta, sigma2): shape (..., p + n + 1)."""
    sigma2 = point.sigma2
    by_delta = -0.5 * (_vec(gradient_matrix(point, parts)) @ directions(sizes))
    by_sigma2 = 0.5 * (point.rss / sigma2 - m) / sigma2
    return np.concatenate([point.gap / sigma2[..., None], by_delta, by_sigma2[..., None]], axis=-1)


def hessian(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Second derivative of loglik with respect to (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    s, B = parts.s, parts.B
    outer = s[..., :, None, :] * s[..., None, :, :] / sigma2[..., None]
    by_directions = _sandwich(parts.W * parts.count, parts.W, sizes)
    if parts.leverage is not None:
        outer = outer + parts.leverage
        by_directions = by_directions + _determinant_part(point.C, B, sizes)
    by_directions = by_directions - 2.0 * _sandwich(outer, parts.W_each, sizes)
    q, p, groups = B.shape[-3:]
    Bs = B.reshape(*B.shape[:-3], q * p, groups) @ _t(s)
    beta_delta = np.moveaxis(Bs.reshape(*Bs.shape[:-2], q, p, q), -2, -3)
    return Quadratic(
        beta_beta=-point.C / sigma2,
        beta_delta=-(beta_delta.reshape(*Bs.shape[:-2], p, q * q) @ across) / sigma2,
        beta_sigma2=-point.gap / sigma2[..., 0] ** 2,
        delta_delta=0.5 * by_directions,
        delta_sigma2=-0.5 * (_vec(s @ _t(s)) @ across) / sigma2[..., 0] ** 2,
        sigma2_sigma2=-0.5 * (2.0 * point.rss / point.sigma2 - m) / point.sigma2**2,
    )


def information(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Expected information of (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    by_directions = _sandwich(parts.W * parts.count, parts.W, sizes)
    if parts.leverage is not None:
        by_directions = (
            by_directions
            - 2.0 * _sandwich(parts.leverage, parts.W_each, sizes)
            + _determinant_part(point.C, parts.B, sizes)
        )
    return Quadratic(
        beta_beta=point.C / sigma2,
        beta_delta=np.zeros((*point.C.shape[:-1], across.shape[1])),
        beta_sigma2=np.zeros_like(point.gap),
        delta_delta=0.5 * by_directions,
        delta_sigma2=0.5 * (_vec(parts.total) @ across) / sigma2[..., 0],
        sigma2_sigma2=0.5 * m / point.sigma2**2,
    )


def _leverage(C: FloatArray, B: FloatArray) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    inverse = np.linalg.inv(C)[..., None, :, :]
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, np.swapaxes(inverse @ B, -2, -3))
    return product


def _sandwich(R: FloatArray, W: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(R E W F)`` over the last axis, for all directions E, F: shape (..., n, n).

    Directions lie inside terms, so that of R and W (..., q, q, K) only the block of E's term and
    F's is needed at a time.
    """
    blocks = _terms_of(sizes)
    lead = np.broadcast_shapes(R.shape[:-3], W.shape[:-3])
    n = blocks[-1][1].stop if blocks else 0
    result = np.empty((*lead, n, n))
    for rows_e, place_e in blocks:
        for rows_f, place_f in blocks:
            if place_f.start > place_e.start:
                break
            e, f = rows_e.stop - rows_e.start, rows_f.stop - rows_f.start
            left = R[..., rows_e, rows_f, :].reshape(*R.shape[:-3], e * f, R.shape[-1])
            right = W[..., rows_e, rows_f, :].reshape(*W.shape[:-3], e * f, W.shape[-1])
            products = (left @ _t(right)).reshape(*lead, e, f, e, f)
            pairs = np.einsum("...iljk->...ijkl", products).reshape(*lead, e * e, f * f)
            block = duplication(e).T @ pairs @ duplication(f)
            result[..., place_e, place_f] = block
            result[..., place_f, place_e] = _t(block)
    return result


def _determinant_part(C: FloatArray, B: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """``tr(C^-1 sum B'E B C^-1 sum B'F B)`` for all directions E, F: shape (..., n, n)."""
    p, groups = B.shape[-2:]
    lead = B.shape[:-3]
    sums: list[FloatArray] = [np.zeros((*lead, p, p, 0))]
    for rows, _ in _terms_of(sizes):
        e = rows.stop - rows.start
        flat = B[..., rows, :, :].reshape(*lead, e * p, groups)
        pairs = np.einsum("...iajb->...abij", (flat @ _t(flat)).reshape(*lead, e, p, e, p))
        sums.append(pairs.reshape(*lead, p, p, e * e) @ duplication(e))
    by_direction = np.moveaxis(np.concatenate(sums, axis=-1), -1, -3)
    solved = np.linalg.solve(C[..., None, :, :], by_direction)
    product: FloatArray = np.einsum("...iab,...jba->...ij", solved, solved)
    return product


@cache
def _terms_of(sizes: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """Each term's rows of Z's columns, and its place among the directions."""
    found, row, place = [], 0, 0
    for size in sizes:
        end = place + triangle_size(size)
        found.append((slice(row, row + size), slice(place, end)))
        row, place = row + size, end
    return tuple(found)


def _t(a: FloatArray) -> FloatArray:
    return np.swapaxes(a, -1, -2)


def _vec(a: FloatArray) -> FloatArray:
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
