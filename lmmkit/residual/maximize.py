"""Newton's method over the residual parameters, everything else at its best for each of them."""

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import DataError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.certificate import Certificate, count_signs
from lmmkit.optimize.run import Optimum
from lmmkit.optimize.step import Report, Status
from lmmkit.records import FloatArray, computed_array, evolve, record
from lmmkit.residual.profile import (
    FLAT,
    Curvature,
    Exact,
    Inner,
    ObjectiveAt,
    Place,
    differentiate,
    locate,
)

_LONGEST = 2.0
_FARTHEST = 30.0
_FAR = 10.0
_FLAT_FAR = 0.1
_ARMIJO = 1e-4
_DISTANCE = 1e-4
_NO_CURVATURE = 1e-8
_HALVINGS = 12
_CLOSE = 1e-3
_LEVEL = 1e-4
_WITHIN_REACH = 10.0
_CLIMBS = 3
_GAIN = 1e-8


@record
class ResidualOptimum:
    """Where the search over theta ended; its optimum's certificate is of all parameters.

    ``boundary`` has the positions in theta that are as far out as the likelihood can tell.
    """

    objective: Objective
    optimum: Optimum
    boundary: tuple[int, ...]
    theta: FloatArray = computed_array()


def maximize_residual(
    at: ObjectiveAt,
    inner: Inner,
    starts: FloatArray,
    exact: Exact | None = None,
    *,
    max_iterations: int = 100,
) -> ResidualOptimum:
    """Maximize over theta, from a few of ``starts`` (s, k) that are nearly as good as the best.

    ``exact`` is that of :func:`~lmmkit.residual.profile.differentiate`.
    """
    tried = [place for theta in starts if (place := locate(at, inner, theta, None)) is not None]
    if not tried:
        raise DataError(
            "the residual structure has no positive definite correlation matrix where its "
            "parameters start: check its coordinates"
        )
    tried.sort(key=lambda place: -place.optimum.loglik)
    enough = tried[0].optimum.loglik - _WITHIN_REACH
    hopeful = [place for place in tried[:_CLIMBS] if place.optimum.loglik >= enough]
    found = [_climb(at, inner, place, exact, max_iterations) for place in hopeful]
    return max(found, key=lambda one: one.optimum.loglik)


def _climb(
    at: ObjectiveAt, inner: Inner, place: Place, exact: Exact | None, max_iterations: int
) -> ResidualOptimum:
    """Newton's method from one start."""
    reports: list[Report] = []
    gained = np.inf
    for _ in range(max_iterations):
        local = differentiate(at, place, exact)
        ascent, distance = _newton_step(place.theta, local)
        report = Report(Status.RUNNING, "residual newton", place.optimum.loglik, distance)
        level = float(np.abs(local.gradient).max(initial=0.0)) < _LEVEL
        if distance < _DISTANCE or (level and gained < _GAIN * (1.0 + abs(report.loglik))):
            found = _leave_saddle(at, inner, place, local)
            if found is None:
                reports.append(evolve(report, status=Status.CONVERGED))
                break
        else:
            found = _search(at, inner, place, ascent, float(local.gradient @ ascent))
        if found is None:
            close = distance < _CLOSE or level
            reports.append(evolve(report, status=Status.CONVERGED if close else Status.STALLED))
            break
        gained = found[0].optimum.loglik - report.loglik
        place, length = found
        reports.append(evolve(report, loglik=place.optimum.loglik, step_length=length))
    else:
        reports.append(evolve(reports[-1], status=Status.OUT_OF_ITERATIONS))
        local = differentiate(at, place, exact)
    certificate = _certificate(place, local, reports[-1])
    optimum = evolve(place.optimum, certificate=certificate, reports=tuple(reports))
    return ResidualOptimum(place.objective, optimum, boundary(place.theta, local), place.theta)


def _outward(theta: FloatArray, local: Curvature) -> NDArray[np.bool_]:
    """Which elements are as far out as they may be, and would go on."""
    return np.asarray((np.abs(theta) >= _FARTHEST) & (local.gradient * theta >= 0.0))


def boundary(theta: FloatArray, local: Curvature) -> tuple[int, ...]:
    """The elements of theta towards whose end the log-likelihood rises or is flat."""
    # so near a singular R, rounding alone bends the profile
    least = np.where(np.abs(theta) > _FAR, _FLAT_FAR, FLAT)
    curvature = np.abs(np.diagonal(local.hessian))
    flat = (np.abs(local.gradient) < _LEVEL) & (curvature < least)
    return tuple(np.flatnonzero(flat | _outward(theta, local)).tolist())


def _newton_step(theta: FloatArray, local: Curvature) -> tuple[FloatArray, float]:
    """An ascent direction, and the distance to the maximum in standard errors.

    An element of theta that is as far out as it may be, and would go on, stays.
    """
    free = ~_outward(theta, local)
    values, vectors = np.linalg.eigh(-local.hessian[np.ix_(free, free)])
    size = np.maximum(np.abs(values), _NO_CURVATURE)
    along = vectors.T @ local.gradient[free]
    ascent = np.zeros(len(theta))
    ascent[free] = vectors @ (along / size)
    longest = float(np.abs(ascent).max(initial=0.0))
    return ascent * min(1.0, _LONGEST / max(longest, 1e-300)), float(np.sqrt(along**2 @ (1 / size)))


def _search(
    at: ObjectiveAt, inner: Inner, place: Place, ascent: FloatArray, slope: float
) -> tuple[Place, float] | None:
    """The first of the halved steps that gains enough."""
    length = 1.0
    for _ in range(_HALVINGS):
        theta = np.clip(place.theta + length * ascent, -_FARTHEST, _FARTHEST)
        found = locate(at, inner, theta, place.optimum)
        gain = -np.inf if found is None else found.optimum.loglik - place.optimum.loglik
        if found is not None and gain >= _ARMIJO * length * slope:
            return found, length
        length *= 0.5
    return None


def _leave_saddle(
    at: ObjectiveAt, inner: Inner, place: Place, local: Curvature
) -> tuple[Place, float] | None:
    """A step along the direction of most upward curvature, if there is one and it gains."""
    values, vectors = np.linalg.eigh(-local.hessian)
    if not len(values) or values[0] > -FLAT:
        return None
    trials = [(sign * length, length) for length in (1.0, 0.3, 0.1) for sign in (1.0, -1.0)]
    for step, length in trials:
        found = locate(at, inner, place.theta + step * vectors[:, 0], place.optimum)
        if found is not None and found.optimum.loglik > place.optimum.loglik + _GAIN:
            return found, length
    return None


def _certificate(place: Place, local: Curvature, last: Report) -> Certificate:
    inner = place.optimum.certificate
    up, flat, down = count_signs(np.linalg.eigvalsh(-local.hessian), FLAT)
    status = last.status
    if status is Status.CONVERGED:
        # no step along these directions gains: beside a bound of Psi the profile may bend so
        flat, down = flat + down, 0
        status = inner.status
    rising = _outward(place.theta, local) & (np.abs(local.gradient) > _LEVEL)
    if status is Status.CONVERGED and rising.any():
        status = Status.STALLED
    return Certificate(
        status=status,
        converged=status is Status.CONVERGED,
        score_norm=max(inner.score_norm, last.score_norm),
        inertia=(inner.inertia[0] + up, inner.inertia[1] + flat, inner.inertia[2] + down),
        singular=inner.singular,
    )
