"""The objective as steps see it: over the packed factors, beta and sigma2 profiled out.

One record an order of derivative; a step asks for the one that it needs.
"""

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood import derivatives
from lmmkit.likelihood.charts import factor_curvature, product_jacobian
from lmmkit.likelihood.objective import Located, Objective
from lmmkit.linalg import vech
from lmmkit.parameters.checks import Layout
from lmmkit.parameters.packing import split_matrices
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, float_array, record

CONVERGED_BELOW = 1e-6


@record
class Value:
    """The log-likelihood at a packed factor.

    Attributes
    ----------
    x : ndarray (n,)
        The terms' factors T, packed.
    loglik : float
        NaN or -inf is no legal place.
    """

    x: FloatArray = float_array(1)
    loglik: float
    place: Located


@record
class Score:
    """Value and gradient.

    Attributes
    ----------
    value : Value
    score : ndarray (n,)
        ``d loglik / dT = 2 G T``, lower triangles.
    by_delta : ndarray (n,)
        Gradient with respect to the packed relative covariances.
    """

    value: Value
    score: FloatArray = float_array(1)
    by_delta: FloatArray = float_array(1)


def evaluate(objective: Objective, x: FloatArray) -> Value:
    """The log-likelihood at the packed factors ``x``; diagonals may have either sign."""
    factors = split_matrices(x, objective.sizes, triangular=True)
    delta = np.concatenate([np.zeros(0), *(vech(t @ t.T) for t in factors)])
    place = objective.locate_relative(delta)
    return Value(x, float(place.loglik), place)


def differentiate(objective: Objective, value: Value) -> Score:
    """The gradient where ``value`` was computed."""
    p, n = value.place.point.C.shape[-1], len(value.x)
    by_delta = objective.derivative(derivatives.gradient, value.place)[p : p + n]
    return Score(value, by_delta @ _jacobian(objective, value.x), by_delta)


def fisher_information(objective: Objective, score: Score) -> FloatArray:
    """A positive semidefinite (n, n) model of minus the Hessian over the packed factors.

    The expected information, sigma2 profiled out, and the positive part of the curvature that the
    map ``T -> T T'`` brings in: without it, steps overshoot through zero where a variance is zero at
    the optimum, since the information of T vanishes there.
    """
    n = len(score.value.x)
    p = score.value.place.point.C.shape[-1]
    full = objective.derivative(derivatives.information, score.value.place)
    information = full[p : p + n, p : p + n]
    if objective.held_sigma2 is None:
        by_sigma2 = full[p : p + n, -1]
        information = information - np.outer(by_sigma2, by_sigma2) / full[-1, -1]
    jacobian = _jacobian(objective, score.value.x)
    return jacobian.T @ information @ jacobian + _downward_curvature(objective, score.by_delta)


def observed_hessian(objective: Objective, score: Score) -> FloatArray:
    """The Hessian of the log-likelihood over the packed factors, sigma2 and beta profiled out."""
    n = len(score.value.x)
    p = score.value.place.point.C.shape[-1]
    full = objective.derivative(derivatives.hessian, score.value.place)
    kept = np.zeros(len(full), dtype=bool)
    kept[p : p + n] = True
    out = ~kept
    out[-1] = objective.held_sigma2 is None
    across = full[np.ix_(out, kept)]
    inner = full[np.ix_(kept, kept)] - across.T @ np.linalg.solve(full[np.ix_(out, out)], across)
    jacobian = _jacobian(objective, score.value.x)
    curvature = factor_curvature(objective.sizes, score.by_delta)
    return jacobian.T @ inner @ jacobian + curvature


def score_norm(objective: Objective, score: FloatArray) -> float:
    """``|score| / sqrt(m)``: about the distance to the optimum in standard errors."""
    return float(np.linalg.norm(score)) / float(np.sqrt(objective.degrees_of_freedom))


def pack(params: SquareRootParams) -> FloatArray:
    """The packed factors, without beta."""
    return SquareRootParams(params.factor).pack() if params.factor else np.zeros(0)


def unpack(objective: Objective, x: FloatArray) -> SquareRootParams:
    """The record of packed factors, beta profiled."""
    return SquareRootParams.unpack(x, Layout(None, objective.sizes))


def usable_start(objective: Objective, params: SquareRootParams, step: str) -> Score:
    """Value and gradient where a step starts; says so where there is no likelihood there."""
    value = evaluate(objective, pack(params))
    if not np.isfinite(value.loglik):
        raise StrategyError(
            f"{step}: expected a start with a finite log-likelihood, got {value.loglik} at\n{params}"
        )
    return differentiate(objective, value)


def _jacobian(objective: Objective, x: FloatArray) -> FloatArray:
    return product_jacobian(split_matrices(x, objective.sizes, triangular=True))


def _downward_curvature(objective: Objective, by_delta: FloatArray) -> FloatArray:
    """The positive part of minus the curvature of ``T -> T T'`` under the gradient."""
    n = len(by_delta)
    curvature = -factor_curvature(objective.sizes, by_delta)
    values, vectors = np.linalg.eigh(curvature)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
