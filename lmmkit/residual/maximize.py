"""Newton's method over the residual parameters, everything else at its best for each of them.

``f(theta) = max l(x, theta)`` over the packed factors x, with beta and sigma2 profiled out. The
inner maximum is that of :func:`lmmkit.optimize.run.maximize`; there the derivative of f is that of
l with x fixed, and the Hessian is the Schur complement of that of l. Derivatives by x are exact,
those by theta are central differences of the exact log-likelihood and of its exact score.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lmmkit.errors import DataError
from lmmkit.likelihood.charts import Params
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.certificate import Certificate, count_signs
from lmmkit.optimize.coordinates import jacobian_of
from lmmkit.optimize.evaluate import differentiate as score_at
from lmmkit.optimize.evaluate import evaluate, observed_hessian, pack
from lmmkit.optimize.run import Optimum
from lmmkit.optimize.step import Report, Status
from lmmkit.parameters.profile import ProfileParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, computed_array, evolve, record

STEP = 1e-3
_LONGEST = 2.0
_FARTHEST = 30.0
_ARMIJO = 1e-4
_DISTANCE = 1e-4
_NO_CURVATURE = 1e-8
FLAT = 1e-3
_HALVINGS = 12
_CLOSE = 1e-3
_WITHIN_REACH = 10.0
_CLIMBS = 3
_GAIN = 1e-8

ObjectiveAt: TypeAlias = Callable[[FloatArray], Objective | None]
Inner: TypeAlias = Callable[[Objective, SquareRootParams | None], Optimum]


@record
class Place:
    """The inner maximum at one theta."""

    objective: Objective
    optimum: Optimum
    theta: FloatArray = computed_array()


@record
class Differences:
    """Gradient (k,) and Hessian (k, k) of l by theta; mixed derivatives (k, n) with the rest."""

    gradient: FloatArray = computed_array()
    hessian: FloatArray = computed_array()
    across: FloatArray = computed_array()


@record
class Curvature:
    """Gradient (k,) and Hessian (k, k) of the profile f."""

    gradient: FloatArray = computed_array()
    hessian: FloatArray = computed_array()


@record
class ResidualOptimum:
    """Where the search over theta ended; its optimum's certificate is of all parameters."""

    objective: Objective
    optimum: Optimum
    theta: FloatArray = computed_array()


def maximize_residual(
    at: ObjectiveAt, inner: Inner, starts: FloatArray, *, max_iterations: int = 100
) -> ResidualOptimum:
    """Maximize over theta, from a few of ``starts`` (s, k) that are nearly as good as the best."""
    tried = [place for theta in starts if (place := _locate(at, inner, theta, None)) is not None]
    if not tried:
        raise DataError(
            "the residual structure has no positive definite correlation matrix where its "
            "parameters start: check its coordinates"
        )
    tried.sort(key=lambda place: -place.optimum.loglik)
    enough = tried[0].optimum.loglik - _WITHIN_REACH
    hopeful = [place for place in tried[:_CLIMBS] if place.optimum.loglik >= enough]
    found = [_climb(at, inner, place, max_iterations) for place in hopeful]
    return max(found, key=lambda one: one.optimum.loglik)


def _climb(at: ObjectiveAt, inner: Inner, place: Place, max_iterations: int) -> ResidualOptimum:
    """Newton's method from one start."""
    reports: list[Report] = []
    for _ in range(max_iterations):
        local = differentiate(at, place)
        ascent, distance = _newton_step(place.theta, local)
        report = Report(Status.RUNNING, "residual newton", place.optimum.loglik, distance)
        if distance < _DISTANCE:
            found = _leave_saddle(at, inner, place, local)
            if found is None:
                reports.append(evolve(report, status=Status.CONVERGED))
                break
        else:
            found = _search(at, inner, place, ascent, float(local.gradient @ ascent))
        if found is None:
            close = distance < _CLOSE
            reports.append(evolve(report, status=Status.CONVERGED if close else Status.STALLED))
            break
        place, length = found
        reports.append(evolve(report, loglik=place.optimum.loglik, step_length=length))
    else:
        reports.append(evolve(reports[-1], status=Status.OUT_OF_ITERATIONS))
        local = differentiate(at, place)
    certificate = _certificate(place, local, reports[-1])
    optimum = evolve(place.optimum, certificate=certificate, reports=tuple(reports))
    return ResidualOptimum(place.objective, optimum, place.theta)


