"""Points of a profile by fitting again with one parameter held: where terms have structures."""

import numpy as np

from lmmkit.errors import ParameterError, UnsupportedModelError
from lmmkit.fit import Fit
from lmmkit.inference.targets import Target
from lmmkit.likelihood.constraints import Hold
from lmmkit.optimize.climb import climb
from lmmkit.optimize.constrained_problem import Problem, encode, make_problem
from lmmkit.records import FloatArray

_INSIDE = 1e-6
_STARTS = 4
_AWAY = 0.3


def check_refits(wanted: tuple[Target, ...]) -> None:
    """Refuse what cannot be held by a linear constraint.

    Raises
    ------
    UnsupportedModelError
    """
    for target in wanted:
        if target.parameter.kind == "covariance":
            raise UnsupportedModelError(
                f"the profile of the {target}, of an unstructured term beside covariance "
                "structures, is not available in this version; leave it out with which=, or use "
                "method='wald'"
            )


def estimates(fit: Fit) -> FloatArray:
    """The coordinates of the fit."""
    return encode(make_problem(fit.objective, ()), fit.natural, fit.optimum.theta)


def refit(
    fit: Fit, target: Target, value: float, start: FloatArray
) -> tuple[FloatArray, float, float]:
    """Coordinates, log-likelihood and distance to the maximum at ``value`` of ``target``.

    The log-likelihood is minus infinity where the structure has no such covariance.
    """
    problem: Problem = make_problem(
        fit.objective, (*fit.objective.held, Hold(target.parameter.index, _held(target, value)))
    )
    generator = np.random.default_rng(0)
    x, loglik, distance = start, -np.inf, 0.0
    for _ in range(_STARTS):
        try:
            found = climb(problem, x)
        except ParameterError:
            # a parameter that is at a bound has no slope there
            x = start + _AWAY * generator.normal(size=len(start))
            continue
        x, loglik, distance = found.x, found.loglik, found.distance
        break
    return x, loglik, distance


def _held(target: Target, value: float) -> float:
    """What the parameter is held at; a bound is neared, not reached."""
    if target.kind == "cor":
        value = float(np.clip(value, _INSIDE - 1.0, 1.0 - _INSIDE))
    elif target.lower == 0.0:
        value = max(value, _INSIDE * target.estimate)
    squared = target.parameter.kind in ("variance", "residual")
    return value**2 if squared else value
