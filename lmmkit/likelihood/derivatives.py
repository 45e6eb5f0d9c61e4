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

import numpy as np

from lmmkit.likelihood.directional import directional
from lmmkit.likelihood.directions import directions
from lmmkit.likelihood.pieces import Pieces, gradient_matrix
from lmmkit.linalg import transposed
from lmmkit.records import FloatArray, computed_array, record


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
        matrix[..., p:-1, :p] = transposed(self.beta_delta)
        matrix[..., :p, -1] = matrix[..., -1, :p] = self.beta_sigma2
        matrix[..., p:-1, p:-1] = self.delta_delta
        matrix[..., p:-1, -1] = matrix[..., -1, p:-1] = self.delta_sigma2
        matrix[..., -1, -1] = self.sigma2_sigma2
        return matrix


def gradient(parts: Pieces, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Derivative of loglik with respect to (beta, delta, sigma2): shape (..., p + n + 1)."""
    point, sigma2 = parts.point, parts.point.sigma2
    by_delta = -0.5 * (_vec(gradient_matrix(parts)) @ directions(sizes))
    by_sigma2 = 0.5 * (point.rss / sigma2 - m) / sigma2
    return np.concatenate([point.gap / sigma2[..., None], by_delta, by_sigma2[..., None]], axis=-1)


def hessian(parts: Pieces, m: int, sizes: tuple[int, ...], *, rough: bool = False) -> Quadratic:
    """Second derivative of loglik by (beta, delta, sigma2); if rough, to six digits."""
    point, sigma2 = parts.point, parts.point.sigma2[..., None, None]
    sums = directional(parts, sizes, rough=rough)
    by_directions = sums.trace - 2.0 * sums.inner + sums.determinant
    return Quadratic(
        beta_beta=-point.C / sigma2,
        beta_delta=-sums.beta_delta / sigma2,
        beta_sigma2=-point.gap / sigma2[..., 0] ** 2,
        delta_delta=0.5 * by_directions,
        delta_sigma2=-0.5 * (_vec(parts.squares) @ directions(sizes)) / sigma2[..., 0] ** 2,
        sigma2_sigma2=-0.5 * (2.0 * point.rss / point.sigma2 - m) / point.sigma2**2,
    )


def information(parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Expected information of (beta, delta, sigma2)."""
    point, sigma2 = parts.point, parts.point.sigma2[..., None, None]
    sums = directional(parts, sizes, residual=False)
    return Quadratic(
        beta_beta=point.C / sigma2,
        beta_delta=np.zeros_like(sums.beta_delta),
        beta_sigma2=np.zeros_like(point.gap),
        delta_delta=0.5 * (sums.trace - 2.0 * sums.inner + sums.determinant),
        delta_sigma2=0.5 * (_vec(parts.total) @ directions(sizes)) / sigma2[..., 0],
        sigma2_sigma2=0.5 * m / point.sigma2**2,
    )


def average_information(parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Average of observed and expected information of (beta, delta, sigma2), at the best beta.

    ``r'V^-1 (ZEZ') P (ZFZ') V^-1 r / (2 sigma2)`` for directions E, F of D: no traces. Where the
    averaged terms agree only at an optimum, the observed ones are taken.
    """
    point, sigma2 = parts.point, parts.point.sigma2[..., None, None]
    sums = directional(parts, sizes, trace=False, leverage=False)
    mixed = sums.beta_delta
    explained = transposed(mixed) @ np.linalg.solve(point.C, mixed) / sigma2
    return Quadratic(
        beta_beta=point.C / sigma2,
        beta_delta=np.zeros_like(mixed),
        beta_sigma2=np.zeros_like(point.gap),
        delta_delta=0.5 * (sums.inner - explained),
        delta_sigma2=0.5 * (_vec(parts.squares) @ directions(sizes)) / sigma2[..., 0] ** 2,
        sigma2_sigma2=0.5 * point.rss / point.sigma2**3,
    )


def _vec(a: FloatArray) -> FloatArray:
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
