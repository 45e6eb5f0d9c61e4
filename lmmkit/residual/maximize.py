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
    rounding,
)

_LONGEST = 2.0
_FARTHEST = 30.0
_FAR = 8.0
_LOST = 20.0
_FLAT_FAR = 0.1
_ARMIJO = 1e-4
_DISTANCE = 1e-4
_NO_CURVATURE = 1e-8
_HALVINGS = 12
_CLOSE = 1e-3
_LEVEL = 1e-4
_WITHIN_REACH = 10.0
_CLIMBS = 3
_SHORT_CLIMB = 8
_WHOLE_CLIMBS = 2
_WORTH = 1e-3
_BLIND = 3
_OPTIMISM = 4.0
_SAME = 1e-6
_GAIN = 1e-8
_SHORT = 1e-2
_ROUNDING = 1e-13
_DIGITS_LOST = 1e-6
_MORE = 100.0


@record
class ResidualOptimum:
    """Where the search over theta ended; its optimum's certificate is of all parameters.

    ``boundary`` has the positions in theta that are as far out as the likelihood can tell.
    """

    objective: Objective
    optimum: Optimum
    boundary: tuple[int, ...]
    theta: FloatArray = computed_array()


@record
class _Ground:
    """A place, and the derivatives of the profile there."""

    place: Place
    local: Curvature

    @property
    def loglik(self) -> float:
        return self.place.optimum.loglik


@record
class _Climb:
    """Where a climb is, its reports, and what the last step gained."""

    here: _Ground
    reports: tuple[Report, ...] = ()
    gained: float = np.inf


@record
class _Profile:
    """The profile to climb."""

    at: ObjectiveAt
    inner: Inner
    exact: Exact | None
    most_rounding: float = np.inf

    def start(self, theta: FloatArray) -> Place | None:
        return locate(self.at, self.inner, theta, None)

    def step(self, theta: FloatArray, here: Place) -> Place | None:
        """The place at theta, from one nearby; None also where its likelihood is rounding."""
        found = locate(self.at, self.inner, theta, here.optimum)
        return None if found is None or rounding(found) > self.most_rounding else found

    def ground(self, place: Place) -> _Ground | None:
        """None at the edge of the places, where derivatives are not finite."""
        local = differentiate(self.at, place, self.exact)
        finite = np.isfinite(local.gradient).all() and np.isfinite(local.hessian).all()
        return _Ground(place, local) if finite else None


def maximize_residual(
    at: ObjectiveAt,
    inner: Inner,
    starts: FloatArray,
    exact: Exact | None = None,
    *,
    further: FloatArray | None = None,
    max_iterations: int = 100,
) -> ResidualOptimum:
    """Maximize over theta, from a few of ``starts`` (s, k) that are nearly as good as the best.

    Where that ends at a bound, of theta or of Psi, or nowhere, there may be other maxima: a short
    climb from each of ``further`` (m, k) starts tells which of these are worth a whole one.
    ``exact`` is that of :func:`~lmmkit.residual.profile.differentiate`.
    """
    profile = _Profile(at, inner, exact)
    tried = [place for theta in starts if (place := profile.start(theta)) is not None]
    tried.sort(key=lambda place: -place.optimum.loglik)
    usual = min(map(rounding, tried), default=0.0)
    profile = evolve(profile, most_rounding=max(_DIGITS_LOST, _MORE * usual))
    hopeful = [
        ground
        for place in tried[:_CLIMBS]
        if place.optimum.loglik >= tried[0].optimum.loglik - _WITHIN_REACH
        and (ground := profile.ground(place)) is not None
    ]
    if not hopeful:
        raise DataError(
            "the residual structure has no positive definite correlation matrix, to within "
            "rounding, where its parameters start; check its coordinates: rows that are very near "
            "one another have a correlation of nearly 1, average them or use a nugget"
        )
    best = _highest([_ended(_climb(profile, _Climb(ground), max_iterations)) for ground in hopeful])
    if further is not None and _doubtful(best):
        best = _highest([best, *_elsewhere(profile, further, best, max_iterations)])
    return _from_any_covariance(profile, best, max_iterations)


