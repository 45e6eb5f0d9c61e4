"""The maximum over the residual parameters, everything else at its best for each of them."""

from collections.abc import Callable

import numpy as np

from lmmkit.errors import DataError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.certificate import Certificate, count_signs
from lmmkit.optimize.run import Optimum
from lmmkit.optimize.step import Report, Status
from lmmkit.records import FloatArray, computed_array, evolve, record
from lmmkit.residual.climb import LEVEL, Climb, Ground, Surface, climbed, outward, promises
from lmmkit.residual.profile import FLAT, Curvature, Exact, Inner, ObjectiveAt, rounding

_FAR = 8.0
_LOST = 20.0
_FLAT_FAR = 0.1
_WITHIN_REACH = 10.0
_CLIMBS = 3
_SHORT_CLIMB = 8
_WHOLE_CLIMBS = 2
_WORTH = 1e-3
_SAME = 1e-6
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


def maximize_residual(
    at: ObjectiveAt,
    inner: Inner,
    starts: FloatArray,
    exact: Exact | None = None,
    *,
    around: Callable[[FloatArray], ObjectiveAt] | None = None,
    further: FloatArray | None = None,
    max_iterations: int = 100,
) -> ResidualOptimum:
    """Maximize over theta, from a few of ``starts`` (s, k) that are nearly as good as the best.

    Where that ends at a bound, of theta or of Psi, or nowhere, there may be other maxima: a short
    climb from each of ``further`` (m, k) starts tells which of these are worth a whole one.
    ``exact`` is that of :func:`~lmmkit.residual.profile.differentiate`; ``around`` gives the
    objectives near a place whose differences are taken, ``at`` by default.
    """
    profile = Surface(at, inner, exact, around or (lambda theta: at))
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
    best = _highest([_ended(climbed(profile, Climb(ground), max_iterations)) for ground in hopeful])
    if further is not None and _doubtful(best):
        best = _highest([best, *_elsewhere(profile, further, best, max_iterations)])
    return _from_any_covariance(profile, best, max_iterations)


def _elsewhere(
    profile: Surface, further: FloatArray, best: ResidualOptimum, max_iterations: int
) -> list[ResidualOptimum]:
    """The ends of the most promising climbs; one that promises nothing is given up at once."""
    least = best.optimum.loglik + _WORTH
    places = [place for theta in further if (place := profile.start(theta)) is not None]
    grounds = [ground for place in places if (ground := profile.ground(place)) is not None]
    short = [climbed(profile, Climb(ground), _SHORT_CLIMB, least) for ground in grounds]
    ahead = sorted(short, key=lambda one: -one.here.loglik)
    hopeful = [
        one
        for one in ahead
        if one.here.loglik >= best.optimum.loglik - _WITHIN_REACH and promises(one, least)
    ]
    whole = [climbed(profile, one, max_iterations, least) for one in hopeful[:_WHOLE_CLIMBS]]
    return [_ended(one) for one in whole if one.here.loglik >= least]


def _from_any_covariance(
    profile: Surface, best: ResidualOptimum, max_iterations: int
) -> ResidualOptimum:
    """Where structured covariances ended at a bound, they may be higher from their own starts."""
    if not best.objective.structures or not best.optimum.certificate.singular:
        return best
    place = profile.start(best.theta)
    if place is None or place.optimum.loglik <= best.optimum.loglik + _SAME:
        return best
    ground = profile.ground(place)
    return best if ground is None else _ended(climbed(profile, Climb(ground), max_iterations))


def _highest(found: list[ResidualOptimum]) -> ResidualOptimum:
    return max(found, key=lambda one: one.optimum.loglik)


def _doubtful(found: ResidualOptimum) -> bool:
    certificate = found.optimum.certificate
    return bool(found.boundary or certificate.singular or not certificate.converged)


def _ended(climb: Climb) -> ResidualOptimum:
    """What a climb has come to; one that was not at its end ran out of iterations."""
    reports, place, local = climb.reports, climb.here.place, climb.here.local
    if reports[-1].status is Status.RUNNING:
        reports = (*reports, evolve(reports[-1], status=Status.OUT_OF_ITERATIONS))
    certificate = _certificate(climb.here, reports[-1])
    optimum = evolve(place.optimum, certificate=certificate, reports=reports)
    ends = boundary(place.theta, local, stalled=reports[-1].status is Status.STALLED)
    return ResidualOptimum(place.objective, optimum, ends, place.theta)


def boundary(theta: FloatArray, local: Curvature, *, stalled: bool = False) -> tuple[int, ...]:
    """The elements of theta towards whose end the log-likelihood rises or is flat.

    So it does where a search has ``stalled`` far out; very far out, gradients are rounding.
    """
    # so near a singular R, rounding alone bends the profile
    least = np.where(np.abs(theta) > _FAR, _FLAT_FAR, FLAT)
    curvature = np.abs(np.diagonal(local.hessian))
    flat = (np.abs(local.gradient) < LEVEL) & (curvature < least)
    onward = (local.gradient * theta > 0.0) | (np.abs(theta) > _LOST)
    rising = stalled & (np.abs(theta) > _FAR) & onward
    return tuple(np.flatnonzero(flat | rising | outward(theta, local)).tolist())


def _certificate(here: Ground, last: Report) -> Certificate:
    local, inner = here.local, here.place.optimum.certificate
    up, flat, down = count_signs(np.linalg.eigvalsh(-local.hessian), FLAT)
    status = last.status
    if status is Status.CONVERGED:
        # no step along these directions gains: beside a bound of Psi the profile may bend so
        flat, down = flat + down, 0
        status = inner.status
    rising = outward(here.place.theta, local) & (np.abs(local.gradient) > LEVEL)
    if status is Status.CONVERGED and rising.any():
        status = Status.STALLED
    return Certificate(
        status=status,
        converged=status is Status.CONVERGED,
        score_norm=max(inner.score_norm, last.score_norm),
        inertia=(inner.inertia[0] + up, inner.inertia[1] + flat, inner.inertia[2] + down),
        singular=inner.singular,
    )