def _locate(at: ObjectiveAt, inner: Inner, theta: FloatArray, warm: Optimum | None) -> Place | None:
    objective = at(theta)
    if objective is None:
        return None
    singular = warm is not None and warm.certificate.singular
    start = None if warm is None or singular else evolve(warm.params, beta=None)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            optimum = inner(objective, start)
        except np.linalg.LinAlgError:  # a trial so far out that nothing else can be estimated
            return None
    return Place(objective, optimum, theta) if np.isfinite(optimum.loglik) else None


def differentiate(at: ObjectiveAt, place: Place) -> Curvature:
    """Derivatives of the profile at an inner maximum: 2 k + k (k - 1) evaluations."""
    here = place.objective.standardized()
    factors = place.objective.moments.basis.standard_factors(place.optimum.params.factor)
    params = SquareRootParams(factors)
    if here.structures:
        return _with_structures(at, here, place, factors)
    local = differences(standardized(at), here, place.theta, params)
    if not here.sizes:
        return Curvature(local.gradient, local.hessian)
    return _profiled(local, local.across, here.hessian(params))


def _profiled(local: Differences, across: FloatArray, inner: FloatArray) -> Curvature:
    inverse = np.linalg.pinv(inner, rcond=1e-10, hermitian=True)
    return Curvature(local.gradient, local.hessian - across @ inverse @ across.T)


def _with_structures(
    at: ObjectiveAt, here: Objective, place: Place, factors: tuple[FloatArray, ...]
) -> Curvature:
    """The same where the other parameters are those of the random terms' structures."""
    x = pack(SquareRootParams(factors, theta=place.optimum.theta))
    score = score_at(here, evaluate(here, x))
    relative = ProfileParams(tuple(T @ T.T for T in score.value.factors))
    local = differences(standardized(at), here, place.theta, relative)
    across = local.across @ jacobian_of(score.value.factors, score.slopes)
    return _profiled(local, across, observed_hessian(here, score))


def standardized(at: ObjectiveAt) -> ObjectiveAt:
    """The same objectives, their parameters taken in standard coordinates."""

    def standard(theta: FloatArray) -> Objective | None:
        objective = at(theta)
        return None if objective is None else objective.standardized()

    return standard


def differences(at: ObjectiveAt, here: Objective, theta: FloatArray, params: Params) -> Differences:
    """Derivatives by theta at fixed other parameters; NaN where some R is not positive definite."""
    k = len(theta)
    steps = STEP * np.eye(k)

    def value(objective: Objective | None) -> float:
        return np.nan if objective is None else float(objective.loglik(params))

    def score(objective: Objective | None) -> FloatArray:
        return np.full(len(params.pack()), np.nan) if objective is None else objective.score(params)

    ahead = [at(theta + step) for step in steps]
    behind = [at(theta - step) for step in steps]
    plus, minus = np.array(list(map(value, ahead))), np.array(list(map(value, behind)))
    centre = value(here)
    hessian = np.diag(plus - 2.0 * centre + minus)
    for i in range(k):
        for j in range(i):
            both = value(at(theta + steps[i] + steps[j])) + value(at(theta - steps[i] - steps[j]))
            mixed = both - plus[i] - minus[i] - plus[j] - minus[j] + 2.0 * centre
            hessian[i, j] = hessian[j, i] = 0.5 * mixed
    changes = [score(a) - score(b) for a, b in zip(ahead, behind, strict=True)]
    return Differences(
        gradient=(plus - minus) / (2.0 * STEP),
        hessian=hessian / STEP**2,
        across=np.reshape(changes, (k, len(params.pack()))) / (2.0 * STEP),
    )


def _newton_step(theta: FloatArray, local: Curvature) -> tuple[FloatArray, float]:
    """An ascent direction, and the distance to the maximum in standard errors.

    An element of theta that is as far out as it may be, and would go on, stays.
    """
    free = ~((np.abs(theta) >= _FARTHEST) & (local.gradient * theta >= 0.0))
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
        found = _locate(at, inner, theta, place.optimum)
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
        found = _locate(at, inner, place.theta + step * vectors[:, 0], place.optimum)
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
    return Certificate(
        status=status,
        converged=status is Status.CONVERGED,
        score_norm=max(inner.score_norm, last.score_norm),
        inertia=(inner.inertia[0] + up, inner.inertia[1] + flat, inner.inertia[2] + down),
        singular=inner.singular,
    )