def _elsewhere(
    profile: _Profile, further: FloatArray, best: ResidualOptimum, max_iterations: int
) -> list[ResidualOptimum]:
    """The ends of the most promising climbs; one that promises nothing is given up at once."""
    least = best.optimum.loglik + _WORTH
    places = [place for theta in further if (place := profile.start(theta)) is not None]
    grounds = [ground for place in places if (ground := profile.ground(place)) is not None]
    short = [_climb(profile, _Climb(ground), _SHORT_CLIMB, least) for ground in grounds]
    ahead = sorted(short, key=lambda one: -one.here.loglik)
    hopeful = [
        one
        for one in ahead
        if one.here.loglik >= best.optimum.loglik - _WITHIN_REACH and _promises(one, least)
    ]
    whole = [_climb(profile, one, max_iterations, least) for one in hopeful[:_WHOLE_CLIMBS]]
    return [_ended(one) for one in whole if one.here.loglik >= least]


def _promises(climb: _Climb, least: float) -> bool:
    """Whether a climb is, or could come, as high as ``least``.

    Far from a maximum the gain is a few times that of Newton's model; at first, any.
    """
    loglik = climb.here.loglik
    if loglik < least and _runs(climb):
        _, distance = _newton_step(climb.here)
        loglik += np.inf if len(climb.reports) < _BLIND else _OPTIMISM * 0.5 * distance**2
    return loglik >= least


def _runs(climb: _Climb) -> bool:
    return not climb.reports or climb.reports[-1].status is Status.RUNNING


def _from_any_covariance(
    profile: _Profile, best: ResidualOptimum, max_iterations: int
) -> ResidualOptimum:
    """Where structured covariances ended at a bound, they may be higher from their own starts."""
    if not best.objective.structures or not best.optimum.certificate.singular:
        return best
    place = profile.start(best.theta)
    if place is None or place.optimum.loglik <= best.optimum.loglik + _SAME:
        return best
    ground = profile.ground(place)
    return best if ground is None else _ended(_climb(profile, _Climb(ground), max_iterations))


def _highest(found: list[ResidualOptimum]) -> ResidualOptimum:
    return max(found, key=lambda one: one.optimum.loglik)


def _doubtful(found: ResidualOptimum) -> bool:
    certificate = found.optimum.certificate
    return bool(found.boundary or certificate.singular or not certificate.converged)


def _climb(profile: _Profile, climb: _Climb, most: int, least: float = -np.inf) -> _Climb:
    """Newton's method, until there are ``most`` reports, while there is hope of ``least``."""
    while len(climb.reports) < most and _runs(climb) and _promises(climb, least):
        climb = _advanced(profile, climb)
    return climb


def _advanced(profile: _Profile, climb: _Climb) -> _Climb:
    """One iteration more."""
    here = climb.here
    ascent, distance = _newton_step(here)
    report = Report(Status.RUNNING, "residual newton", here.loglik, distance)
    level = float(np.abs(here.local.gradient).max(initial=0.0)) < _LEVEL
    if distance < _DISTANCE or (level and climb.gained < _GAIN * (1.0 + abs(report.loglik))):
        found = _leave_saddle(profile, here)
        if found is None:
            here = _polished(profile, here, ascent)
            last = evolve(report, loglik=here.loglik, status=Status.CONVERGED)
            return _Climb(here, (*climb.reports, last))
    else:
        found = _search(profile, here, ascent)
    if found is None:
        close = distance < _CLOSE or level
        last = evolve(report, status=Status.CONVERGED if close else Status.STALLED)
        return _Climb(here, (*climb.reports, last))
    moved, length = found
    report = evolve(report, loglik=moved.loglik, step_length=length)
    return _Climb(moved, (*climb.reports, report), moved.loglik - here.loglik)


