"""The objective as steps see it: over the packed factors, beta and sigma2 profiled out.

One record an order of derivative; a step asks for the one that it needs.
"""

from typing import Any

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood import derivatives
from lmmkit.likelihood.objective import Located, Objective, term_blocks
from lmmkit.likelihood.pieces import Pieces, gradient_matrix
from lmmkit.linalg import block_diagonal, vech
from lmmkit.optimize.coordinates import (
    Slopes,
    covariances,
    curvature_of,
    jacobian_of,
    score_of,
    slopes_at,
    split,
)
from lmmkit.parameters.square_root import SquareRootParams, positive_diagonal
from lmmkit.records import FloatArray, computed_array, record, same

CONVERGED_BELOW = 1e-6


@record
class Value:
    """The log-likelihood at packed factors.

    Attributes
    ----------
    x : ndarray (n,)
        The terms' factors T, packed; theta of a term that has a covariance structure.
    factors : tuple of ndarray (q_k, q_k)
    loglik : float
        NaN or -inf is no legal place.
    place : Located
    """

    x: FloatArray = computed_array()
    factors: tuple[FloatArray, ...]
    loglik: float
    place: Located


@record
class Score:
    """Value and gradient.

    Attributes
    ----------
    value : Value
    pieces : Pieces
    G : tuple of ndarray (q_k, q_k)
        Derivative of -2 loglik by each term's relative covariance.
    score : ndarray (n,)
        ``d loglik / dT = -G T``, lower triangles; by theta for a structure.
    slopes : tuple
        See :func:`~lmmkit.optimize.coordinates.slopes_at`.
    near : ndarray (n, n) or None
        Minus the Hessian at a place within a thousandth of a standard error, where one is known.
    """

    value: Value
    pieces: Pieces
    G: tuple[FloatArray, ...]
    score: FloatArray = computed_array()
    slopes: Slopes = ()
    near: FloatArray | None = None


def evaluate(objective: Objective, x: FloatArray) -> Value:
    """The log-likelihood at the packed factors ``x``; diagonals may have either sign."""
    factors, products = covariances(objective, x)
    D = products[0] if len(products) == 1 else block_diagonal(products)
    place = objective.locate(D)
    return Value(x, factors, float(place.loglik), place)


def differentiate(objective: Objective, value: Value) -> Score:
    """The gradient where ``value`` was computed."""
    parts = objective.pieces(value.place)
    G = term_blocks(gradient_matrix(parts), objective.sizes)
    slopes = slopes_at(objective, value.x)
    by_term = score_of(value.factors, G, slopes)
    score = by_term[0] if len(by_term) == 1 else np.concatenate([np.zeros(0), *by_term])
    return Score(value, parts, G, -score, slopes)


def cheapest_information(objective: Objective, score: Score) -> derivatives.Quadratic:
    """Expected information; the average one where levels are crossed, which needs no traces."""
    if objective.system.one_factor:
        return derivatives.information(*_at(objective, score))
    return derivatives.average_information(*_at(objective, score))


def fisher_information(objective: Objective, score: Score) -> FloatArray:
    """A positive semidefinite (n, n) model of minus the Hessian over the packed factors.

    The expected (or average) information, sigma2 profiled out, and the positive part of the
    curvature that the map ``T -> T T'`` brings in: without it, steps overshoot through zero where a
    variance is zero at the optimum, since the information of T vanishes there.
    """
    parts = cheapest_information(objective, score)
    inner = parts.delta_delta
    if objective.held_sigma2 is None:
        inner = inner - np.outer(parts.delta_sigma2, parts.delta_sigma2) / parts.sigma2_sigma2
    jacobian = jacobian_of(score.value.factors, score.slopes)
    curvature = -_curvature(objective, score)
    values, vectors = np.linalg.eigh(curvature)
    downward = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return np.asarray(jacobian.T @ inner @ jacobian + downward)


def observed_hessian(objective: Objective, score: Score, *, rough: bool = False) -> FloatArray:
    """The Hessian of the log-likelihood over the packed factors, sigma2 and beta profiled out.

    If ``rough``, to six digits, where that is faster.
    """
    parts = derivatives.hessian(*_at(objective, score), rough=rough)
    correction = np.linalg.solve(parts.beta_beta, parts.beta_delta)
    inner = parts.delta_delta - parts.beta_delta.T @ correction
    if objective.held_sigma2 is None:
        inner = inner - np.outer(parts.delta_sigma2, parts.delta_sigma2) / parts.sigma2_sigma2
    jacobian = jacobian_of(score.value.factors, score.slopes)
    return np.asarray(jacobian.T @ inner @ jacobian + _curvature(objective, score))


def packed_gradient(score: Score) -> FloatArray:
    """The gradient of loglik over the packed relative covariances."""
    parts = [vech(np.diag(np.diagonal(g)) * 0.5 - g) for g in score.G]
    return np.concatenate([np.zeros(0), *parts])


def _curvature(objective: Objective, score: Score) -> FloatArray:
    return curvature_of(objective.sizes, packed_gradient(score), score.slopes)


def _at(objective: Objective, score: Score) -> tuple[Pieces, int, tuple[int, ...]]:
    return score.pieces, objective.degrees_of_freedom, objective.sizes


def score_norm(objective: Objective, score: FloatArray) -> float:
    """``|score| / sqrt(m)``: about the distance to the optimum in standard errors."""
    return float(np.linalg.norm(score)) / float(np.sqrt(objective.degrees_of_freedom))


def pack(params: SquareRootParams) -> FloatArray:
    """The packed factors, without beta; theta of the terms that have it."""
    theta = params.theta or (None,) * len(params.factor)
    parts = [vech(T) if t is None else t for T, t in zip(params.factor, theta, strict=True)]
    return np.concatenate([np.zeros(0), *parts])


def unpack(objective: Objective, x: FloatArray) -> SquareRootParams:
    """The record of packed factors, beta profiled."""
    factors = [positive_diagonal(T) for T in covariances(objective, x)[0]]
    return SquareRootParams(tuple(factors), theta=theta_of(objective, x))


def theta_of(objective: Objective, x: FloatArray) -> tuple[FloatArray | None, ...]:
    """Of packed factors, theta of the terms that have a covariance structure."""
    if not objective.structures:
        return ()
    parts = zip(objective.structures, split(objective, x), strict=True)
    return tuple(None if term is None else part for term, part in parts)


def reached(objective: Objective, params: SquareRootParams, state: Any) -> Score | None:
    """The score at ``params`` that a step's state holds, if it does."""
    score = getattr(state, "score", None)
    if not isinstance(score, Score):
        return None
    there = same(score.value.factors, params.factor)
    there = there or same(unpack(objective, score.value.x).factor, params.factor)
    return score if there else None


def usable_start(objective: Objective, params: SquareRootParams, step: str) -> Score:
    """Value and gradient where a step starts; says so where there is no likelihood there."""
    value = evaluate(objective, pack(params))
    if not np.isfinite(value.loglik):
        raise StrategyError(
            f"{step}: expected a start with a finite log-likelihood, got {value.loglik} at\n"
            f"{params}"
        )
    return differentiate(objective, value)
