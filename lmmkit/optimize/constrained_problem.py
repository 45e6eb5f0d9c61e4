"""The variables of a constrained maximum, and what they mean.

They are ``x = (beta, each term's, log sigma)`` in standard coordinates: a term's are the packed
factor Lambda of its ``Psi = Lambda Lambda'``, or theta of its covariance structure, relative to
sigma.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ParameterError
from lmmkit.likelihood.charts import factor_curvature, factors_jacobian
from lmmkit.likelihood.constraints import Equation, HoldCorrelation, gap, relation_row
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.linalg import lower, psd_factor, vech
from lmmkit.moments.basis import Basis, congruence
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, float_array, record


@record
class _Part:
    """One term: its places in x, in packed standard parameters and in reported parameters.

    ``across`` takes packed standard Psi to what is reported, where there is no structure; ``unit``
    is that of theta, where there is one.
    """

    q: int
    term: StructuredTerm | None
    x: slice
    standard: slice
    reported: slice
    across: FloatArray = float_array(2)
    unit: FloatArray = float_array(1)


@record
class Problem:
    """An objective and its constraints.

    Attributes
    ----------
    objective : Objective
        In standard coordinates.
    user_basis : Basis
    constraints : tuple of Hold, Relation or HoldCorrelation
        Of the reported parameters: beta, of each term the packed Psi or the parameters of its
        structure, sigma2, in the user's coordinates.
    parts : tuple
    n_standard, n_reported : int
    """

    objective: Objective
    user_basis: Basis
    constraints: tuple[Equation, ...]
    parts: tuple[_Part, ...]
    n_standard: int
    n_reported: int

    @property
    def p(self) -> int:
        """Number of fixed effects that are free."""
        return len(self.objective.moments.xx)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which variables may move: all but log sigma where sigma2 is held."""
        n = self.parts[-1].x.stop if self.parts else self.p
        return np.append(np.ones(n, dtype=bool), self.objective.held_sigma2 is None)

    @property
    def logarithmic(self) -> slice:
        """The variables that one step changes by no more than 2."""
        return slice(-1, None)

    def units(self, x: FloatArray) -> FloatArray:
        """How large a change of each variable counts at x.

        Of beta and of factors it is a residual standard deviation, by the size of the columns.
        """
        moments = self.objective.moments
        squares = np.diagonal(moments.xx) / max(moments.n_obs, 1)
        squares = squares[squares > 0.0]
        size = float(np.sqrt(squares.mean())) if len(squares) else 1.0
        units = np.full(len(x), np.exp(x[-1]) / size)
        units[-1] = 1.0
        for part in self.parts:
            if part.term is not None:
                units[part.x] = part.unit
        return units

    def at(self, x: FloatArray) -> "Spot":
        """The log-likelihood at x."""
        loglik = float(self.objective.loglik(standard_at(self, x)))
        return Spot(loglik, x, functools.partial(self.derivatives, x))

    def derivatives(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The gradient and the Hessian of the log-likelihood at x."""
        params, by_x = standard_at(self, x), standard_by_x(self, x)
        score = self.objective.score(params)
        hessian = by_x.T @ self.objective.hessian(params) @ by_x
        return score @ by_x, hessian + standard_curvature(self, x, score)

    def equalities(self, x: FloatArray, curved: bool = True) -> list["Equality"]:
        """The constraints at x; curvature is dear, and zero where it is not wanted."""
        values = reported_at(self, x)
        return [_equality(self, x, c, values, curved) for c in self.constraints]


@record
class Spot:
    """The log-likelihood at some variables; not finite where there is none.

    Attributes
    ----------
    loglik : float
    x : ndarray (n,)
    derivatives : callable
        The gradient (n,) and the Hessian (n, n) there, computed when called.
    """

    loglik: float
    x: FloatArray
    derivatives: Callable[[], tuple[FloatArray, FloatArray]]


@record
class Equality:
    """One constraint's residual, in units of x, and its first two derivatives by x."""

    residual: float
    gradient: FloatArray = float_array(1)
    curvature: FloatArray = float_array(2)


def make_problem(objective: Objective, constraints: tuple[Equation, ...]) -> Problem:
    """The problem of maximizing ``objective`` subject to ``constraints``."""
    basis = objective.moments.basis
    p, p_free = basis.x.shape
    ends, parts = (p_free, p_free, p), []
    for c, term in zip(basis.z, objective.terms, strict=True):
        rows, q = c.shape
        n = triangle_size(q)
        sizes = (n, n, triangle_size(rows)) if term is None else (term.n, n, term.n)
        x, inside, reported = (slice(e, e + n) for e, n in zip(ends, sizes, strict=True))
        unit = np.ones(0) if term is None else term.unit()
        parts.append(_Part(q, term, x, inside, reported, congruence(c), unit))
        ends = (x.stop, inside.stop, reported.stop)
    standard = objective.standardized()
    return Problem(standard, basis, constraints, tuple(parts), ends[1] + 1, ends[2] + 1)


def encode(
    problem: Problem, natural: NaturalParams, theta: tuple[FloatArray | None, ...]
) -> FloatArray:
    """The variables at ``natural``, in the user's coordinates, and at the structures' theta."""
    basis = problem.user_basis
    assert natural.beta is not None
    pieces: list[FloatArray] = [basis.standard_beta(natural.beta)]
    theta = theta or (None,) * len(problem.parts)
    for psi, own in zip(basis.standard_psi(natural.psi), theta, strict=True):
        pieces.append(vech(psd_factor(psi)) if own is None else own)
    log_sigma: FloatArray = np.full(1, 0.5 * np.log(natural.sigma2))
    return np.concatenate([*pieces, log_sigma])


def standard_at(problem: Problem, x: FloatArray) -> NaturalParams:
    """The standard natural parameters at x."""
    sigma2 = float(np.exp(2.0 * x[-1]))
    psi: list[FloatArray] = []
    for part in problem.parts:
        own = x[part.x]
        if part.term is None:
            factor = lower(own, part.q)
            psi.append(factor @ factor.T)
        else:
            psi.append(sigma2 * part.term.standard(own))
    return NaturalParams(tuple(psi), sigma2, x[: problem.p])


def theta_at(problem: Problem, x: FloatArray) -> tuple[FloatArray | None, ...]:
    """The structures' parameters at x; () where no term has a structure.

    Canonical where none of them is in a constraint, which may need their signs.
    """
    if not problem.objective.structures:
        return ()
    used = {i for c in problem.constraints for i in _places(c)}
    return tuple(
        None
        if part.term is None
        else x[part.x]
        if used.intersection(range(part.reported.start, part.reported.stop))
        else part.term.canonical(x[part.x])
        for part in problem.parts
    )


def _places(constraint: Equation) -> tuple[int, ...]:
    if isinstance(constraint, HoldCorrelation):
        return constraint.places
    return tuple(index for index, _ in constraint.coefficients)


def reported_at(problem: Problem, x: FloatArray) -> FloatArray:
    """The reported parameters at x."""
    sigma = float(np.exp(x[-1]))
    packed = standard_at(problem, x).pack()
    values = np.empty(problem.n_reported)
    values[: len(problem.user_basis.x)] = problem.user_basis.beta(x[: problem.p])
    values[-1] = sigma**2
    for part in problem.parts:
        values[part.reported] = (
            part.across @ packed[part.standard]
            if part.term is None
            else part.term.natural(x[part.x], sigma)
        )
    return values


def standard_by_x(problem: Problem, x: FloatArray) -> FloatArray:
    """Derivative of the packed standard natural parameters by x."""
    sigma2 = float(np.exp(2.0 * x[-1]))
    matrix = np.zeros((problem.n_standard, len(x)))
    matrix[: problem.p, : problem.p] = np.eye(problem.p)
    matrix[-1, -1] = 2.0 * sigma2
    for part in problem.parts:
        if part.term is None:
            matrix[part.standard, part.x] = factors_jacobian((lower(x[part.x], part.q),))
        else:
            matrix[part.standard, _with_sigma(part, x)] = part.term.psi_jacobian(x[part.x], sigma2)
    return matrix


def standard_curvature(problem: Problem, x: FloatArray, gradient: FloatArray) -> FloatArray:
    """``sum_i gradient_i d2 (packed standard natural)_i`` by x."""
    sigma2 = float(np.exp(2.0 * x[-1]))
    matrix = np.zeros((len(x), len(x)))
    matrix[-1, -1] = 4.0 * sigma2 * gradient[-1]
    for part in problem.parts:
        slope = gradient[part.standard]
        if part.term is None:
            matrix[part.x, part.x] += factor_curvature((part.q,), slope)
        else:
            place = _with_sigma(part, x)
            matrix[np.ix_(place, place)] += part.term.psi_curvature(x[part.x], sigma2, slope)
    return matrix


def _with_sigma(part: _Part, x: FloatArray) -> list[int]:
    return [*range(part.x.start, part.x.stop), len(x) - 1]


def _equality(
    problem: Problem,
    x: FloatArray,
    constraint: Equation,
    values: FloatArray,
    curved: bool,
) -> Equality:
    if isinstance(constraint, HoldCorrelation):
        return _correlation(problem, x, constraint, values)
    row = relation_row(constraint, problem.n_reported)
    sigma = float(np.exp(x[-1]))
    standard = np.zeros(problem.n_standard)
    standard[: problem.p] = row[: len(problem.user_basis.x)] @ problem.user_basis.x
    standard[-1] = row[-1]
    gradient, curvature = np.zeros(len(x)), np.zeros((len(x), len(x)))
    for part in problem.parts:
        own = row[part.reported]
        if part.term is None:
            standard[part.standard] = own @ part.across
        elif own.any():
            place = _with_sigma(part, x)
            gradient[place] += own @ part.term.natural_jacobian(x[part.x], sigma)
            if curved:
                bend = part.term.natural_curvature(x[part.x], sigma, own)
                curvature[np.ix_(place, place)] += bend
    if standard.any():
        gradient = gradient + standard @ standard_by_x(problem, x)
        if curved:
            curvature = curvature + standard_curvature(problem, x, standard)
    return _scaled(gap(constraint, values), gradient, curvature, problem.units(x))


def _correlation(
    problem: Problem,
    x: FloatArray,
    constraint: HoldCorrelation,
    values: FloatArray,
) -> Equality:
    """Of a term without a structure."""
    places = np.array(constraint.places)
    if values[places[1:]].min() <= 0.0:
        raise _unreachable()
    residual, slope, bend = constraint.local(values)
    (part,) = (p for p in problem.parts if p.reported.start <= places[0] < p.reported.stop)
    across = part.across[places - part.reported.start]
    standard = np.zeros(problem.n_standard)
    standard[part.standard] = slope @ across
    by_x = standard_by_x(problem, x)
    moved = across @ by_x[part.standard]
    curvature = standard_curvature(problem, x, standard) + moved.T @ bend @ moved
    return _scaled(residual, standard @ by_x, curvature, problem.units(x))


def _scaled(
    residual: float, gradient: FloatArray, curvature: FloatArray, units: FloatArray
) -> Equality:
    scale = float(np.linalg.norm(gradient * units))
    if scale == 0.0:
        raise _unreachable()
    return Equality(residual / scale, gradient / scale, curvature / scale)


def _unreachable() -> ParameterError:
    return ParameterError(
        "a held covariance parameter cannot be reached from a start whose covariance is "
        "zero there; give a start with a positive variance"
    )
