"""One climb of the profile over the residual parameters, by Newton's method."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lmmkit.optimize.step import Report, Status
from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.profile import (
    FLAT,
    Curvature,
    Exact,
    Inner,
    ObjectiveAt,
    Place,
    differentiate,
    locate,
    rounding,
)

_LONGEST = 2.0
_FARTHEST = 30.0
_ARMIJO = 1e-4
_DISTANCE = 1e-4
_NO_CURVATURE = 1e-8
_HALVINGS = 12
_CLOSE = 1e-3
LEVEL = 1e-4
_BLIND = 3
_OPTIMISM = 4.0
_GAIN = 1e-8
_SHORT = 1e-2
_ROUNDING = 1e-13


@record
class Ground:
    """A place, and the derivatives of the profile there."""

    place: Place
    local: Curvature

    @property
    def loglik(self) -> float:
        """The profile's value."""
        return self.place.optimum.loglik


@record
class Climb:
    """Where a climb is, its reports, and what the last step gained."""

    here: Ground
    reports: tuple[Report, ...] = ()
    gained: float = np.inf


@record
class Surface:
    """The profile to climb."""

    at: ObjectiveAt
    inner: Inner
    exact: Exact | None
    around: Callable[[FloatArray], ObjectiveAt]
    most_rounding: float = np.inf

    def start(self, theta: FloatArray) -> Place | None:
        """The place at theta, from nowhere."""
        return locate(self.at, self.inner, theta, None)

    def step(self, theta: FloatArray, here: Place) -> Place | None:
        """The place at theta, from one nearby; None also where its likelihood is rounding."""
        found = locate(self.at, self.inner, theta, here.optimum)
        return None if found is None or rounding(found) > self.most_rounding else found

    def ground(self, place: Place) -> Ground | None:
        """None at the edge of the places, where derivatives are not finite."""
        local = differentiate(self.around(place.theta), place, self.exact)
        finite = np.isfinite(local.gradient).all() and np.isfinite(local.hessian).all()
        return Ground(place, local) if finite else None


def climbed(profile: Surface, climb: Climb, most: int, least: float = -np.inf) -> Climb:
    """Newton's method, until there are ``most`` reports, while there is hope of ``least``."""
    while len(climb.reports) < most and _runs(climb) and promises(climb, least):
        climb = _advanced(profile, climb)
    return climb


def _advanced(profile: Surface, climb: Climb) -> Climb:
    """One iteration more."""
    here = climb.here
    ascent, distance = _newton_step(here)
    report = Report(Status.RUNNING, "residual newton", here.loglik, distance)
    level = float(np.abs(here.local.gradient).max(initial=0.0)) < LEVEL
    if distance < _DISTANCE or (
        level and climb.gained < _GAIN * here.place.objective.degrees_of_freedom
    ):
        found = _leave_saddle(profile, here)
        if found is None:
            here = _polished(profile, here, ascent)
            last = evolve(report, loglik=here.loglik, status=Status.CONVERGED)
            return Climb(here, (*climb.reports, last))
    else:
        found = _search(profile, here, ascent)
    if found is None:
        close = distance < _CLOSE or level
        last = evolve(report, status=Status.CONVERGED if close else Status.STALLED)
        return Climb(here, (*climb.reports, last))
    moved, length = found
    report = evolve(report, loglik=moved.loglik, step_length=length)
    return Climb(moved, (*climb.reports, report), moved.loglik - here.loglik)


def promises(climb: Climb, least: float) -> bool:
    """Whether a climb is, or could come, as high as ``least``.

    Far from a maximum the gain is a few times that of Newton's model; at first, any.
    """
    loglik = climb.here.loglik
    if loglik < least and _runs(climb):
        _, distance = _newton_step(climb.here)
        loglik += np.inf if len(climb.reports) < _BLIND else _OPTIMISM * 0.5 * distance**2
    return loglik >= least


def _runs(climb: Climb) -> bool:
    return not climb.reports or climb.reports[-1].status is Status.RUNNING


def outward(theta: FloatArray, local: Curvature) -> NDArray[np.bool_]:
    """Which elements are as far out as they may be, and would go on."""
    return np.asarray((np.abs(theta) >= _FARTHEST) & (local.gradient * theta >= 0.0))


def _newton_step(here: Ground) -> tuple[FloatArray, float]:
    """An ascent direction, and the distance to the maximum in standard errors.

    An element of theta that is as far out as it may be, and would go on, stays.
    """
    theta, local = here.place.theta, here.local
    free = ~outward(theta, local)
    values, vectors = np.linalg.eigh(-local.hessian[np.ix_(free, free)])
    size = np.maximum(np.abs(values), _NO_CURVATURE)
    along = vectors.T @ local.gradient[free]
    ascent = np.zeros(len(theta))
    ascent[free] = vectors @ (along / size)
    longest = float(np.abs(ascent).max(initial=0.0))
    return ascent * min(1.0, _LONGEST / max(longest, 1e-300)), float(np.sqrt(along**2 @ (1 / size)))


def _search(profile: Surface, here: Ground, ascent: FloatArray) -> tuple[Ground, float] | None:
    """The first of the halved steps that gains enough."""
    place, length, slope = here.place, 1.0, float(here.local.gradient @ ascent)
    for _ in range(_HALVINGS):
        theta = np.clip(place.theta + length * ascent, -_FARTHEST, _FARTHEST)
        found = profile.step(theta, place)
        gain = -np.inf if found is None else found.optimum.loglik - here.loglik
        if found is not None and gain >= _ARMIJO * length * slope:
            ground = profile.ground(found)
            if ground is not None:
                return ground, length
        length *= 0.5
    return None


def _polished(profile: Surface, here: Ground, ascent: FloatArray) -> Ground:
    """The whole of a last, short step, if rounding does not tell against it."""
    theta = np.clip(here.place.theta + ascent, -_FARTHEST, _FARTHEST)
    found = profile.step(theta, here.place)
    worst = here.loglik - _ROUNDING * (1.0 + abs(here.loglik))
    short = float(np.abs(ascent).max(initial=0.0)) < _SHORT
    taken = short and found is not None and found.optimum.loglik >= worst
    return evolve(here, place=found) if taken else here


def _leave_saddle(profile: Surface, here: Ground) -> tuple[Ground, float] | None:
    """A step along the direction of most upward curvature, if there is one and it gains."""
    values, vectors = np.linalg.eigh(-here.local.hessian)
    if not len(values) or values[0] > -FLAT:
        return None
    trials = [(sign * length, length) for length in (1.0, 0.3, 0.1) for sign in (1.0, -1.0)]
    for step, length in trials:
        found = profile.step(here.place.theta + step * vectors[:, 0], here.place)
        if found is not None and found.optimum.loglik > here.loglik + _GAIN:
            ground = profile.ground(found)
            if ground is not None:
                return ground, length
    return None
