"""Newton's method on the Lagrangian: from any variables to a maximum that meets the constraints.

The variables are those of :mod:`lmmkit.optimize.constrained_problem`, or of another ground. A step
is Newton's, restricted to the constraints' tangent space (absolute eigenvalues where the reduced
Hessian is indefinite); afterwards Gauss-Newton steps on the constraints alone, which cost no
likelihood, bring the point back to them. Every accepted point is feasible, so that a line search on
the log-likelihood suffices.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ParameterError
from lmmkit.linalg import null_space
from lmmkit.optimize.certificate import count_signs
from lmmkit.optimize.constrained_problem import Equality, Spot
from lmmkit.optimize.step import Report, Status
from lmmkit.records import FloatArray, float_array, record

_TOLERANCE = 1e-9
_NEAR = 1e-4
_SLOW = 0.3
_NO_GAIN = 1e-9
_FEASIBLE = 1e-13
_ROUNDING = 1e-14
_CREEP = 1e-4
_IDLE = 10
_LONGEST = 2.0
_LENGTHS = (1.0, 0.3, 0.1)
_GAIN = 1e-6


class Ground(Protocol):
    """A log-likelihood of variables x, and equalities that these have to meet."""

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which variables may move."""

    @property
    def logarithmic(self) -> slice:
        """The variables that one step changes by no more than 2."""

    def units(self, x: FloatArray) -> FloatArray:
        """How large a change of each variable counts at x."""

    def at(self, x: FloatArray) -> Spot:
        """The log-likelihood at x, and its derivatives where they are wanted."""

    def equalities(self, x: FloatArray, curved: bool = True) -> list[Equality]:
        """The equalities at x; without their curvature where that is not wanted."""


@record
class Climbed:
    """Where :func:`climb` ended; the distance to the maximum is in standard errors."""

    loglik: float
    distance: float
    inertia: tuple[int, int, int]
    reports: tuple[Report, ...]
    x: FloatArray = float_array(1)


def climb(
    problem: Ground,
    start: FloatArray,
    max_iterations: int = 200,
    progress: Callable[[int, Report], None] | None = None,
    *,
    tolerance: float = _TOLERANCE,
) -> Climbed:
    """The maximum subject to the problem's constraints, from variables that need not satisfy them.

    It ends at a distance of ``tolerance`` standard errors, or where steps in a row gain next to
    nothing of what they promise: at a kink, as where a held correlation's variances vanish.
    Far out in a direction in which the log-likelihood levels off, as that of a standard deviation's
    logarithm does, steps no longer shorten the distance: near is close enough there.

    Raises
    ------
    ParameterError
        Where no covariance satisfies the constraints, or none near ``start`` has a likelihood.
    """
    here = problem.at(_restore(problem, start))
    if not np.isfinite(here.loglik):
        raise ParameterError(
            "the held values lead to covariances that are too large for a likelihood; give a start "
            "that is nearer to them"
        )
    reports: list[Report] = []
    status, idle, before = Status.OUT_OF_ITERATIONS, 0, np.inf
    while len(reports) < max_iterations:
        local = reduced(problem, here.x, here.derivatives())
        direction, distance, inertia = _newton(local)
        if distance <= tolerance or _SLOW * before < distance <= _NEAR:
            higher = _beside_saddle(problem, here, local) if inertia[2] else None
            if higher is None:
                status = Status.CONVERGED
                break
            here, before = higher, np.inf
            continue
        before = distance
        length, moved = _search(problem, here, direction)
        least = max(_ROUNDING * abs(here.loglik), _CREEP * distance**2)
        idle = idle + 1 if moved.loglik - here.loglik <= least else 0
        if length == 0.0 or idle == _IDLE:
            status = Status.CONVERGED if distance <= _NEAR else Status.STALLED
            break
        here = moved
        reports.append(Report(Status.RUNNING, "constrained newton", here.loglik, distance, length))
        if progress is not None:
            progress(len(reports), reports[-1])
    reports.append(Report(status, "constrained newton", here.loglik, distance, 0.0))
    return Climbed(here.loglik, distance, inertia, tuple(reports), here.x)