def _ended(climb: _Climb) -> ResidualOptimum:
    """What a climb has come to; one that was not at its end ran out of iterations."""
    reports, place, local = climb.reports, climb.here.place, climb.here.local
    if reports[-1].status is Status.RUNNING:
        reports = (*reports, evolve(reports[-1], status=Status.OUT_OF_ITERATIONS))
    certificate = _certificate(climb.here, reports[-1])
    optimum = evolve(place.optimum, certificate=certificate, reports=reports)
    ends = boundary(place.theta, local, stalled=reports[-1].status is Status.STALLED)
    return ResidualOptimum(place.objective, optimum, ends, place.theta)


def _outward(theta: FloatArray, local: Curvature) -> NDArray[np.bool_]:
    """Which elements are as far out as they may be, and would go on."""
    return np.asarray((np.abs(theta) >= _FARTHEST) & (local.gradient * theta >= 0.0))


def boundary(theta: FloatArray, local: Curvature, *, stalled: bool = False) -> tuple[int, ...]:
    """The elements of theta towards whose end the log-likelihood rises or is flat.

    So it does where a search has ``stalled`` far out; very far out, gradients are rounding.
    """
    # so near a singular R, rounding alone bends the profile
    least = np.where(np.abs(theta) > _FAR, _FLAT_FAR, FLAT)
    curvature = np.abs(np.diagonal(local.hessian))
    flat = (np.abs(local.gradient) < _LEVEL) & (curvature < least)
    outward = (local.gradient * theta > 0.0) | (np.abs(theta) > _LOST)
    rising = stalled & (np.abs(theta) > _FAR) & outward
    return tuple(np.flatnonzero(flat | rising | _outward(theta, local)).tolist())


def _newton_step(here: _Ground) -> tuple[FloatArray, float]:
    """An ascent direction, and the distance to the maximum in standard errors.

    An element of theta that is as far out as it may be, and would go on, stays.
    """
    theta, local = here.place.theta, here.local
    free = ~_outward(theta, local)
    values, vectors = np.linalg.eigh(-local.hessian[np.ix_(free, free)])
    size = np.maximum(np.abs(values), _NO_CURVATURE)
    along = vectors.T @ local.gradient[free]
    ascent = np.zeros(len(theta))
    ascent[free] = vectors @ (along / size)
    longest = float(np.abs(ascent).max(initial=0.0))
    return ascent * min(1.0, _LONGEST / max(longest, 1e-300)), float(np.sqrt(along**2 @ (1 / size)))


def _search(profile: _Profile, here: _Ground, ascent: FloatArray) -> tuple[_Ground, float] | None:
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


def _polished(profile: _Profile, here: _Ground, ascent: FloatArray) -> _Ground:
    """The whole of a last, short step, if rounding does not tell against it."""
    theta = np.clip(here.place.theta + ascent, -_FARTHEST, _FARTHEST)
    found = profile.step(theta, here.place)
    worst = here.loglik - _ROUNDING * (1.0 + abs(here.loglik))
    short = float(np.abs(ascent).max(initial=0.0)) < _SHORT
    taken = short and found is not None and found.optimum.loglik >= worst
    return evolve(here, place=found) if taken else here


def _leave_saddle(profile: _Profile, here: _Ground) -> tuple[_Ground, float] | None:
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


def _certificate(here: _Ground, last: Report) -> Certificate:
    local, inner = here.local, here.place.optimum.certificate
    up, flat, down = count_signs(np.linalg.eigvalsh(-local.hessian), FLAT)
    status = last.status
    if status is Status.CONVERGED:
        # no step along these directions gains: beside a bound of Psi the profile may bend so
        flat, down = flat + down, 0
        status = inner.status
    rising = _outward(here.place.theta, local) & (np.abs(local.gradient) > _LEVEL)
    if status is Status.CONVERGED and rising.any():
        status = Status.STALLED
    return Certificate(
        status=status,
        converged=status is Status.CONVERGED,
        score_norm=max(inner.score_norm, last.score_norm),
        inertia=(inner.inertia[0] + up, inner.inertia[1] + flat, inner.inertia[2] + down),
        singular=inner.singular,
    )
