"""The maximum subject to held entries of the natural parameters.

The variables are ``x = (beta, Lambda, log sigma)`` in standard coordinates, where
``Psi = Lambda Lambda'``.
A step is Newton's on the Lagrangian, restricted to the constraints' tangent space (absolute
eigenvalues where the reduced Hessian is indefinite); afterwards Gauss-Newton steps on the
constraints alone, which cost no likelihood, bring the point back to them. Every accepted point is
feasible, so that a line search on the log-likelihood suffices.
"""

from collections.abc import Callable

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.likelihood.charts import factor_curvature, factors_jacobian
from lmmkit.likelihood.constraints import Hold
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import block_diagonal, psd_factor, vech
from lmmkit.moments.basis import Basis, congruence
from lmmkit.optimize.certificate import count_signs
from lmmkit.optimize.step import Report, Status
from lmmkit.parameters.checks import Layout
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.packing import pack_parts, split_matrices
from lmmkit.records import FloatArray, float_array, record

_TOLERANCE = 1e-9
_FEASIBLE = 1e-13
_ROUNDING = 1e-14
_IDLE = 10


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
    """

    natural: NaturalParams
    loglik: float
    inertia: tuple[int, int, int]
    reports: tuple[Report, ...]


def maximize_subject_to(
    objective: Objective,
    constraints: tuple[Hold, ...],
    start: NaturalParams,
    *,
    max_iterations: int = 200,
    progress: Callable[[int, Report], None] | None = None,
) -> Constrained:
    """The best natural parameters that satisfy ``constraints``.

    Parameters
    ----------
    objective : Objective
    constraints : tuple of Hold
        On the packed natural parameters with beta: beta, lower triangles of Psi, sigma2.
    start : NaturalParams
        With beta; need not satisfy the constraints.
    max_iterations : int
    progress : callable (iteration, report), optional

    Raises
    ------
    ParameterError
        Where no covariance satisfies the constraints.
    """
    problem = _problem(objective, constraints)
    x = _restore(problem, _encode(problem, start))
    loglik = _loglik(problem, x)
    reports: list[Report] = []
    status, idle = Status.OUT_OF_ITERATIONS, 0
    while len(reports) < max_iterations:
        direction, distance, inertia = _newton(problem, x)
        if distance <= _TOLERANCE:
            status = Status.CONVERGED
            break
        length, moved, after = _search(problem, x, loglik, direction)
        idle = idle + 1 if after - loglik <= _ROUNDING * abs(loglik) else 0
        if length == 0.0 or idle == _IDLE:
            status = Status.CONVERGED if distance <= 1e4 * _TOLERANCE else Status.STALLED
            break
        x, loglik = moved, after
        reports.append(Report(Status.RUNNING, "constrained newton", loglik, distance, length))
        if progress is not None:
            progress(len(reports), reports[-1])
    reports.append(Report(status, "constrained newton", loglik, distance, 0.0))
    return Constrained(_natural(problem, x), loglik, inertia, tuple(reports))


@record
class _Problem:
    """The objective and its constraints; ``natural = origin + to_user @ standard``, both packed."""

    objective: Objective
    user_basis: Basis
    constraints: tuple[Hold, ...]
    to_user: FloatArray = float_array(2)
    origin: FloatArray = float_array(1)


@record
class _Equality:
    """One constraint's residual and its first two derivatives by x."""

    residual: float
    gradient: FloatArray = float_array(1)
    curvature: FloatArray = float_array(2)


def _problem(objective: Objective, constraints: tuple[Hold, ...]) -> _Problem:
    basis = objective.moments.basis
    to_user = block_diagonal([basis.x, *map(congruence, basis.z), np.eye(1)])
    origin = np.concatenate([basis.origin, np.zeros(len(to_user) - len(basis.x))])
    return _Problem(objective.standardized(), basis, constraints, to_user, origin)


def _p(problem: _Problem) -> int:
    return len(problem.objective.moments.xx)


def _encode(problem: _Problem, natural: NaturalParams) -> FloatArray:
    packed = natural.pack() - problem.origin
    standard = np.linalg.lstsq(problem.to_user, packed, rcond=None)[0]
    p, sizes = _p(problem), problem.objective.sizes
    psi = split_matrices(standard[p:-1], sizes, triangular=False)
    factors = [vech(psd_factor(matrix)) for matrix in psi]
    return np.concatenate([standard[:p], *factors, 0.5 * np.log(standard[-1:])])


def _standard(problem: _Problem, x: FloatArray) -> NaturalParams:
    p = _p(problem)
    factors = split_matrices(x[p:-1], problem.objective.sizes, triangular=True)
    return NaturalParams(tuple(t @ t.T for t in factors), float(np.exp(2.0 * x[-1])), x[:p])


def _user(problem: _Problem, x: FloatArray) -> FloatArray:
    values: FloatArray = problem.origin + problem.to_user @ _standard(problem, x).pack()
    return values


def _natural(problem: _Problem, x: FloatArray) -> NaturalParams:
    """In the user's coordinates, held entries exact."""
    values = _user(problem, x)
    p, sizes = len(problem.user_basis.x), tuple(len(c) for c in problem.user_basis.z)
    held = values.copy()
    for constraint in problem.constraints:
        held[constraint.index] = constraint.value
    if problem.objective.held_sigma2 is not None:
        held[-1] = problem.objective.held_sigma2
    # a held variance is exact, and what rounding had changed of it goes from its covariances too
    psi = split_matrices(values[p:-1], sizes, triangular=False)
    exact = split_matrices(held[p:-1], sizes, triangular=False)
    scaled: list[FloatArray] = []
    for matrix, wanted in zip(psi, exact, strict=True):
        before = np.diagonal(matrix)
        root = np.sqrt(
            np.where(before > 0, np.diagonal(wanted) / np.where(before > 0, before, 1), 1)
        )
        scaled.append(matrix * np.outer(root, root))
    values = np.concatenate([held[:p], pack_parts(None, scaled, None), held[-1:]])
    for constraint in problem.constraints:
        values[constraint.index] = constraint.value
    return NaturalParams.unpack(values, Layout(p, sizes))


