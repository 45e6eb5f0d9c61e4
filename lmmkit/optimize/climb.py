"""Newton's method on the Lagrangian: from any variables to a maximum that meets the constraints.

The variables are those of :mod:`lmmkit.optimize.constrained_problem`. A step is Newton's,
restricted to the constraints' tangent space (absolute eigenvalues where the reduced Hessian is
indefinite); afterwards Gauss-Newton steps on the constraints alone, which cost no likelihood, bring
the point back to them. Every accepted point is feasible, so that a line search on the
log-likelihood suffices.
"""

from collections.abc import Callable

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.optimize.certificate import count_signs
from lmmkit.optimize.constrained_problem import (
    Problem,
    equalities,
    standard_at,
    standard_by_x,
    standard_curvature,
)
from lmmkit.optimize.step import Report, Status
from lmmkit.records import FloatArray, float_array, record

_TOLERANCE = 1e-9
_NEAR = 1e-5
_SLOW = 0.3
_FEASIBLE = 1e-13
_ROUNDING = 1e-14
_IDLE = 10


@record
class Climbed:
    """Where :func:`climb` ended; the distance to the maximum is in standard errors."""

    loglik: float
    distance: float
    inertia: tuple[int, int, int]
    reports: tuple[Report, ...]
    x: FloatArray = float_array(1)


def climb(
    problem: Problem,
    start: FloatArray,
    max_iterations: int = 200,
    progress: Callable[[int, Report], None] | None = None,
) -> Climbed:
    """The maximum subject to the problem's constraints, from variables that need not satisfy them.

    Far out in a direction in which the log-likelihood levels off, as that of a standard deviation's
    logarithm does, steps no longer shorten the distance: near is close enough there.

    Raises
    ------
    ParameterError
        Where no covariance satisfies the constraints, or none near ``start`` has a likelihood.
    """
    x = _restore(problem, start)
    loglik = _loglik(problem, x)
    if not np.isfinite(loglik):
        raise ParameterError(
            "the held values lead to covariances that are too large for a likelihood; give a start "
            "that is nearer to them"
        )
    reports: list[Report] = []
    status, idle, before = Status.OUT_OF_ITERATIONS, 0, np.inf
    while len(reports) < max_iterations:
        direction, distance, inertia = _newton(problem, x)
        if distance <= _TOLERANCE or _SLOW * before < distance <= _NEAR:
            status = Status.CONVERGED
            break
        before = distance
        length, moved, after = _search(problem, x, loglik, direction)
        idle = idle + 1 if after - loglik <= _ROUNDING * abs(loglik) else 0
        if length == 0.0 or idle == _IDLE:
            status = Status.CONVERGED if distance <= _NEAR else Status.STALLED
            break
        x, loglik = moved, after
        reports.append(Report(Status.RUNNING, "constrained newton", loglik, distance, length))
        if progress is not None:
            progress(len(reports), reports[-1])
    reports.append(Report(status, "constrained newton", loglik, distance, 0.0))
    return Climbed(loglik, distance, inertia, tuple(reports), x)


def _loglik(problem: Problem, x: FloatArray) -> float:
    return float(problem.objective.loglik(standard_at(problem, x)))


def _restore(problem: Problem, x: FloatArray) -> FloatArray:
    """The nearby point that satisfies the constraints, by Gauss-Newton steps; sigma2 held stays."""
    moves = np.append(np.ones(len(x) - 1), problem.objective.held_sigma2 is None)
    for _ in range(60):
        found = equalities(problem, x)
        h = np.array([e.residual for e in found])
        if np.abs(h).max(initial=0.0) <= _FEASIBLE * (1.0 + np.abs(x).max()):
            return x
        A = np.array([e.gradient for e in found])
        step = np.linalg.lstsq(A * moves, h, rcond=1e-12)[0]
        x = x - step * min(1.0, 2.0 / float(np.abs(step[-1:]).max(initial=1e-300)))
    if np.abs(h).max() > 1e-8 * (1.0 + np.abs(x).max()):
        raise ParameterError(
            "no covariance matrix satisfies the held values: together they are not positive "
            "semidefinite, or contradict one another"
        )
    return x


def _newton(problem: Problem, x: FloatArray) -> tuple[FloatArray, float, tuple[int, int, int]]:
    """A step of ascent in the tangent space, its length in standard errors, the inertia."""
    objective = problem.objective
    params = standard_at(problem, x)
    free = np.ones(len(x), dtype=bool)
    free[-1] = objective.held_sigma2 is None
    by_x = standard_by_x(problem, x)
    score = objective.score(params)
    gradient = score @ by_x
    hessian = by_x.T @ objective.hessian(params) @ by_x + standard_curvature(problem, x, score)
    found = equalities(problem, x)
    A = np.array([e.gradient for e in found]).reshape(len(found), len(x))[:, free]
    multipliers = np.linalg.lstsq(A.T, gradient[free], rcond=1e-12)[0]
    for multiplier, equality in zip(multipliers, found, strict=True):
        hessian = hessian - multiplier * equality.curvature
    tangent = _null_space(A)
    reduced = tangent.T @ hessian[np.ix_(free, free)] @ tangent
    slope = tangent.T @ gradient[free]
    values, vectors = np.linalg.eigh(-reduced)
    floor = 1e-10 * np.abs(values).max(initial=0.0) + 1e-300
    step = vectors @ ((vectors.T @ slope) / np.maximum(np.abs(values), floor))
    direction = np.zeros(len(x))
    direction[free] = tangent @ step
    flat = 1e-7 * np.abs(values).max(initial=0.0)
    inertia = count_signs(values, float(flat))
    return direction, float(np.sqrt(max(step @ slope, 0.0))), inertia


def _null_space(A: FloatArray) -> FloatArray:
    if not len(A):
        return np.eye(A.shape[1])
    _, values, right = np.linalg.svd(A)
    rank = int((values > 1e-10 * values[0]).sum())
    return np.asarray(right[rank:].T)


def _search(
    problem: Problem, x: FloatArray, loglik: float, direction: FloatArray
) -> tuple[float, FloatArray, float]:
    """The first of the step lengths 1, 0.3, ... that rises; 0 where none does."""
    length = min(1.0, 2.0 / max(float(np.abs(direction[-1])), 1e-300))
    for _ in range(25):
        moved = _restore(problem, x + length * direction)
        after = _loglik(problem, moved)
        if after > loglik:
            return length, moved, after
        length *= 0.3
    return 0.0, x, loglik
