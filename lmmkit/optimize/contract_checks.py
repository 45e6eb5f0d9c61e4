"""What ``maximize`` asks of its arguments, and of what a step's update returns."""

from typing import Any

import numpy as np

from lmmkit.errors import ArgumentError, StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.checks import is_count
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams

_LARGEST_START = 1e100


def check_arguments(objective: Any, start: Any, max_iterations: Any, progress: Any) -> None:
    """Raise unless ``maximize`` can work with its arguments."""
    if not isinstance(objective, Objective):
        raise ArgumentError(
            "maximize: expected an Objective, such as reml(moments) returns, got "
            f"{type(objective).__name__}; fit_design takes a design"
        )
    if objective.moments.yy.ndim:
        raise ArgumentError(
            "maximize: expected one response, got an objective of an array of responses of shape "
            f"{objective.moments.yy.shape}; its loglik and derivatives work, maximize one at a time"
        )
    if start is not None and not isinstance(start, SquareRootParams):
        raise ArgumentError(
            f"start: expected SquareRootParams, got {type(start).__name__}; to_square_root "
            "converts other parameters"
        )
    if start is not None and any((np.abs(t) > _LARGEST_START).any() for t in start.factor):
        raise ArgumentError(
            f"start: expected relative covariance factors below {_LARGEST_START:g}, got\n{start}"
        )
    if not is_count(max_iterations):
        raise ArgumentError(
            f"max_iterations: expected a whole number, at least 1, got {max_iterations!r}"
        )
    if progress is not None and not callable(progress):
        raise ArgumentError(
            f"progress: expected a function of the iteration and its report, got {progress!r}"
        )


def checked_update(
    result: Any, objective: Objective, strategy: Step, iteration: int
) -> tuple[SquareRootParams, Any, Report]:
    """What an update returned, if it is what the contract of a step says."""
    where = f"{strategy.name}, iteration {iteration}: expected update to return"
    if not isinstance(result, tuple) or len(result) != 3:
        raise StrategyError(f"{where} (params, state, report), got {result!r:.60}")
    params, state, report = result
    if not isinstance(report, Report) or not isinstance(report.status, Status):
        raise StrategyError(f"{where} a Report with a Status, got {report!r:.60}")
    shapes = [(q, q) for q in objective.sizes]
    if (
        not isinstance(params, SquareRootParams)
        or [factor.shape for factor in params.factor] != shapes
        or len(params.theta) != len(objective.structures)
    ):
        raise StrategyError(
            f"{where} SquareRootParams with factors of shapes {shapes}"
            + (", and theta as evaluate.unpack makes it," if objective.structures else ",")
            + f" got {params!r:.60}"
        )
    return params, state, report