def _loglik(problem: _Problem, x: FloatArray) -> float:
    return float(problem.objective.loglik(_standard(problem, x)))


def _by_x(problem: _Problem, x: FloatArray) -> FloatArray:
    """Jacobian of the packed standard natural parameters by x."""
    p = _p(problem)
    factors = split_matrices(x[p:-1], problem.objective.sizes, triangular=True)
    return block_diagonal(
        [np.eye(p), factors_jacobian(factors), np.array([[2.0 * np.exp(2.0 * x[-1])]])]
    )


def _map_curvature(problem: _Problem, x: FloatArray, gradient: FloatArray) -> FloatArray:
    """``sum_i gradient_i d2 (packed standard natural)_i`` by x."""
    p = _p(problem)
    matrix = np.zeros((len(x), len(x)))
    matrix[p:-1, p:-1] = factor_curvature(problem.objective.sizes, gradient[p:-1])
    matrix[-1, -1] = 4.0 * np.exp(2.0 * x[-1]) * gradient[-1]
    return matrix


def _equalities(problem: _Problem, x: FloatArray) -> list[_Equality]:
    values = _user(problem, x)
    user_by_x = problem.to_user @ _by_x(problem, x)
    equalities = []
    for constraint in problem.constraints:
        gradient = problem.to_user[constraint.index]
        row = user_by_x[constraint.index]
        scale = float(np.linalg.norm(row))
        if scale == 0.0:
            raise ParameterError(
                "a held covariance parameter cannot be reached from a start whose covariance is "
                "zero there; give a start with a positive variance"
            )
        residual = float(values[constraint.index] - constraint.value)
        curvature = _map_curvature(problem, x, gradient)
        equalities.append(_Equality(residual / scale, row / scale, curvature / scale))
    return equalities


def _restore(problem: _Problem, x: FloatArray) -> FloatArray:
    """The nearby point that satisfies the constraints, by Gauss-Newton steps."""
    for _ in range(60):
        equalities = _equalities(problem, x)
        h = np.array([e.residual for e in equalities])
        if np.abs(h).max(initial=0.0) <= _FEASIBLE * (1.0 + np.abs(x).max()):
            return x
        A = np.array([e.gradient for e in equalities])
        step = np.linalg.lstsq(A, h, rcond=1e-12)[0]
        x = x - step * min(1.0, 2.0 / float(np.abs(step[-1:]).max(initial=1e-300)))
    if np.abs(h).max() > 1e-8 * (1.0 + np.abs(x).max()):
        raise ParameterError(
            "no covariance matrix satisfies the held values: together they are not positive "
            "semidefinite, or contradict one another"
        )
    return x


def _newton(problem: _Problem, x: FloatArray) -> tuple[FloatArray, float, tuple[int, int, int]]:
    """A step of ascent in the tangent space, its length in standard errors, the inertia."""
    objective = problem.objective
    params = _standard(problem, x)
    free = np.ones(len(x), dtype=bool)
    free[-1] = objective.held_sigma2 is None
    by_x = _by_x(problem, x)
    score = objective.score(params)
    gradient = score @ by_x
    hessian = by_x.T @ objective.hessian(params) @ by_x + _map_curvature(problem, x, score)
    equalities = _equalities(problem, x)
    A = np.array([e.gradient for e in equalities]).reshape(len(equalities), len(x))[:, free]
    multipliers = np.linalg.lstsq(A.T, gradient[free], rcond=1e-12)[0]
    for multiplier, equality in zip(multipliers, equalities, strict=True):
        hessian = hessian - multiplier * equality.curvature
    tangent = _null_space(A)
    reduced = tangent.T @ hessian[np.ix_(free, free)] @ tangent
    slope = tangent.T @ gradient[free]
    values, vectors = np.linalg.eigh(-reduced)
    floor = 1e-10 * np.abs(values).max(initial=0.0) + 1e-300
    step = vectors @ ((vectors.T @ slope) / np.maximum(np.abs(values), floor))
    direction = np.zeros(len(x))
    direction[free] = tangent @ step
    flat = 1e-7 * np.abs(values).max(initial=0.0)
    inertia = count_signs(values, float(flat))
    return direction, float(np.sqrt(max(step @ slope, 0.0))), inertia


def _null_space(A: FloatArray) -> FloatArray:
    if not len(A):
        return np.eye(A.shape[1])
    _, values, right = np.linalg.svd(A)
    rank = int((values > 1e-10 * values[0]).sum())
    return np.asarray(right[rank:].T)


def _search(
    problem: _Problem, x: FloatArray, loglik: float, direction: FloatArray
) -> tuple[float, FloatArray, float]:
    """The first of the step lengths 1, 0.3, ... that rises; 0 where none does."""
    length = min(1.0, 2.0 / max(float(np.abs(direction[-1])), 1e-300))
    for _ in range(25):
        moved = _restore(problem, x + length * direction)
        after = _loglik(problem, moved)
        if after > loglik:
            return length, moved, after
        length *= 0.3
    return 0.0, x, loglik
