"""Whether a fitting step keeps the contract; what is wrong with it, in words."""

import copy

import numpy as np

from lmmkit.design import build_design_from_arrays, group
from lmmkit.errors import ConformanceError, LmmkitError
from lmmkit.likelihood.objective import Objective, ml, reml
from lmmkit.moments import cross_products
from lmmkit.optimize.evaluate import pack
from lmmkit.optimize.run import maximize
from lmmkit.optimize.start import standard_start
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import same

_CLOSE = 1e-6


def check_step(step: Step, *, arrives: bool = True, max_iterations: int = 2_000) -> None:
    """Check that ``step`` keeps the contract of a fitting step, on two small models.

    Its state and parameters are not modified; the same call gives the same result; the parameters
    are legal; the report tells the log-likelihood at the parameters, and it ends. What it says when
    it ends is true: CONVERGED only at the maximum.

    Parameters
    ----------
    step : Step
    arrives : bool
        Whether it has to reach the maximum by itself; False for a part of a strategy.
    max_iterations : int

    Raises
    ------
    ConformanceError
        Says what is wrong with the step.
    """
    if not isinstance(step, Step):
        raise ConformanceError(
            f"expected a Step, got {type(step).__name__}; a factory has to be called first"
        )
    for objective in _objectives():
        _check(step, objective, arrives, max_iterations)


def _objectives() -> list[Objective]:
    """A random intercept by ML and a random slope by REML, both away from the boundary."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(30), 6)
    X = np.column_stack([np.ones(180), np.tile(np.arange(6.0), 30)])
    b = rng.normal(size=(30, 2)) * [1.5, 0.6]
    y = X @ [2.0, -1.0] + (X * b[codes]).sum(axis=1) + rng.normal(size=180)
    designs = [build_design_from_arrays(y, X, [("g", X[:, :q], codes)]) for q in (1, 2)]
    return [
        criterion(cross_products(group(design))).standardized()
        for criterion, design in zip((ml, reml), designs, strict=True)
    ]


def _check(step: Step, objective: Objective, arrives: bool, max_iterations: int) -> None:
    params = standard_start(objective)
    state = step.init(objective, params)
    report: Report | None = None
    for iteration in range(1, max_iterations + 1):
        where = f"{step.name}, iteration {iteration}"
        before = copy.deepcopy((params, state))
        result = step.update(objective, params, state)
        if iteration <= 3:
            _check_pure(step, objective, params, state, before, result, where)
        params, state, report = _taken_apart(result, where)
        _check_report(objective, params, report, where)
        if report.status is not Status.RUNNING:
            break
    else:
        raise ConformanceError(
            f"{step.name} does not end: after {max_iterations} iterations its status is RUNNING"
        )
    best = maximize(objective).loglik
    there = report.loglik >= best - _CLOSE * (1.0 + abs(best))
    if report.status is Status.CONVERGED and not there:
        raise ConformanceError(
            f"{where} says that it converged, at the log-likelihood {report.loglik:.8g}, but the "
            f"maximum is {best:.8g}"
        )
    if arrives and not there:
        raise ConformanceError(
            f"{where} ends with {report.status.name} at the log-likelihood {report.loglik:.8g}, "
            f"below the maximum, {best:.8g}; pass arrives=False for a part of a strategy"
        )


def _taken_apart(result: object, where: str) -> tuple[SquareRootParams, object, Report]:
    if not isinstance(result, tuple) or len(result) != 3:
        raise ConformanceError(f"{where}: update has to return (params, state, report)")
    params, state, report = result
    if not isinstance(params, SquareRootParams) or not isinstance(report, Report):
        raise ConformanceError(
            f"{where}: update has to return SquareRootParams, a state and a Report, but returns "
            f"{type(params).__name__}, a state and {type(report).__name__}"
        )
    return params, state, report


def _check_pure(
    step: Step,
    objective: Objective,
    params: SquareRootParams,
    state: object,
    before: tuple[SquareRootParams, object],
    result: object,
    where: str,
) -> None:
    if not same((params, state), before):
        raise ConformanceError(
            f"{where}: update modifies its params or its state; make a new one each time"
        )
    again = _taken_apart(step.update(objective, params, state), where)
    first = _taken_apart(result, where)
    if not same(first[0], again[0]) or first[2].loglik != again[2].loglik:
        raise ConformanceError(
            f"{where}: update gives another result when it is called again with the same "
            "arguments; what it remembers belongs into its state"
        )


def _check_report(
    objective: Objective, params: SquareRootParams, report: Report, where: str
) -> None:
    try:
        loglik = float(objective.loglik(params))
    except LmmkitError as error:
        raise ConformanceError(f"{where}: update returns illegal parameters: {error}") from None
    if not np.isfinite(pack(params)).all() or not np.isfinite(loglik):
        raise ConformanceError(f"{where}: the log-likelihood at the new parameters is {loglik}")
    if abs(loglik - report.loglik) > 1e-9 * (1.0 + abs(loglik)):
        raise ConformanceError(
            f"{where}: the report says that the log-likelihood is {report.loglik:.9g}, at the "
            f"parameters it is {loglik:.9g}"
        )
