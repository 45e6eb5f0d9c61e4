"""Metrics: the matrix that turns a gradient into a direction of ascent."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.coordinates import units
from lmmkit.optimize.evaluate import Score, fisher_information, observed_hessian
from lmmkit.records import FloatArray

Metric: TypeAlias = Callable[[Objective, Score], FloatArray]
"""``metric(objective, score)`` is a positive definite (n, n) matrix."""

_RIDGE = 1e-10
_FLAT = 1e-8
_WIDE = 1e-12


def euclidean(objective: Objective, score: Score) -> FloatArray:
    """The identity times m: the score's own scale, so that a unit step is about the right one."""
    return objective.degrees_of_freedom * np.eye(len(score.score))


def fisher(objective: Objective, score: Score) -> FloatArray:
    """The expected information: steepest ascent in it is Fisher scoring."""
    return _positive(objective, fisher_information(objective, score))


def newton(objective: Objective, score: Score) -> FloatArray:
    """Minus the Hessian where that is positive definite, the expected information elsewhere."""
    return positive_or_fisher(-observed_hessian(objective, score), objective, score)


def positive_or_fisher(observed: FloatArray, objective: Objective, score: Score) -> FloatArray:
    """``observed`` where it is positive definite, the expected information elsewhere."""
    smallest = np.linalg.eigvalsh(observed)[:1]
    positive = smallest.size == 0 or smallest[0] > _RIDGE * np.abs(observed).max()
    return observed if positive else fisher(objective, score)


def absolute(objective: Objective, score: Score) -> FloatArray:
    """Minus the Hessian with the absolute values of its eigenvalues, in units of information.

    Directions in which the log-likelihood is flat, as it is far out where a covariance structure
    nears its boundary, are followed in long steps.
    """
    information = _positive(objective, fisher_information(objective, score))
    unit = np.sqrt(np.diagonal(information))
    scale = np.outer(unit, unit)
    values, vectors = np.linalg.eigh(-observed_hessian(objective, score) / scale)
    values = np.maximum(np.abs(values), _FLAT)
    return np.asarray(((vectors * values) @ vectors.T) * scale)


def _positive(objective: Objective, matrix: FloatArray) -> FloatArray:
    """A multiple of the diagonal is added, small beside it: flat directions stay where they are.

    Where rounding has made a diagonal element negative, zero counts in its place.
    """
    own = np.diagonal(matrix)
    diagonal = np.maximum(own, 0.0)
    most = diagonal.max(initial=0.0)
    if objective.structures and (diagonal <= _WIDE * most).any():
        unit = units(objective)
        most = ((diagonal * unit**2).max() or objective.degrees_of_freedom) / unit**2
    return matrix + np.diag(diagonal - own + _RIDGE * (diagonal + most))
