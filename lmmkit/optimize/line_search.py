"""How far to go along a direction of ascent."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.checks import check_number
from lmmkit.optimize.evaluate import Score, Value, differentiate, evaluate
from lmmkit.records import FloatArray, record

_ROUNDING = 1e-14


@record
class Move:
    """A place along a direction, and the step length that led to it; None where none was found."""

    length: float
    score: Score | None


LineSearch: TypeAlias = Callable[[Objective, Score, FloatArray], Move]
"""``search(objective, score, direction)``: the move from ``score.value.x`` along ``direction``."""


def _slack(score: Score) -> float:
    """A decrease of the log-likelihood this small is rounding."""
    return _ROUNDING * (1.0 + abs(score.value.loglik))


def _differentiated(objective: Objective, value: Value) -> Score | None:
    """The gradient; None where that or the log-likelihood is not finite."""
    if not np.isfinite(value.loglik):
        return None
    score = differentiate(objective, value)
    return score if np.isfinite(score.score).all() else None


def fixed(length: float = 1.0) -> LineSearch:
    """Always the same step length, uphill or not."""
    check_number("fixed: length", length, 0.0, np.inf)

    def search(objective: Objective, score: Score, direction: FloatArray) -> Move:
        value = evaluate(objective, score.value.x + length * direction)
        return Move(length, _differentiated(objective, value))

    return search


def armijo(slope: float = 1e-4, shrink: float = 0.3, most: int = 30) -> LineSearch:
    """Step lengths 1, shrink, ... until the increase is ``slope`` of the linear model's."""
    check_number("armijo: slope", slope, 0.0, 1.0)
    check_number("armijo: shrink", shrink, 0.0, 1.0)

    def search(objective: Objective, score: Score, direction: FloatArray) -> Move:
        rise = float(score.score @ direction)
        length = 1.0
        for _ in range(most):
            value = evaluate(objective, score.value.x + length * direction)
            gain = value.loglik - score.value.loglik
            if gain >= slope * length * rise - _slack(score):
                here = _differentiated(objective, value)
                if here is not None:
                    return Move(length, here)
            length *= shrink
        return Move(length, None)

    return search


def strong_wolfe(slope: float = 1e-4, flat: float = 0.1, most: int = 40) -> LineSearch:
    """A step length at which the increase is sufficient and the slope has nearly gone.

    Brackets a maximum by doubling, then narrows it by cubic interpolation (Nocedal & Wright 2006,
    algorithms 3.5 and 3.6). Where it runs out of trials the best one that rose is taken.
    """
    check_number("strong_wolfe: slope", slope, 0.0, 1.0)
    check_number("strong_wolfe: flat", flat, 0.0, 1.0)
    if slope >= flat:
        raise StrategyError(
            f"strong_wolfe: expected slope < flat, got slope={slope!r} and flat={flat!r}; "
            "otherwise no step length need satisfy both"
        )

    def search(objective: Objective, score: Score, direction: FloatArray) -> Move:
        start = score.value.loglik
        rise = float(score.score @ direction)
        low, low_value, low_slope = 0.0, start, rise
        high: tuple[float, float, float] | None = None
        best = Move(0.0, None)
        length = 1.0
        for _ in range(most):
            value = evaluate(objective, score.value.x + length * direction)
            gain = value.loglik - start
            here = _differentiated(objective, value)
            if here is None:
                high = (length, -np.inf, np.nan)
                length = 0.5 * (low + length)
                continue
            along = float(here.score @ direction)
            enough = gain >= slope * length * rise - _slack(score)
            if enough and (best.score is None or value.loglik >= best.score.value.loglik):
                best = Move(length, here)
            if enough and abs(along) <= flat * rise:
                return Move(length, here)
            if not enough or value.loglik < low_value:
                high = (length, value.loglik, along)
            else:
                if along * ((high[0] if high else np.inf) - low) < 0:
                    high = (low, low_value, low_slope)
                low, low_value, low_slope = length, value.loglik, along
            length = 2.0 * length if high is None else _between((low, low_value, low_slope), high)
        return best

    return search


def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """The maximum of the cubic through two places, kept off the ends of the interval."""
    (a, fa, da), (b, fb, db) = low, high
    middle = 0.5 * (a + b)
    if not np.isfinite([fb, db]).all():
        return middle
    # in terms of minus the function, so that the textbook minimum is the maximum sought
    d1 = -da - db + 3.0 * (fa - fb) / (a - b)
    inside = d1 * d1 - da * db
    if inside < 0:
        return middle
    d2 = np.sign(b - a) * np.sqrt(inside)
    span = -db + da + 2.0 * d2
    if span == 0:
        return middle
    trial = b - (b - a) * (-db + d2 - d1) / span
    margin = 0.1 * abs(b - a)
    return float(np.clip(trial, min(a, b) + margin, max(a, b) - margin))
