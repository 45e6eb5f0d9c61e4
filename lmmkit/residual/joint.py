"""The parameters of a residual structure beside all others, in one climb.

The variables are those of :mod:`lmmkit.optimize.constrained_problem`, then the free elements of the
structure's theta.
"""

import functools
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Equation
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.constrained_problem import (
    Equality,
    Problem,
    Spot,
    make_problem,
    standard_at,
    standard_by_x,
)
from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.fitted import FittedResidual
from lmmkit.residual.profile import differences, measure_at
from lmmkit.residual.restriction import restriction, slopes

_FARTHEST = 30.0
_LOG_SIGMA = 100.0
_LOST = 18.0
_NEARLY = 28.0


@record
class JointProblem:
    """A residual structure, and the problem of all else at its theta."""

    structure: FittedResidual
    inside: Problem

    @property
    def n_inside(self) -> int:
        """Number of variables that are not the structure's."""
        return len(self.inside.free)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which variables may move."""
        return np.append(self.inside.free, np.ones(len(self.structure.free), dtype=bool))

    @property
    def logarithmic(self) -> slice:
        """Log sigma and theta."""
        return slice(self.n_inside - 1, None)

    def units(self, x: FloatArray) -> FloatArray:
        """How large a change of each variable counts at x."""
        inside = self.inside.units(x[: self.n_inside])
        return np.append(inside, np.ones(len(self.structure.free)))

    def at(self, x: FloatArray) -> Spot:
        """The log-likelihood at x; minus infinity where R is not positive definite."""
        rest, free = np.split(x, [self.n_inside])
        far = float(np.abs(free).max(initial=0.0)) > _FARTHEST or abs(rest[-1]) > _LOG_SIGMA
        objective = None if far else self.structure.at_free(free)
        if objective is None:
            return Spot(-np.inf, x, _no_likelihood)
        try:
            loglik = self._inside(objective).at(rest).loglik
        except np.linalg.LinAlgError:  # a trial so far out that nothing else can be told
            return Spot(-np.inf, x, _no_likelihood)
        return Spot(loglik, x, functools.partial(self._derivatives, x, objective))

    def _derivatives(self, x: FloatArray, objective: Objective) -> tuple[FloatArray, FloatArray]:
        """The gradient and the Hessian of the log-likelihood at x, from the objective there.

        Zero by an element of theta so far out that only rounding is left of them.

        Raises
        ------
        ParameterError
            Next to a theta at which R is not positive definite.
        """
        rest, free = np.split(x, [self.n_inside])
        theta = self.structure.with_free(free)
        assert theta is not None, "there is a likelihood here"
        structure = evolve(self.structure, theta=theta)
        here = self._inside(objective)
        gradient, hessian = here.derivatives(rest)
        local = structure.expand(objective, standard_at(here, rest))
        if local is None:
            local = differences(structure.at_free, objective, free, measure_at(here, rest))
        else:
            local = evolve(local, across=local.across @ standard_by_x(here, rest))
        gradient = np.append(gradient, local.gradient)
        hessian = np.block([[hessian, local.across.T], [local.across, local.hessian]])
        far = (np.abs(free) > _LOST) & bounded(self.structure)[self.structure.free]
        lost = np.append(np.zeros(self.n_inside, dtype=bool), far)
        gradient[lost] = hessian[lost] = hessian[:, lost] = 0.0
        if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            _no_likelihood()
        return gradient, hessian

    def equalities(self, x: FloatArray, curved: bool = True) -> list[Equality]:
        """Those of the other parameters; theta's are kept by its free elements."""
        rest = x[: self.n_inside]
        k = len(x) - len(rest)
        return [
            Equality(e.residual, np.pad(e.gradient, (0, k)), np.pad(e.curvature, (0, k)))
            for e in self.inside.equalities(rest, curved)
        ]

    def _inside(self, objective: Objective) -> Problem:
        return evolve(self.inside, objective=objective.standardized())


def _no_likelihood() -> NoReturn:
    raise ParameterError("the residual structure has no likelihood next to its parameters")


def joint_problem(structure: FittedResidual, equations: tuple[Equation, ...]) -> JointProblem:
    """Of everything that is free where ``equations`` of the other parameters hold."""
    objective = structure.objective(structure.theta)
    if objective is None:
        raise ParameterError("the residual structure has no likelihood at these parameters")
    return JointProblem(structure, make_problem(objective, equations))


def bounded(structure: FittedResidual) -> NDArray[np.bool_]:
    """Which elements of theta (k,) are of parameters with bounds, which they near."""
    return np.isfinite([parameter.lower for parameter in structure.model.parameters])


def hold_one(structure: FittedResidual, number: int, value: float) -> FittedResidual:
    """The structure, near where it is, with one more of its parameters held.

    A value beyond those that the search can tell from a bound is taken for the last of these.

    Raises
    ------
    ParameterError
        Where no parameters are so.
    """
    known, values = structure.restriction, structure.model.values
    unit = np.eye(len(structure.theta))[number]
    by_theta = slopes(values, structure.theta, np.arange(len(unit), dtype=np.int32))[number]
    if not by_theta[unit == 0.0].any():
        ends = [values(structure.theta * (1.0 - unit) + s * _NEARLY * unit) for s in (-1.0, 1.0)]
        value = float(np.clip(value, ends[0][number], ends[1][number]))
    rows, right = np.vstack([known.rows, unit]), np.append(known.right, value)
    found = restriction(values, structure.theta[None], rows, right)
    if found is None:
        raise ParameterError(f"{structure.names[number]} cannot be {value} in these data")
    (theta,) = found.places(values, structure.theta[None])
    return evolve(structure, restriction=found, theta=theta)
