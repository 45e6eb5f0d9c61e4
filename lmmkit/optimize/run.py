"""The one loop: from an objective and a strategy to an optimum."""

from collections.abc import Callable

import numpy as np
import polars as pl

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import psd_factor
from lmmkit.optimize.certificate import Certificate, certify, singular_terms
from lmmkit.optimize.constrained import maximize_subject_to
from lmmkit.optimize.contract_checks import check_arguments, checked_update
from lmmkit.optimize.escape import escape_saddles
from lmmkit.optimize.evaluate import Score, differentiate, evaluate, pack, reached, theta_of, unpack
from lmmkit.optimize.presets import preset_for
from lmmkit.optimize.start import standard_start, with_theta
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.convert import to_square_root
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.square_root import SquareRootParams, positive_diagonal
from lmmkit.records import FloatArray, evolve, record

_NEARLY_ZERO = 1e-4
_NEARLY_SINGULAR = 1e-7
_NO_LOSS = 1e-10


@record
class Optimum:
    """Where a strategy ended, whether or not it converged.

    Attributes
    ----------
    natural : NaturalParams
        With beta; held entries are exact.
    loglik : float
    certificate : Certificate
    reports : tuple of Report
        One an iteration.
    theta : tuple of (ndarray or None)
        Parameters of each random term's covariance structure, relative to sigma; None where the
        covariance is unstructured, () where all are.
    """

    natural: NaturalParams
    loglik: float
    certificate: Certificate
    reports: tuple[Report, ...]
    theta: tuple[FloatArray | None, ...] = ()

    @property
    def trace(self) -> pl.DataFrame:
        """One row an iteration: iteration, step, loglik, score_norm, step_length."""
        return pl.DataFrame(
            {
                "iteration": range(1, len(self.reports) + 1),
                "step": [report.step for report in self.reports],
                "loglik": [report.loglik for report in self.reports],
                "score_norm": [report.score_norm for report in self.reports],
                "step_length": [report.step_length for report in self.reports],
            },
            schema_overrides={"iteration": pl.Int64},
        )

    @property
    def params(self) -> SquareRootParams:
        """The same place as relative covariance factors, with beta."""
        return evolve(to_square_root(self.natural), theta=self.theta)


def maximize(
    objective: Objective,
    strategy: Step | None = None,
    start: SquareRootParams | None = None,
    *,
    max_iterations: int = 10_000,
    progress: Callable[[int, Report], None] | None = None,
) -> Optimum:
    """Maximize the (restricted) log-likelihood over the random effects' covariances.

    Parameters
    ----------
    objective : Objective
    strategy : Step, optional
        By default :func:`~lmmkit.optimize.presets.default_strategy`, or where a term has a
        covariance structure :func:`~lmmkit.optimize.presets.structured_strategy`, whose further
        starts are left out where ``start`` is given.
    start : SquareRootParams, optional
        By default covariances of the size of the residual variance.
    max_iterations : int
    progress : callable (iteration, report), optional
        Called after every iteration.

    Returns
    -------
    Optimum
        Always: one that did not converge says so in its certificate.

    Raises
    ------
    StrategyError
        Where the strategy cannot work on this objective; before the first iteration.
    ArgumentError
        For another argument that is not what it should be.
    """
    check_arguments(objective, start, max_iterations, progress)
    given = strategy is not None
    if strategy is None:
        strategy = preset_for(objective, several=start is None)
    if not isinstance(strategy, Step):
        raise StrategyError(f"expected a strategy such as chain(em(3), ...), got {strategy!r}")
    if objective.held:
        return _maximize_held(objective, given, start, max_iterations, progress)
    standard = objective.standardized()
    params = standard_start(objective) if start is None else _standardize(objective, start)
    reports: list[Report] = []

    def climb(strategy: Step, params: SquareRootParams) -> tuple[Score, Certificate]:
        return _climb(standard, strategy, params, reports, max_iterations, progress)

    end, certificate = climb(strategy, params)
    if not given and certificate.status is Status.SADDLE and len(reports) < max_iterations:
        end, certificate = climb(escape_saddles(strategy), unpack(standard, end.value.x))
    natural = objective.natural_at(end.value.factors, end.value.place)
    theta = _canonical(objective, theta_of(standard, end.value.x))
    return Optimum(
        natural=_structured(objective, natural, theta),
        loglik=end.value.loglik,
        certificate=certificate,
        reports=tuple(reports),
        theta=theta,
    )


