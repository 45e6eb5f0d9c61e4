"""scipy's gradient methods as a step."""

import warnings
from typing import Any

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.evaluate import (
    CONVERGED_BELOW,
    Score,
    differentiate,
    evaluate,
    score_norm,
    unpack,
    usable_start,
)
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray

GRADIENT_METHODS = ("BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP")


def scipy_step(method: str = "L-BFGS-B", **options: Any) -> Step:
    """A whole run of :func:`scipy.optimize.minimize` as one update.

    Parameters
    ----------
    method : str
        One of BFGS, L-BFGS-B, CG, TNC and SLSQP.
    **options
        Passed on as scipy's ``options``.

    Raises
    ------
    StrategyError
        For a method that does not work from gradients alone; in its first iteration for an option
        that scipy's method does not have.
    """
    if method not in GRADIENT_METHODS:
        raise StrategyError(
            f"scipy_step: expected one of {', '.join(GRADIENT_METHODS)}, got {method!r}; other "
            "methods need what the objective does not give, or ignore the gradient that it does"
        )
    name = f"scipy {method}"

    def init(objective: Objective, params: SquareRootParams) -> Score:
        return usable_start(objective, params, name)

    def update(
        objective: Objective, params: SquareRootParams, start: Score
    ) -> tuple[SquareRootParams, Score, Report]:
        from scipy.optimize import OptimizeWarning, minimize

        scale = 1.0 / objective.degrees_of_freedom

        def negative(x: FloatArray) -> tuple[float, FloatArray]:
            value = evaluate(objective, x)
            if not np.isfinite(value.loglik):
                return np.inf, np.zeros_like(x)
            return -scale * value.loglik, -scale * differentiate(objective, value).score

        tight = {"gtol": 1e-9, "ftol": 1e-15} if method in ("L-BFGS-B", "TNC") else {}
        tight = {"gtol": 1e-9} if method in ("BFGS", "CG") else tight
        tight = {"ftol": 1e-15} if method == "SLSQP" else tight
        given = tight | options
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Unknown solver options", OptimizeWarning)
            try:
                result = minimize(negative, start.value.x, jac=True, method=method, options=given)
            except OptimizeWarning as warning:
                raise StrategyError(
                    f"{name}: expected options of this method, see the documentation of "
                    f"scipy.optimize.show_options, got others. {warning}"
                ) from warning
        end = differentiate(objective, evaluate(objective, np.asarray(result.x)))
        norm = score_norm(objective, end.score)
        rose = end.value.loglik > start.value.loglik
        if norm <= CONVERGED_BELOW:
            status = Status.CONVERGED
        else:
            status = Status.RUNNING if rose else Status.STALLED
        if not rose and status is Status.STALLED:
            end = start
        report = Report(status, name, end.value.loglik, norm)
        return unpack(objective, end.value.x), end, report

    return Step(name, init, update)
