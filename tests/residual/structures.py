"""What the suite runs on: one line enrols a correlation or a variance function.

Each comes with the same thing written plainly, for two rows or for one.
"""

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from scipy.special import gamma, kv

from lmmkit.residual import (
    antedependence,
    ar1,
    arma,
    by_stratum,
    car1,
    compound_symmetry,
    constant_plus_power,
    correlation_function,
    exponential,
    exponential_variance,
    gaussian,
    matern,
    per_stratum,
    power,
    rational_quadratic,
    spherical,
    toeplitz,
    unstructured,
)
from lmmkit.residual.contract import Correlation, VarianceFunction

Row = dict[str, Any]


@attrs.frozen(eq=False)
class CorrelationCase:
    """A correlation, and that of two rows from its values."""

    name: str
    structure: Correlation
    plain: Callable[[Any, Row, Row], float]


@attrs.frozen(eq=False)
class VarianceCase:
    """A variance function, and the relative standard deviation of a row from its values."""

    name: str
    structure: VarianceFunction
    plain: Callable[[Any, Row], float]


def _lag(a: Row, b: Row) -> int:
    return abs(int(a["visit"]) - int(b["visit"]))


def _gap(a: Row, b: Row) -> float:
    return abs(float(a["time"]) - float(b["time"]))


def _far(a: Row, b: Row) -> float:
    return math.hypot(a["east"] - b["east"], a["north"] - b["north"])


def _matern(v: Any, a: Row, b: Row) -> float:
    x = math.sqrt(2 * v[1]) * _gap(a, b) / v[0]
    return float(2 ** (1 - v[1]) / gamma(v[1]) * x ** v[1] * kv(v[1], x))


def _spherical(v: Any, a: Row, b: Row) -> float:
    s = _far(a, b) / v[0]
    return float((1 - v[1]) * (1 - 1.5 * s + 0.5 * s**3)) if s < 1 else 0.0


def _arma11(v: Any, a: Row, b: Row) -> float:
    phi, theta = v
    first = (1 + phi * theta) * (phi + theta) / (1 + 2 * phi * theta + theta**2)
    return float(first * phi ** (_lag(a, b) - 1))


def _ma2(v: Any, a: Row, b: Row) -> float:
    one, two = v
    by_lag = [1 + one**2 + two**2, one + one * two, two, 0.0, 0.0]
    return float(by_lag[_lag(a, b)] / by_lag[0])


def _chain(v: Any, a: Row, b: Row) -> float:
    low, high = sorted((int(a["visit"]), int(b["visit"])))
    return float(np.prod(v[low:high]))


def _pair(v: Any, a: Row, b: Row) -> float:
    low, high = sorted((int(a["visit"]), int(b["visit"])))
    return float(v[high * (high - 1) // 2 + low])


def damped(t: Any, *, range: float, shape: float) -> Any:
    """A user's structure: ``exp(-(d / range)^shape)``."""
    return np.exp(-((np.abs(t - t.T) / range) ** shape))


CORRELATIONS = (
    CorrelationCase("ar1", ar1("visit", group="id"), lambda v, a, b: v[0] ** _lag(a, b)),
    CorrelationCase("ar1 of text", ar1("label", group="id"), lambda v, a, b: v[0] ** _lag(a, b)),
    CorrelationCase("car1", car1("time", group="id"), lambda v, a, b: v[0] ** _gap(a, b)),
    CorrelationCase("cs", compound_symmetry(group="id"), lambda v, a, b: float(v[0])),
    CorrelationCase("arma 1 1", arma("visit", p=1, q=1, group="id"), _arma11),
    CorrelationCase("arma 0 2", arma("visit", q=2, group="id"), _ma2),
    CorrelationCase("toeplitz", toeplitz("visit", group="id"), lambda v, a, b: v[_lag(a, b) - 1]),
    CorrelationCase("antedependence", antedependence("visit", group="id"), _chain),
    CorrelationCase("unstructured", unstructured("visit", group="id"), _pair),
    CorrelationCase(
        "exponential",
        exponential("time", group="id"),
        lambda v, a, b: math.exp(-_gap(a, b) / v[0]),
    ),
    CorrelationCase(
        "gaussian with nugget",
        gaussian("east", "north", group="id", nugget=True),
        lambda v, a, b: (1 - v[1]) * math.exp(-((_far(a, b) / v[0]) ** 2)),
    ),
    CorrelationCase(
        "rational quadratic",
        rational_quadratic("time", group="id"),
        lambda v, a, b: 1 / (1 + (_gap(a, b) / v[0]) ** 2),
    ),
    CorrelationCase(
        "spherical with nugget", spherical("east", "north", group="id", nugget=True), _spherical
    ),
    CorrelationCase("matern", matern("time", group="id"), _matern),
    CorrelationCase(
        "matern of known smoothness",
        matern("time", group="id", smoothness=1.5),
        lambda v, a, b: _matern((v[0], 1.5), a, b),
    ),
    CorrelationCase(
        "by stratum",
        by_stratum(ar1("visit", group="id"), "arm"),
        lambda v, a, b: v["uv".index(a["arm"])] ** _lag(a, b),
    ),
    CorrelationCase(
        "a user's",
        correlation_function(
            damped,
            "time",
            {"range": (1.0, 0.0, math.inf), "shape": (1.0, 0.0, 2.0)},
            group="id",
        ),
        lambda v, a, b: math.exp(-((_gap(a, b) / v[0]) ** v[1])),
    ),
)

VARIANCES = (
    VarianceCase(
        "per stratum", per_stratum("kind"), lambda v, row: (1.0, *v)["pqr".index(row["kind"])]
    ),
    VarianceCase("power", power("v"), lambda v, row: row["v"] ** v[0]),
    VarianceCase(
        "power by", power("v", by="kind"), lambda v, row: row["v"] ** v["pqr".index(row["kind"])]
    ),
    VarianceCase(
        "exponential", exponential_variance("x"), lambda v, row: math.exp(v[0] * row["x"])
    ),
    VarianceCase(
        "constant plus power", constant_plus_power("v"), lambda v, row: v[0] + row["v"] ** v[1]
    ),
)
