"""The profile f of the log-likelihood over the residual parameters, and its derivatives.

``f(theta) = max l(x, theta)`` over the packed factors x, with beta and sigma2 profiled out. At the
inner maximum the derivative of f is that of l with x fixed, and the Hessian is the Schur complement
of that of l. Derivatives by x are exact. Those by theta are exact where sums over patterns stand
for the rows, see :mod:`lmmkit.residual.expansion`; else they are central differences of the exact
log-likelihood and of its exact score.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.climb import reduced
from lmmkit.optimize.constrained_problem import (
    Problem,
    encode,
    make_problem,
    standard_at,
    standard_by_x,
)
from lmmkit.optimize.evaluate import differentiate as score_at
from lmmkit.optimize.evaluate import evaluate, observed_hessian, pack
from lmmkit.optimize.run import Optimum
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, computed_array, evolve, record
from lmmkit.residual.slopes import mixed_differences

STEP = 1e-3
FLAT = 1e-3

ObjectiveAt: TypeAlias = Callable[[FloatArray], Objective | None]
Measured: TypeAlias = tuple[float, Callable[[], FloatArray]]
Inner: TypeAlias = Callable[[Objective, SquareRootParams | None], Optimum]
Exact: TypeAlias = Callable[[Objective, FloatArray, NaturalParams], "Differences | None"]


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


def locate(at: ObjectiveAt, inner: Inner, theta: FloatArray, warm: Optimum | None) -> Place | None:
    """The inner maximum at theta, from that of a place nearby; None where there is none."""
    objective = at(theta)
    if objective is None:
        return None
    start = None
    # a structure's maximization leaves the boundary by itself
    if warm is not None and (objective.structures or not warm.certificate.singular):
        start = evolve(warm.params, beta=None)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            optimum = inner(objective, start)
        except (np.linalg.LinAlgError, ParameterError):
            return None  # so far out that nothing else can be estimated
    return Place(objective, optimum, theta) if np.isfinite(optimum.loglik) else None


def rounding(place: Place) -> float:
    """The error of the log-likelihood an observation, of its order: sums of squares that cancel.

    They do where R is nearly singular and random effects take up what its inverse makes large.
    """
    moments, sigma2 = place.objective.moments, float(place.optimum.natural.sigma2)
    return float(np.finfo(np.float64).eps * moments.yy) / (sigma2 * moments.n_obs)


def differentiate(at: ObjectiveAt, place: Place, exact: Exact | None = None) -> Curvature:
    """Derivatives of the profile at an inner maximum.

    ``exact`` gives those of l by theta, and across by the other parameters, where it can.
    """
    problem = make_problem(place.objective, place.objective.held)
    x = encode(problem, place.optimum.natural, place.optimum.theta)
    local = None if exact is None else exact(place.objective, place.theta, standard_at(problem, x))
    if local is None and not place.objective.held:
        return _by_evaluations(at, place)
    if local is None:
        local = differences(at, place.objective, place.theta, measure_at(problem, x))
    else:
        local = evolve(local, across=local.across @ standard_by_x(problem, x))
    inner = reduced(problem, x, problem.derivatives(x))
    across = local.across @ inner.tangent
    inverse = np.linalg.pinv(inner.hessian, rcond=1e-10, hermitian=True)
    return Curvature(local.gradient, local.hessian - across @ inverse @ across.T)


def _by_evaluations(at: ObjectiveAt, place: Place) -> Curvature:
    """By 2 k + k (k - 1) evaluations."""
    here, params = place.objective.standardized(), place.optimum.params
    factors = place.objective.moments.basis.standard_factors(params.factor)
    x = pack(evolve(params, factor=factors, beta=None))

    def measure(objective: Objective) -> Measured:
        standard = objective.standardized()
        value = evaluate(standard, x)
        return value.loglik, lambda: score_at(standard, value).score

    local = differences(at, place.objective, place.theta, measure)
    if not len(x):
        return Curvature(local.gradient, local.hessian)
    score = score_at(here, evaluate(here, x))
    inner = observed_hessian(here, score)
    inverse = np.linalg.pinv(inner, rcond=1e-10, hermitian=True)
    return Curvature(local.gradient, local.hessian - local.across @ inverse @ local.across.T)


def measure_at(problem: Problem, x: FloatArray) -> Callable[[Objective], Measured]:
    """The log-likelihood at the variables x of a problem, and the score by them."""
    params, by_x = standard_at(problem, x), standard_by_x(problem, x)

    def measure(objective: Objective) -> Measured:
        standard = objective.standardized()
        return float(standard.loglik(params)), lambda: standard.score(params) @ by_x

    return measure


def differences(
    at: ObjectiveAt, here: Objective, theta: FloatArray, measure: Callable[[Objective], Measured]
) -> Differences:
    """Derivatives by theta, the rest held; NaN where some R is not positive definite.

    ``measure`` gives the log-likelihood at the rest, and a function that gives the score by it.
    """
    k = len(theta)
    steps = STEP * np.eye(k)

    def measured(shift: FloatArray) -> Measured:
        objective = at(theta + shift)
        return (np.nan, lambda: np.full(n, np.nan)) if objective is None else measure(objective)

    centre, score = measure(here)
    n = len(score())
    ahead, behind = ([measured(sign * step) for step in steps] for sign in (1.0, -1.0))
    plus, minus = (np.array([value for value, _ in side]) for side in (ahead, behind))
    changes = [a() - b() for (_, a), (_, b) in zip(ahead, behind, strict=True)]
    return Differences(
        gradient=(plus - minus) / (2.0 * STEP),
        hessian=mixed_differences(lambda step: measured(step)[0], centre, plus, minus, STEP),
        across=np.reshape(changes, (k, n)) / (2.0 * STEP),
    )