def _climb(
    objective: Objective,
    strategy: Step,
    params: SquareRootParams,
    reports: list[Report],
    max_iterations: int,
    progress: Callable[[int, Report], None] | None,
) -> tuple[Score, Certificate]:
    """Run a strategy to its end, adding to ``reports``."""
    at = None
    if sum(objective.sizes):
        state = strategy.init(objective, params)
        for iteration in range(len(reports) + 1, max_iterations + 1):
            result = strategy.update(objective, params, state)
            params, state, report = checked_update(result, objective, strategy, iteration)
            reports.append(report)
            if progress is not None:
                progress(iteration, report)
            if report.status is not Status.RUNNING:
                break
        at = reached(objective, params, state)
    at = differentiate(objective, evaluate(objective, pack(params))) if at is None else at
    if not reports:
        reports.append(Report(Status.CONVERGED, "closed form", at.value.loglik, 0.0))
    ended = reports[-1].status
    status = Status.OUT_OF_ITERATIONS if ended is Status.RUNNING else ended
    end = _at_boundary(objective, at)
    return end, certify(objective, end, status)


def _canonical(
    objective: Objective, theta: tuple[FloatArray | None, ...]
) -> tuple[FloatArray | None, ...]:
    """Of the theta that have these covariances, those that are reported."""
    return tuple(
        own if own is None or term is None else term.canonical(own)
        for term, own in zip(objective.structures, theta, strict=True)
    )


def _structured(
    objective: Objective, natural: NaturalParams, theta: tuple[FloatArray | None, ...]
) -> NaturalParams:
    """With each structured Psi as the structure has it, free of the rounding of coordinates."""
    if not theta:
        return natural
    exact = [
        psi if term is None or part is None else natural.sigma2 * term.covariance(part)
        for psi, term, part in zip(natural.psi, objective.structures, theta, strict=True)
    ]
    return evolve(natural, psi=tuple(exact))


def _maximize_held(
    objective: Objective,
    strategy_given: bool,
    start: SquareRootParams | None,
    max_iterations: int,
    progress: Callable[[int, Report], None] | None,
) -> Optimum:
    if strategy_given:
        raise StrategyError(
            "entries of Psi are held, or related, on the natural scale: that is a nonlinear "
            "constraint on the factors, over which strategies move. Leave strategy out: "
            "constrained Newton is used"
        )
    standard = standard_start(objective) if start is None else _standardize(objective, start)
    value = evaluate(objective.standardized(), pack(standard))
    natural = objective.natural_at(value.factors, value.place)
    found = maximize_subject_to(
        objective,
        objective.held,
        natural,
        standard.theta,
        max_iterations=max_iterations,
        progress=progress,
    )
    last = found.reports[-1]
    natural = objective.natural(evolve(found.natural, beta=None))
    ends = objective.moments.basis.standard_factors(to_square_root(found.natural).factor)
    singular = singular_terms(objective, ends)
    status = last.status
    if status is Status.CONVERGED and found.inertia[2]:
        status = Status.SADDLE
    converged = status is Status.CONVERGED
    return Optimum(
        natural=natural,
        loglik=found.loglik,
        certificate=Certificate(status, converged, last.score_norm, found.inertia, singular),
        reports=found.reports,
        theta=found.theta,
    )


def _standardize(objective: Objective, params: SquareRootParams) -> SquareRootParams:
    objective.loglik(params)
    theta = [
        None if term is None else term.nearest(T @ T.T) if own is None else own
        for term, T, own in zip(
            objective.structures,
            params.factor,
            params.theta or (None,) * len(params.factor),
            strict=bool(objective.structures),
        )
    ]
    return with_theta(
        objective, objective.moments.basis.standard_factors(params.factor), tuple(theta)
    )


def _at_boundary(objective: Objective, at: Score) -> Score:
    """Covariances that are nearly singular made exactly so, where that costs nothing.

    The standard coordinates make this a comparison with the residual variance.
    """
    snapped = [
        _snap(T) if term is None else T
        for T, term in zip(at.value.factors, objective.terms, strict=True)
    ]
    if all(a is b for a, b in zip(snapped, at.value.factors, strict=True)):
        return at
    theta = theta_of(objective, at.value.x)
    factors = tuple(map(positive_diagonal, snapped))
    value = evaluate(objective, pack(with_theta(objective, factors, theta)))
    before = at.value.loglik
    if value.loglik >= before - _NO_LOSS * (1.0 + abs(before)):
        return differentiate(objective, value)
    return at


def _snap(factor: FloatArray) -> FloatArray:
    left, values, _ = np.linalg.svd(factor)
    small = values < max(_NEARLY_ZERO, _NEARLY_SINGULAR * values.max(initial=0.0))
    if not small.any():
        return factor
    kept = left * np.where(small, 0.0, values)
    kept[np.linalg.norm(kept, axis=1) < _NEARLY_ZERO**2] = 0.0
    return psd_factor(kept @ kept.T)
