"""What steps ask of their arguments; said where a step is built."""

import numbers
from typing import Any

from lmmkit.errors import StrategyError


def is_count(value: Any) -> bool:
    """Whether ``value`` is a whole number >= 1; True is not."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= 1


def check_iterations(step: str, iterations: Any) -> None:
    """Raise unless ``iterations`` is a whole number >= 1, or None."""
    if iterations is not None and not is_count(iterations):
        raise StrategyError(
            f"{step}: expected iterations to be a whole number >= 1, or None to run to "
            f"convergence, got {iterations!r}"
        )


def check_number(where: str, value: Any, above: float, below: float) -> None:
    """Raise unless ``value`` is a number strictly between ``above`` and ``below``."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not above < value < below:
        raise StrategyError(
            f"{where}: expected a number above {above:g} and below {below:g}, got {value!r}"
        )


def check_callable(where: str, value: Any, example: str) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise StrategyError(f"{where}: expected a function such as {example}, got {value!r}")
