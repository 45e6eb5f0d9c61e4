"""Structures and coordinates that cannot be, each with the words a user needs."""

# Values of wrong types are among the wrong calls.
# mypy: disable-error-code="arg-type, dict-item"

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design
from lmmkit.errors import (
    ArgumentError,
    ColumnNotFoundError,
    DataError,
    LmmkitError,
    ParameterError,
)
from lmmkit.fit import fit, fit_design
from lmmkit.residual import (
    Residual,
    ar1,
    arma,
    by_stratum,
    car1,
    constant_plus_power,
    correlation_function,
    exponential,
    exponential_variance,
    matern,
    per_stratum,
    power,
    spherical,
    toeplitz,
    unstructured,
)
from tests.residual.dense import frame

DATA = frame(groups=12)
TWICE = pl.concat([DATA, DATA.filter(id="g03").head(1)])
FEW = DATA.with_columns(
    kind=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("z")).otherwise("kind")
)


def of(residual: Any, data: pl.DataFrame = DATA, formula: str = "y ~ x") -> Callable[[], Any]:
    return lambda: fit(formula, data, residual=residual)


CASES: dict[str, tuple[Callable[[], Any], type[LmmkitError], str]] = {
    "duplicated times under car1": (
        of(Residual(car1("time", group="id")), TWICE),
        DataError,
        r"car1: two rows of id 'g03' have the same coordinates \(time = ",
    ),
    "duplicated times under ar1": (
        of(Residual(ar1("visit", group="id")), TWICE),
        DataError,
        "ar1: two rows of id 'g03'",
    ),
    "duplicated visits": (
        of(Residual(unstructured("label", group="id")), TWICE),
        DataError,
        "unstructured: two rows of id 'g03' .*label = ",
    ),
    "the same place without a nugget": (
        of(Residual(exponential("east", "north", group="id")), TWICE),
        DataError,
        "exponential: two rows of id 'g03' .*east = .*north = ",
    ),
    "one group of all rows": (
        of(Residual(ar1("visit"))),
        DataError,
        "two rows of the data, which are one group,",
    ),
    "times that are not whole": (
        of(Residual(ar1("time", group="id"))),
        DataError,
        "ar1: expected whole numbers in 'time', got .*car1",
    ),
    "arma of times that are not whole": (
        of(Residual(arma("time", p=1, group="id"))),
        DataError,
        "arma: expected whole numbers",
    ),
    "a stratum of one row": (
        of(Residual(variance=per_stratum("kind")), FEW),
        DataError,
        "the stratum 'z' of 'kind' has one row",
    ),
    "a power of zero": (
        of(Residual(variance=power("visit"))),
        DataError,
        "power: 'visit' is 0 in some row.*constant_plus_power",
    ),
    "no such column": (
        of(Residual(car1("tme", group="id"))),
        ColumnNotFoundError,
        "'tme'.*did you mean 'time'",
    ),
    "a missing coordinate": (
        lambda: fit(
            "y ~ x",
            DATA.with_columns(time=pl.when(pl.col("id") == "g03").then(None).otherwise("time")),
            residual=Residual(car1("time", group="id")),
            missing="raise",
        ),
        DataError,
        "missing values in 'time'",
    ),
    "an infinite coordinate": (
        of(
            Residual(car1("time", group="id")),
            DATA.with_columns(time=pl.col("time") / (pl.col("visit") != 1)),
        ),
        DataError,
        "column 'time' is infinite",
    ),
    "visits never seen together": (
        of(
            Residual(unstructured("visit", group="id")),
            DATA.filter((pl.col("visit") != 1) | (pl.col("arm") == "u")).filter(
                (pl.col("visit") != 3) | (pl.col("arm") == "v")
            ),
        ),
        DataError,
        "no id has both '1' and '3' of 'visit'",
    ),
    "times as visits": (
        of(Residual(toeplitz("time", group="id"))),
        DataError,
        "toeplitz: 'time' has .* distinct values, too many to be visits",
    ),
    "a stratum that changes in a group": (
        of(Residual(by_stratum(ar1("visit", group="id"), "kind"))),
        DataError,
        "rows of several strata of 'kind'",
    ),
    "a date as coordinate": (
        of(
            Residual(car1("day", group="id")),
            DATA.with_columns(day=pl.date(2020, 1, 1) + pl.duration(days="visit")),
        ),
        DataError,
        "'day', which is Date; make it a number",
    ),
    "not a residual": (of(ar1("visit", group="id")), ArgumentError, "expected a Residual, such as"),
    "nothing in it": (lambda: Residual(), ArgumentError, "expected a correlation, a variance"),
    "a text as correlation": (lambda: Residual("ar1"), ArgumentError, "expected a correlation"),
    "a text as variance": (lambda: Residual(variance=5.0), ArgumentError, "variance functions"),
    "a number as time": (lambda: ar1(3), ArgumentError, "ar1: time: expected the name of a column"),
    "no coordinates": (lambda: exponential(), ArgumentError, "expected names of columns"),
    "four coordinates": (lambda: spherical(*"abcd"), ArgumentError, "at most three"),
    "a smoothness of zero": (
        lambda: matern("time", smoothness=0.0),
        ArgumentError,
        "above 0 and up to 10",
    ),
    "no coefficients": (lambda: arma("visit"), ArgumentError, "numbers p and q"),
    "by stratum without coordinates": (
        lambda: by_stratum(ar1(group="id"), "arm"),
        ArgumentError,
        "names its coordinates",
    ),
    "a start outside its bounds": (
        lambda: correlation_function(np.exp, "time", {"range": (0.0, 0.0, 1.0)}),
        ArgumentError,
        "'range' as \\(start, lower, upper\\)",
    ),
    "a matrix of the wrong shape": (
        of(
            Residual(
                correlation_function(
                    lambda t, a: np.exp(-np.abs(t) * a), "time", {"a": (1.0, 0.0, 9.0)}, group="id"
                )
            )
        ),
        ParameterError,
        "expected a correlation matrix of shape",
    ),
    "a matrix that is no correlation": (
        of(
            Residual(
                correlation_function(
                    lambda t, a: a * np.ones((len(t), len(t))),
                    "time",
                    {"a": (0.5, 0.0, 0.9)},
                    group="id",
                )
            )
        ),
        ParameterError,
        "ones on its diagonal",
    ),
    "a power of text": (
        of(Residual(variance=power("kind"))),
        DataError,
        "power: expected numbers in 'kind', got text, such as 'p'",
    ),
    "an exponential of text": (
        of(Residual(variance=exponential_variance("kind", by="arm"))),
        DataError,
        "exponential: expected numbers in 'kind'",
    ),
    "text as time": (
        of(Residual(car1("label", group="id"))),
        DataError,
        "car1: expected numbers in 'label'",
    ),
    "text as a place": (
        of(Residual(exponential("east", "label", group="id"))),
        DataError,
        "exponential: expected numbers in 'label'",
    ),
    "lists as coordinate": (
        of(
            Residual(ar1("many", group="id")),
            DATA.with_columns(many=pl.concat_list("visit", "visit")),
        ),
        DataError,
        "'many', which is List",
    ),
    "a power of a fitted value of zero": (
        of(
            Residual(variance=power()),
            formula="y ~ 0 + nothing",
            data=DATA.with_columns(nothing=pl.when(pl.col("visit") == 0).then(0.0).otherwise(1.0)),
        ),
        DataError,
        "power: the fitted value is 0 in some row",
    ),
    "a text as smoothness": (
        lambda: matern("time", smoothness="a"),
        ArgumentError,
        "expected a smoothness above 0",
    ),
    "a list of variances": (
        lambda: Residual(variance=[power("x"), per_stratum("arm")]),
        ArgumentError,
        "or a tuple of variance functions, got",
    ),
    "a parameter that the function lacks": (
        lambda: correlation_function(lambda t, a: t, "time", {"zz": (0.5, 0.0, 1.0)}),
        ArgumentError,
        "keywords 'zz'",
    ),
    "a parameter that is not named": (
        lambda: correlation_function(lambda t, a, b: t, "time", {"a": (0.5, 0.0, 1.0)}),
        ArgumentError,
        "missing a required argument: 'b'",
    ),
    "a parameter without bounds": (
        lambda: correlation_function(lambda t, a: t, "time", {"a": 0.5}),
        ArgumentError,
        "'a' as \\(start, lower, upper\\)",
    ),
    "parameters in a list": (
        lambda: correlation_function(lambda t, a: t, "time", ["a"]),
        ArgumentError,
        "expected a function and its parameters",
    ),
    "a number as columns": (
        lambda: correlation_function(lambda t, a: t, 3, {"a": (0.5, 0.0, 1.0)}),
        ArgumentError,
        "expected names of columns",
    ),
    "a variance of one stratum": (
        of(Residual(variance=per_stratum("kind")), DATA.with_columns(kind=pl.lit("a"))),
        DataError,
        "the structure of 'kind' has no parameter here; a variance by stratum needs two strata",
    ),
    "a correlation of one visit": (
        of(Residual(unstructured("visit", group="id")), DATA.with_columns(visit=1).unique("id")),
        DataError,
        "the structure of 'visit', 'id' has no parameter here",
    ),
    "a design without the columns": (
        lambda: fit_design(
            build_design("y ~ x", DATA), residual=Residual(car1("time", group="id"))
        ),
        ColumnNotFoundError,
        "coordinates=residual.columns",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error(name: str) -> None:
    call, error, words = CASES[name]
    with pytest.raises(error, match=words):
        call()


def test_constant_plus_power_takes_a_zero() -> None:
    found = fit("y ~ x", DATA, residual=Residual(variance=constant_plus_power("visit")))
    assert found.residual is not None
    assert found.residual.estimates[1] > 0


def test_rows_with_missing_coordinates_are_dropped_and_counted() -> None:
    gap = DATA.with_columns(time=pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise("time"))
    found = fit("y ~ x", gap, residual=Residual(car1("time", group="id")))
    assert found.design.dropped.by_column == (("time", 3),)
    assert found.design.n_obs == DATA.height - 3
