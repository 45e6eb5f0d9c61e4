"""The log-likelihood's derivatives by theta, in closed form, from the sums of patterns.

With ``L L' = R``, ``V^-1 = A'A`` for ``A = L^-1 S``, S the reciprocal standard deviations. Let
``U_i = A (dV / d theta_i) A'``. A function of C and log|V| that changes by ``tr(F dC)`` has, for
each pattern and its count g, ``M = A (sum_st F X_s X_t') A' + (g / 2) I``, and

    gradient_i  = -tr(U_i M)
    hessian_ij  = tr(U_i U_j (2 M - (g / 2) I)) - tr(A V_ij A' M) + what F changes by.
"""

import functools

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.pieces import Criterion
from lmmkit.linalg import block_diagonal, transposed
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray
from lmmkit.residual.contract import VarianceFunction
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.profile import Differences
from lmmkit.residual.slopes import (
    correlation_curvature,
    correlation_slopes,
    first_differences,
    second_differences,
)
from lmmkit.residual.sums import PatternSums

_AT_A_TIME = 2**21


def expand(
    model: ResidualModel, theta: FloatArray, objective: Objective, at: NaturalParams
) -> Differences:
    """Derivatives at theta of a model of pattern sums, and across by ``(beta, sigma2)``.

    Parameters
    ----------
    model : ResidualModel
    theta : ndarray (k,)
    objective : Objective
        At theta; fixed effects and sigma2 may be held.
    at : NaturalParams
        beta and sigma2, in the objective's standard coordinates.
    """
    assert at.beta is not None
    sigma2, moments = float(at.sigma2), objective.moments
    into = _into(objective, model)
    # residuals are [X y] r
    r = into @ np.append(-at.beta, 1.0)
    effects = into[:, :-1]
    restricted = objective.criterion is Criterion.REML
    F = np.outer(r, r) / -(2.0 * sigma2)
    if restricted:
        F -= 0.5 * effects @ np.linalg.solve(moments.xx, effects.T)
    k = len(theta)
    by_theta, gradient, hessian = np.zeros((k, *F.shape)), np.zeros(k), np.zeros((k, k))
    for sums in model.sums:
        patterns, n = sums.shape
        step = max(1, _AT_A_TIME // (max(k, 1) * n * n))
        for start in range(0, patterns, step):
            some = sums.some(slice(start, min(start + step, patterns)))
            products, first, second = _of_sums(model, some, theta, F)
            by_theta += products
            gradient += first
            hessian += second
    if restricted:
        inside = np.linalg.solve(moments.xx, effects.T @ by_theta @ effects)
        hessian += 0.5 * np.einsum("iab,jba->ij", inside, inside)
    moved = by_theta @ r
    by_sigma2 = moved @ r / (2.0 * sigma2**2)
    return Differences(gradient, hessian, np.column_stack([moved @ effects / sigma2, by_sigma2]))


def _into(objective: Objective, model: ResidualModel) -> FloatArray:
    """What takes ``[X y]`` in the model's coordinates to the objective's, (p + 1, p' + 1)."""
    old, new = model.basis, objective.moments.basis
    p, p_free = new.x.shape
    matrix = np.zeros((p + 1, p_free + 1))
    matrix[:-1] = np.linalg.solve(old.x, np.column_stack([new.x, old.origin - new.origin]))
    matrix[-1, -1] = 1.0
    return matrix


def _of_sums(
    model: ResidualModel, sums: PatternSums, theta: FloatArray, F: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of C, the gradient, and the Hessian less what F changes by."""
    correlation, own = model.residual.correlation, model.split(theta)[0]
    L = sums.factor(correlation, own)
    assert L is not None, "derivatives are taken where there is a likelihood"
    n = L.shape[-1]
    inverse = np.linalg.inv(L)
    A = inverse * np.exp(-model.log_deviation_of(theta, sums))[:, None, :]
    half = 0.5 * sums.count[:, None, None] * np.eye(n)
    M = A @ sums.contracted(F) @ transposed(A) + half
    deviations = _deviation_slopes(model, sums, theta)
    slopes, U = np.zeros((0, *L.shape)), np.zeros((len(theta), *L.shape))
    v = len(theta) - len(deviations)
    if v and n > 1:
        assert correlation is not None
        slopes = correlation_slopes(correlation, own, sums.coordinates)
        np.matmul(inverse @ slopes, transposed(inverse), out=U[:v])
    # dV / d theta = diag(d) V + V diag(d)
    scaled = (inverse * deviations[..., None, :]) @ L
    U[v:] = scaled + transposed(scaled)
    by_theta = sums.cross_products(-transposed(A) @ U @ A)
    flat = U.reshape(len(U), -1)
    gradient = -flat @ M.ravel()
    hessian = flat @ (U @ (2.0 * M - half)).reshape(len(U), -1).T
    # tr(A V_ij A' M) = sum_st G_st (S V_ij S)_st
    G = transposed(inverse) @ M @ inverse
    if len(slopes):
        assert correlation is not None
        hessian[:v, :v] -= correlation_curvature(correlation, own, sums.coordinates, G)
        cross = -2.0 * np.einsum("apn,ipn->ai", deviations, (G * slopes).sum(axis=-1))
        hessian[v:, :v] += cross
        hessian[:v, v:] += cross.T
    if len(deviations):
        weighted = G * (L @ transposed(L))
        row = weighted.sum(axis=-1)
        spread = deviations * row + (weighted @ deviations[..., None])[..., 0]
        hessian[v:, v:] -= 2.0 * np.einsum("apn,bpn->ab", deviations, spread)
        hessian[v:, v:] -= _deviation_curvature(model, sums, theta, 2.0 * row)
    return by_theta, gradient, hessian


def _deviation_slopes(model: ResidualModel, sums: PatternSums, theta: FloatArray) -> FloatArray:
    """Derivatives (v, P, n) of the log standard deviations by theta of the variance functions."""
    shape = sums.shape
    each = [
        first_differences(functools.partial(_log_deviation, part, seen), own).reshape(-1, *shape)
        for part, own, seen in model.variance_parts(theta, sums.covariates)
    ]
    return np.concatenate([np.zeros((0, *shape)), *each])


def _deviation_curvature(
    model: ResidualModel, sums: PatternSums, theta: FloatArray, weights: FloatArray
) -> FloatArray:
    """Second derivatives (v, v) of ``sum(weights * log standard deviations)``."""

    def total(part: VarianceFunction, seen: FloatArray, own: FloatArray) -> float:
        return float(weights.ravel() @ part.log_deviation(own, seen))

    return block_diagonal(
        [
            second_differences(functools.partial(total, part, seen), own)
            for part, own, seen in model.variance_parts(theta, sums.covariates)
        ]
    )


def _log_deviation(part: VarianceFunction, seen: FloatArray, own: FloatArray) -> FloatArray:
    return part.log_deviation(own, seen)
