"""Gradient steps: a direction, a metric and a line search make a step."""

from typing import Any

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize import directions
from lmmkit.optimize.checks import check_callable, check_iterations
from lmmkit.optimize.directions import BetaFormula, Slope
from lmmkit.optimize.evaluate import (
    CONVERGED_BELOW,
    Score,
    observed_hessian,
    unpack,
    usable_start,
)
from lmmkit.optimize.line_search import LineSearch, armijo, fixed, strong_wolfe
from lmmkit.optimize.metrics import Metric, euclidean, newton, positive_or_fisher
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, evolve, optional_float_array, record

_ROUNDING = 1e-14
_RESTART = 3
_NEAR = 1e-3
_IDLE = 10
_FACTORIES: tuple[Any, ...] = (armijo, fixed, strong_wolfe)


@record
class GradientState:
    """What a gradient step remembers: where it is, and the slope before."""

    score: Score
    count: int = 0
    idle: int = 0
    previous_score: FloatArray | None = optional_float_array(1, default=None)
    previous_ascent: FloatArray | None = optional_float_array(1, default=None)
    previous_direction: FloatArray | None = optional_float_array(1, default=None)


def gradient_step(
    name: str,
    beta: BetaFormula,
    metric: Metric,
    line_search: LineSearch,
    iterations: int | None = None,
) -> Step:
    """The step that moves along ``z + beta d_old``, where ``z`` is the score in ``metric``.

    It has converged when the expected gain is zero to working precision: ``score' M^-1 score``
    below 1e-12, M being the metric: a distance of 1e-6 standard errors in the Fisher metric.

    Parameters
    ----------
    name : str
    beta : callable
        A formula of :mod:`lmmkit.optimize.directions`.
    metric : callable
    line_search : callable
    iterations : int, optional
        Finished after so many; None runs to convergence.

    Raises
    ------
    StrategyError
        For an argument that is no such function, or no number of iterations.
    """
    check_iterations(name, iterations)
    check_callable(f"{name}: beta", beta, "directions.polak_ribiere")
    check_callable(f"{name}: metric", metric, "fisher")
    check_callable(f"{name}: line_search", line_search, "armijo()")
    if line_search in _FACTORIES:
        raise StrategyError(
            f"{name}: line_search: expected a function such as armijo() returns, got "
            f"{line_search!r}; a factory has to be called first"
        )

    def init(objective: Objective, params: SquareRootParams) -> GradientState:
        return GradientState(usable_start(objective, params, name))

    def update(
        objective: Objective, params: SquareRootParams, state: GradientState
    ) -> tuple[SquareRootParams, GradientState, Report]:
        score = state.score
        observed = -observed_hessian(objective, score) if metric is newton else None
        if observed is None:
            matrix = metric(objective, score)
        else:
            matrix = positive_or_fisher(observed, objective, score)
        ascent = np.linalg.solve(matrix, score.score)
        if not np.isfinite(ascent).all():
            return params, state, _report(score, Status.STALLED, np.inf)
        norm = _norm(score.score, ascent)
        if norm <= CONVERGED_BELOW:
            return params, state, _report(score, Status.CONVERGED, norm)
        direction = _direction(score, ascent, state)
        move = line_search(objective, score, direction)
        if move.score is None and state.previous_direction is not None:
            direction = ascent
            move = line_search(objective, score, direction)
        if move.score is None:
            return params, state, _report(score, Status.STALLED, norm)
        moved = move.score if norm > _NEAR else evolve(move.score, near=observed)
        after = GradientState(moved, state.count + 1, 0, score.score, ascent, direction)
        status = Status.FINISHED if after.count == iterations else Status.RUNNING
        before, gain = norm, move.score.value.loglik - score.value.loglik
        norm = _norm(move.score.score, np.linalg.solve(matrix, move.score.score))
        if norm <= CONVERGED_BELOW:
            status = Status.CONVERGED
        elif abs(gain) <= _ROUNDING * abs(score.value.loglik):
            idle = state.idle + 1
            if idle == _IDLE or (norm >= before and direction is ascent):
                status = Status.STALLED
            after = GradientState(moved, after.count, idle)
        report = _report(move.score, status, norm, move.length)
        return unpack(objective, move.score.value.x), after, report

    def _norm(score: FloatArray, ascent: FloatArray) -> float:
        return float(np.sqrt(max(float(score @ ascent), 0.0)))

    def _direction(score: Score, ascent: FloatArray, state: GradientState) -> FloatArray:
        if (
            state.previous_score is None
            or state.previous_ascent is None
            or state.previous_direction is None
            or state.count % (_RESTART * len(ascent)) == 0
        ):
            return ascent
        slope = Slope(
            score.score,
            state.previous_score,
            ascent,
            state.previous_ascent,
            state.previous_direction,
        )
        direction = ascent + beta(slope) * state.previous_direction
        return direction if direction @ score.score > 0 else ascent

    def _report(score: Score, status: Status, norm: float, length: float = float("nan")) -> Report:
        return Report(status, name, score.value.loglik, norm, length)

    return Step(name, init, update, lambda _, score: GradientState(score))


def steepest_descent(
    iterations: int | None = None,
    *,
    metric: Metric = euclidean,
    line_search: LineSearch | None = None,
) -> Step:
    """Steepest descent of -2 loglik; in the ``fisher`` metric this is Fisher scoring."""
    search = armijo() if line_search is None else line_search
    return gradient_step("steepest_descent", directions.zero, metric, search, iterations)


def conjugate_gradient(
    iterations: int | None = None,
    *,
    beta: BetaFormula = directions.polak_ribiere,
    metric: Metric = euclidean,
    line_search: LineSearch | None = None,
) -> Step:
    """Nonlinear conjugate gradient; in the ``fisher`` metric this is preconditioned."""
    search = strong_wolfe() if line_search is None else line_search
    return gradient_step("conjugate_gradient", beta, metric, search, iterations)
