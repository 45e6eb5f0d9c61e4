"""Derivatives of correlation matrices and of standard deviations by theta.

A structure that is :class:`~lmmkit.residual.contract.Differentiable` brings its own, as a variance
function does that is :class:`~lmmkit.residual.contract.LogLinear`; of another they are differences
of what it computes, at rows that stand for many.
"""

from collections.abc import Callable

import numpy as np

from lmmkit.records import FloatArray
from lmmkit.residual.contract import Correlation, Differentiable, LogLinear, VarianceFunction

_NARROW = 3e-4
_WIDE = 3e-3


def correlation_slopes(
    structure: Correlation, theta: FloatArray, coordinates: FloatArray
) -> FloatArray:
    """First derivatives (k, ..., n, n) of R for coordinates (..., n, d)."""
    if isinstance(structure, Differentiable):
        return np.asarray(structure.slopes(theta, coordinates))
    return first_differences(lambda t: structure.correlation(t, coordinates), theta)


def correlation_curvature(
    structure: Correlation, theta: FloatArray, coordinates: FloatArray, weights: FloatArray
) -> FloatArray:
    """Second derivatives (k, k) of ``sum(weights * R)`` for symmetric weights (..., n, n)."""
    if isinstance(structure, Differentiable):
        return np.asarray(structure.curvature(theta, coordinates, weights))
    flat = weights.ravel()
    return second_differences(
        lambda t: float(flat @ structure.correlation(t, coordinates).ravel()), theta
    )


def deviation_slopes(
    part: VarianceFunction, theta: FloatArray, covariates: FloatArray
) -> FloatArray:
    """First derivatives (k, N) of the log standard deviations."""
    if isinstance(part, LogLinear):
        return np.asarray(part.slopes(covariates))
    return first_differences(lambda t: part.log_deviation(t, covariates), theta)


def deviation_curvature(
    part: VarianceFunction, theta: FloatArray, covariates: FloatArray, weights: FloatArray
) -> FloatArray:
    """Second derivatives (k, k) of ``sum(weights * log standard deviations)``."""
    if isinstance(part, LogLinear):
        return np.zeros((len(theta), len(theta)))
    return second_differences(lambda t: float(weights @ part.log_deviation(t, covariates)), theta)


def first_differences(
    function: Callable[[FloatArray], FloatArray], theta: FloatArray
) -> FloatArray:
    """First derivatives (k, ...), to about 1e-12 of a function that changes on the scale of 1."""
    each = []
    for step in _NARROW * np.eye(len(theta)):
        near = function(theta + step) - function(theta - step)
        far = function(theta + 2.0 * step) - function(theta - 2.0 * step)
        each.append((8.0 * near - far) / (12.0 * _NARROW))
    return np.array(each).reshape(len(theta), *function(theta).shape)


def second_differences(function: Callable[[FloatArray], float], theta: FloatArray) -> FloatArray:
    """Second derivatives (k, k), to about 1e-9."""
    centre, k = function(theta), len(theta)

    def estimate(size: float) -> FloatArray:
        steps = size * np.eye(k)
        plus, minus = (
            np.array([function(theta + sign * step) for step in steps]) for sign in (1.0, -1.0)
        )
        return mixed_differences(lambda step: function(theta + step), centre, plus, minus, size)

    return np.asarray((4.0 * estimate(_WIDE) - estimate(2.0 * _WIDE)) / 3.0)


def mixed_differences(
    function: Callable[[FloatArray], float],
    centre: float,
    plus: FloatArray,
    minus: FloatArray,
    size: float,
) -> FloatArray:
    """Second derivatives (k, k) from values at the centre and a step ahead and behind of it.

    ``function`` gives the values at other steps from the centre.
    """
    k = len(plus)
    steps = size * np.eye(k)
    matrix = np.diag(plus - 2.0 * centre + minus)
    for i in range(k):
        for j in range(i):
            both = function(steps[i] + steps[j]) + function(-steps[i] - steps[j])
            mixed = both - plus[i] - minus[i] - plus[j] - minus[j] + 2.0 * centre
            matrix[i, j] = matrix[j, i] = 0.5 * mixed
    return np.asarray(matrix / size**2)
