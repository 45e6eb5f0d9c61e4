"""Combinators: strategies made of strategies. Each is a :class:`Step` again."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.checks import check_callable, is_count
from lmmkit.optimize.evaluate import Score, reached
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import evolve, record

Rule: TypeAlias = Callable[[Report], bool]

_DONE = (Status.FINISHED, Status.STALLED)


@record
class _Running:
    """Which of several steps runs, its state, and how often it was started."""

    index: int
    state: Any
    starts: int = 1

    @property
    def score(self) -> Score | None:
        """The score that the running step's state holds."""
        return getattr(self.state, "score", None)


def _start(step: Step, objective: Objective, params: SquareRootParams, state: Any) -> Any:
    """The state of ``step`` where another step's ``state`` has led."""
    score = reached(objective, params, state)
    if score is None or step.resume is None:
        return step.init(objective, params)
    return step.resume(objective, score)


def chain(*steps: Step) -> Step:
    """The steps one after the other: each runs until it has finished or stalls.

    The chain ends where any of its steps converges, and with the last one's status.

    Raises
    ------
    StrategyError
        For a chain of no steps, or of something that is no step.
    """
    _require_steps("chain", steps)
    name = " > ".join(step.name for step in steps)

    def init(objective: Objective, params: SquareRootParams) -> _Running:
        return _Running(0, steps[0].init(objective, params))

    def update(
        objective: Objective, params: SquareRootParams, running: _Running
    ) -> tuple[SquareRootParams, _Running, Report]:
        step = steps[running.index]
        params, state, report = step.update(objective, params, running.state)
        if report.status in _DONE and running.index + 1 < len(steps):
            index = running.index + 1
            state = _start(steps[index], objective, params, state)
            return params, _Running(index, state), evolve(report, status=Status.RUNNING)
        return params, _Running(running.index, state), report

    return Step(name, init, update)


def repeat(step: Step, times: int) -> Step:
    """``step`` started afresh ``times`` times, each time from where it had finished."""
    _require_steps("repeat", (step,))
    if not is_count(times):
        raise StrategyError(f"repeat: expected a whole number, times >= 1, got {times!r}")

    def init(objective: Objective, params: SquareRootParams) -> _Running:
        return _Running(0, step.init(objective, params))

    def update(
        objective: Objective, params: SquareRootParams, running: _Running
    ) -> tuple[SquareRootParams, _Running, Report]:
        params, state, report = step.update(objective, params, running.state)
        if report.status in _DONE and running.starts < times:
            state = _start(step, objective, params, state)
            again = _Running(0, state, running.starts + 1)
            return params, again, evolve(report, status=Status.RUNNING)
        return params, _Running(0, state, running.starts), report

    return Step(f"{step.name} x {times}", init, update)


def until(rule: Rule, step: Step) -> Step:
    """``step`` until ``rule`` holds of a report: then it has finished.

    For example ``until(lambda report: report.score_norm < 0.1, em())``.
    """
    _require_steps("until", (step,))
    check_callable("until: rule", rule, "lambda report: report.score_norm < 0.1")

    def update(
        objective: Objective, params: SquareRootParams, state: Any
    ) -> tuple[SquareRootParams, Any, Report]:
        params, state, report = step.update(objective, params, state)
        if report.status is Status.RUNNING and rule(report):
            report = evolve(report, status=Status.FINISHED)
        return params, state, report

    return Step(f"until({step.name})", step.init, update)


def fallback(first: Step, second: Step) -> Step:
    """``first``, and where it stalls ``second``, from where ``first`` stood."""
    _require_steps("fallback", (first, second))

    def init(objective: Objective, params: SquareRootParams) -> _Running:
        return _Running(0, first.init(objective, params))

    def update(
        objective: Objective, params: SquareRootParams, running: _Running
    ) -> tuple[SquareRootParams, _Running, Report]:
        step = (first, second)[running.index]
        params, state, report = step.update(objective, params, running.state)
        if report.status is Status.STALLED and running.index == 0:
            state = _start(second, objective, params, state)
            return params, _Running(1, state), evolve(report, status=Status.RUNNING)
        return params, _Running(running.index, state), report

    return Step(f"{first.name} | {second.name}", init, update)


@record
class _Best:
    """The inner state, and the best place so far."""

    state: Any
    params: SquareRootParams | None = None
    report: Report | None = None


def best_so_far(step: Step) -> Step:
    """``step``, which may go downhill; when it ends, the best place that it has seen."""
    _require_steps("best_so_far", (step,))

    def init(objective: Objective, params: SquareRootParams) -> _Best:
        return _Best(step.init(objective, params))

    def update(
        objective: Objective, params: SquareRootParams, seen: _Best
    ) -> tuple[SquareRootParams, _Best, Report]:
        params, state, report = step.update(objective, params, seen.state)
        best = seen
        so_far = -math.inf if seen.report is None else seen.report.loglik
        if not so_far > report.loglik and not math.isnan(report.loglik):
            best = _Best(state, params, report)
        if report.status is Status.RUNNING or best.params is None or best.report is None:
            return params, _Best(state, best.params, best.report), report
        ended = report.status if best.report is report else Status.STALLED
        if report.status is Status.FINISHED:
            ended = Status.FINISHED
        return best.params, best, evolve(best.report, status=ended)

    return Step(f"best_so_far({step.name})", init, update)


def _require_steps(name: str, steps: tuple[Step, ...]) -> None:
    if not steps:
        raise StrategyError(f"{name}: expected at least one step, got none")
    for step in steps:
        if not isinstance(step, Step):
            raise StrategyError(
                f"{name}: expected steps such as em(3) or conjugate_gradient(), got {step!r}; "
                "a factory has to be called first"
            )