def _restore(problem: Ground, x: FloatArray) -> FloatArray:
    """The nearby point that satisfies the constraints, by Gauss-Newton steps; sigma2 held stays."""
    moves = problem.free
    for _ in range(60):
        found, units = problem.equalities(x, curved=False), problem.units(x)
        h = np.array([e.residual for e in found])
        if np.abs(h).max(initial=0.0) <= _FEASIBLE * (1.0 + np.abs(x / units).max()):
            return x
        A = np.array([e.gradient for e in found])
        step = units * np.linalg.lstsq(A * units * moves, h, rcond=1e-12)[0]
        x = x - step * _share(problem, step)
    if np.abs(h).max() > 1e-8 * (1.0 + np.abs(x / units).max()):
        raise ParameterError(
            "no covariance matrix satisfies the held values: together they are not positive "
            "semidefinite, or contradict one another"
        )
    return x


@record
class Reduced:
    """Gradient (t,) and Hessian (t, t) of the Lagrangian by the columns of ``tangent`` (n, t)."""

    gradient: FloatArray
    hessian: FloatArray
    tangent: FloatArray


def reduced(problem: Ground, x: FloatArray, derivatives: tuple[FloatArray, FloatArray]) -> Reduced:
    """The Lagrangian's derivatives at x in the tangent space of the equalities.

    ``derivatives`` are the gradient and the Hessian of the log-likelihood there.
    """
    free, units = problem.free, problem.units(x)
    gradient, hessian = derivatives
    found = problem.equalities(x)
    A = (np.array([e.gradient for e in found]).reshape(len(found), len(x)) * units)[:, free]
    multipliers = np.linalg.lstsq(A.T, (gradient * units)[free], rcond=1e-12)[0]
    for multiplier, equality in zip(multipliers, found, strict=True):
        hessian = hessian - multiplier * equality.curvature
    tangent = np.diag(units)[:, free] @ null_space(A)
    return Reduced(tangent.T @ gradient, tangent.T @ hessian @ tangent, tangent)


def _newton(local: Reduced) -> tuple[FloatArray, float, tuple[int, int, int]]:
    """A step of ascent in the tangent space, its length in standard errors, the inertia.

    Along a valley that is flat no step is made: it would be long, and leave the valley.
    """
    values, vectors = np.linalg.eigh(-local.hessian)
    flat = 1e-7 * float(np.abs(values).max(initial=0.0))
    along = vectors.T @ local.gradient
    size = np.maximum(np.abs(values), 1e-7 * flat + 1e-300)
    arrived = (np.abs(values) <= flat) & (along**2 <= _NO_GAIN * size)
    step = vectors @ np.where(arrived, 0.0, along / size)
    distance = float(np.sqrt(max(float(step @ local.gradient), 0.0)))
    inertia = count_signs(values, flat)
    return local.tangent @ step, distance, inertia


def _beside_saddle(problem: Ground, here: Spot, local: Reduced) -> Spot | None:
    """A point that is clearly higher along the direction of most upward curvature.

    Where a standard deviation is zero the slope vanishes, whether or not it should be positive.
    """
    values, vectors = np.linalg.eigh(-local.hessian)
    direction = local.tangent @ vectors[:, 0] / np.sqrt(max(-values[0], 1e-300))
    for length in _LENGTHS:
        for sign in (1.0, -1.0):
            step = sign * length * direction
            moved = problem.at(_restore(problem, here.x + _share(problem, step) * step))
            if moved.loglik > here.loglik + _GAIN:
                return moved
    return None


def _share(problem: Ground, step: FloatArray) -> float:
    """How much of a step does not go too far."""
    return min(1.0, _LONGEST / float(np.abs(step[problem.logarithmic]).max(initial=1e-300)))


def _search(problem: Ground, here: Spot, direction: FloatArray) -> tuple[float, Spot]:
    """The first of the step lengths 1, 0.3, ... that rises; 0 where none does."""
    length = _share(problem, direction)
    for _ in range(25):
        moved = problem.at(_restore(problem, here.x + length * direction))
        if moved.loglik > here.loglik:
            return length, moved
        length *= 0.3
    return 0.0, here
