"""The maximum subject to held or related parameters, the highest one of several starts."""

from collections.abc import Callable

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Hold, Relation, gap
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import lower, psd_factor, symmetric
from lmmkit.optimize.certificate import is_singular
from lmmkit.optimize.climb import Climbed, climb
from lmmkit.optimize.constrained_problem import (
    Problem,
    encode,
    make_problem,
    reported_at,
    theta_at,
)
from lmmkit.optimize.step import Report
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, evolve, record

_SAME = 1e-7
_WAY = (0.5, 0.2, 0.05, 0.01)
_ITERATIONS_ON_THE_WAY = 50
_MORE_STARTS = 4
_NEARLY_ZERO = 1e-4


@record
class Constrained:
    """A maximum subject to constraints.

    Attributes
    ----------
    natural : NaturalParams
        With beta; held entries are exact.
    loglik : float
    inertia : tuple of int
        Numbers of positive, zero and negative eigenvalues of minus the Lagrangian's Hessian in the
        constraints' tangent space.
    reports : tuple of Report
    theta : tuple of (ndarray or None)
        Parameters of the covariance structures; () where no term has one.
    """

    natural: NaturalParams
    loglik: float
    inertia: tuple[int, int, int]
    reports: tuple[Report, ...]
    theta: tuple[FloatArray | None, ...] = ()


def maximize_subject_to(
    objective: Objective,
    constraints: tuple[Hold | Relation, ...],
    start: NaturalParams,
    theta: tuple[FloatArray | None, ...] = (),
    *,
    max_iterations: int = 200,
    progress: Callable[[int, Report], None] | None = None,
) -> Constrained:
    """The best natural parameters that satisfy ``constraints``.

    Parameters
    ----------
    objective : Objective
    constraints : tuple of Hold or Relation
        On the natural parameters with beta: beta, lower triangles of Psi or the parameters of
        covariance structures, sigma2.
    start : NaturalParams
        With beta; need not satisfy the constraints.
    theta : tuple of (ndarray or None)
        The same place for the terms that have a covariance structure.
    max_iterations : int
        From each start.
    progress : callable (iteration, report), optional

    Raises
    ------
    ParameterError
        Where no covariance satisfies the constraints.
    """
    problem = make_problem(objective, constraints)
    found = _highest(problem, encode(problem, start, theta), max_iterations, progress)
    return Constrained(
        _natural(problem, found.x),
        found.loglik,
        found.inertia,
        found.reports,
        theta_at(problem, found.x),
    )


def _highest(
    problem: Problem,
    start: FloatArray,
    max_iterations: int,
    progress: Callable[[int, Report], None] | None,
) -> Climbed:
    """From ``start`` and from the maximum without the constraints.

    Where these differ, or end on the boundary, also from where the constrained values are reached
    by steps, and from beside it: values that the data speak against leave local maxima, in which
    some standard deviations are zero.
    """
    found: list[Climbed] = []
    errors: list[ParameterError] = []

    def attempt(x: FloatArray) -> None:
        try:
            found.append(climb(problem, x, max_iterations, progress))
        except ParameterError as error:
            errors.append(error)

    attempt(start)
    free = climb(evolve(problem, constraints=()), start, _ITERATIONS_ON_THE_WAY).x
    attempt(free)
    values = [one.loglik for one in found]
    if len(values) < 2 or np.ptp(values) > _SAME or _on_boundary(problem, found[0]):
        near = _by_steps(problem, free)
        attempt(near)
        generator = np.random.default_rng(0)
        for _ in range(_MORE_STARTS):
            x = near.copy()
            moved = slice(problem.p, -1)
            x[moved] += problem.units(x)[moved] * generator.normal(size=len(x) - problem.p - 1)
            attempt(x)
    if not found:
        raise errors[0]
    return max(found, key=lambda one: one.loglik)


def _by_steps(problem: Problem, x: FloatArray) -> FloatArray:
    """From the free maximum towards the constraints; as far as there are such covariances."""
    values = reported_at(problem, x)
    gaps = [gap(c, values) for c in problem.constraints]
    for share in _WAY:
        nearer = tuple(
            evolve(c, value=c.value + share * left)
            for c, left in zip(problem.constraints, gaps, strict=True)
        )
        try:
            x = climb(evolve(problem, constraints=nearer), x, _ITERATIONS_ON_THE_WAY).x
        except ParameterError:
            return x
    return x


def _on_boundary(problem: Problem, found: Climbed) -> bool:
    """Whether it is no clear maximum, or a covariance is singular there."""
    if any(found.inertia[1:]):
        return True
    return any(
        is_singular(lower(found.x[part.x], part.q) / np.exp(found.x[-1]))
        if part.term is None
        else is_singular(psd_factor(part.term.standard(found.x[part.x])), _NEARLY_ZERO)
        for part in problem.parts
    )


def _natural(problem: Problem, x: FloatArray) -> NaturalParams:
    """In the user's coordinates, held entries exact."""
    values = reported_at(problem, x)
    held, fixed = values.copy(), np.zeros(len(values))
    for constraint in problem.constraints:
        if isinstance(constraint, Hold):
            held[constraint.index], fixed[constraint.index] = constraint.value, 1.0
    if problem.objective.held_sigma2 is not None:
        held[-1] = problem.objective.held_sigma2
    psi = [
        _exact(values[part.reported], held[part.reported], fixed[part.reported], len(c))
        if part.term is None
        else held[-1] * part.term.covariance(x[part.x])
        for part, c in zip(problem.parts, problem.user_basis.z, strict=True)
    ]
    return NaturalParams(tuple(psi), float(held[-1]), held[: len(problem.user_basis.x)])


def _exact(values: FloatArray, held: FloatArray, fixed: FloatArray, q: int) -> FloatArray:
    """Psi; what rounding had changed of a held variance goes from its covariances too."""
    matrix, wanted, kept = (symmetric(each, q) for each in (values, held, fixed))
    before = np.diagonal(matrix)
    ratio = np.where(before > 0, np.diagonal(wanted) / np.where(before > 0, before, 1), 1)
    root = np.sqrt(ratio)
    return np.where(kept == 1.0, wanted, matrix * np.outer(root, root))
