"""Points of a profile by fitting again with one parameter held: for any kind of model.

The coordinates of a point are the variables of :mod:`lmmkit.optimize.constrained_problem`, and
theta of the residual structure.
"""

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.fit import Fit
from lmmkit.inference.targets import Target
from lmmkit.likelihood.constraints import Equation, Hold, HoldCorrelation
from lmmkit.linalg import lower, vech
from lmmkit.optimize.climb import climb
from lmmkit.optimize.constrained_problem import Problem, encode, make_problem
from lmmkit.records import FloatArray, evolve
from lmmkit.residual.fitted import FittedResidual
from lmmkit.residual.joint import bounded, hold_one, joint_problem

_INSIDE = 1e-6
_STARTS = 2
_AWAY = 0.3
_NUDGE = 0.01
_FARTHEST = 12.0
# the log-likelihood is wrong by half its square
_TOLERANCE = 1e-5


def estimates(fit: Fit) -> FloatArray:
    """The coordinates of the fit; where a variance is zero, beside it, as slopes vanish there."""
    problem = make_problem(fit.objective, ())
    x = encode(problem, fit.natural, fit.optimum.theta)
    least = _NUDGE * float(np.exp(x[-1]))
    for part in problem.parts:
        if part.term is None:
            factor = lower(x[part.x], part.q)
            diagonal = np.diagonal(factor)
            x[part.x] = vech(factor + np.diag(np.maximum(diagonal, least) - diagonal))
    return x if fit.residual is None else np.append(x, fit.residual.theta)


def refit(
    fit: Fit, target: Target, value: float, start: FloatArray, before: FloatArray
) -> tuple[FloatArray, float, float]:
    """Coordinates, log-likelihood and distance to the maximum at ``value`` of ``target``.

    From ``start``; where nothing is found from there, from ``before``, the point before, and from
    around that: a parameter that is at a bound has no slope there. The log-likelihood is minus
    infinity where there is no such covariance.
    """
    generator = np.random.default_rng(0)
    units = np.ones(len(before))
    problem = make_problem(fit.objective, ())
    inside = len(problem.free)
    units[:inside] = problem.units(before[:inside])
    # a correlation is lost where a variance vanishes, which a profile knows without it
    more = 0 if target.parameter.variances is not None else _STARTS
    around = [before + _AWAY * units * generator.normal(size=len(start)) for _ in range(more)]
    for x in (start, before, *around):
        if target.kind == "sigma":
            x = _with_sigma(fit, x, _held(target, value))
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return _climb(fit, target, _held(target, value), x)
        except (ParameterError, np.linalg.LinAlgError):  # so far out that nothing can be told
            continue
    return start, -np.inf, 0.0


def _with_sigma(fit: Fit, x: FloatArray, sigma: float) -> FloatArray:
    """The variables with another sigma, and the same Psi: theta is relative to sigma."""
    problem, moved = make_problem(fit.objective, ()), x.copy()
    last = len(problem.free) - 1
    moved[last] = np.log(sigma)
    for part in problem.parts:
        if part.term is not None:
            psi = np.exp(2.0 * (x[last] - moved[last])) * part.term.covariance(x[part.x])
            moved[part.x] = part.term.nearest(psi, x[part.x])
    return moved


def _climb(
    fit: Fit, target: Target, value: float, start: FloatArray
) -> tuple[FloatArray, float, float]:
    if fit.residual is None:
        problem: Problem = make_problem(fit.objective, _equations(fit, target, value))
        found = climb(problem, start, tolerance=_TOLERANCE)
        return found.x, found.loglik, found.distance
    rest, theta = np.split(start, [-len(fit.residual.theta)])
    theta = np.where(bounded(fit.residual), np.clip(theta, -_FARTHEST, _FARTHEST), theta)
    structure = _structure(fit.residual, target, value, theta)
    joint = joint_problem(structure, _equations(fit, target, value))
    ahead = np.append(rest, structure.theta[structure.free])
    found = climb(joint, ahead, tolerance=_TOLERANCE)
    rest, free = np.split(found.x, [joint.n_inside])
    ended = structure.with_free(free)
    assert ended is not None, "the climb stays where the restriction holds"
    return np.append(rest, ended), found.loglik, found.distance


def _equations(fit: Fit, target: Target, value: float) -> tuple[Equation, ...]:
    """What is held of the parameters other than those of the residual structure."""
    parameter = target.parameter
    if target.kind == "structure":
        return fit.objective.held
    if parameter.variances is not None:
        return (*fit.objective.held, HoldCorrelation(parameter.index, parameter.variances, value))
    squared = parameter.kind in ("variance", "residual")
    return (*fit.objective.held, Hold(parameter.index, value**2 if squared else value))


def _structure(
    structure: FittedResidual, target: Target, value: float, theta: FloatArray
) -> FittedResidual:
    """The residual structure near theta, where its restriction holds."""
    place = structure.restriction.project(structure.model.values, theta)
    if place is None:
        raise ParameterError(f"the residual structure cannot be near {theta}")
    structure = evolve(structure, theta=place)
    if target.kind != "structure":
        return structure
    return hold_one(structure, structure.names.index(target.parameter.term), value)


def _held(target: Target, value: float) -> float:
    """What the parameter is held at; a bound is neared, not reached."""
    if target.kind == "cor":
        return float(np.clip(value, _INSIDE - 1.0, 1.0 - _INSIDE))
    if np.isfinite(target.lower):
        value = max(value, target.lower + _INSIDE * (target.estimate - target.lower))
    if np.isfinite(target.upper):
        value = min(value, target.upper - _INSIDE * (target.upper - target.estimate))
    return value
