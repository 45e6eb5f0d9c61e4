"""Wrong calls of the functions of a fit, each with the error class and the words a user needs."""

# Values of wrong types are among the wrong calls.
# mypy: disable-error-code="arg-type"

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, fit, inference
from lmmkit.errors import ArgumentError, ColumnNotFoundError, DataError, LmmkitError
from lmmkit.inference import (
    fixed_effects,
    likelihood_ratio_test,
    predict,
    profile,
    residuals,
    simulate,
    wald_test,
)
from tests.helpers import reference_frame

SLEEP = "Reaction ~ Days + (Days | Subject)"
SMALL = "Reaction ~ Days + (1 | Subject)"
FRAME = reference_frame("sleepstudy", ["Subject"])


@functools.cache
def fitted(formula: str = SLEEP, reml: bool = True, rows: int = 180) -> Fit:
    return fit(formula, FRAME.head(rows), reml=reml)


def lrt(formula: str, **changes: Any) -> Any:
    return likelihood_ratio_test(fitted(formula, **changes), fitted())


CALLS: dict[str, tuple[Callable[[], Any], type[LmmkitError], str]] = {
    "a level in per cent": (lambda: fixed_effects(fitted(), 95), ArgumentError, "0.95, got 95"),
    "a level of zero": (lambda: fixed_effects(fitted(), 0.0), ArgumentError, "between 0 and 1"),
    "a level as text": (lambda: fixed_effects(fitted(), "95%"), ArgumentError, "got '95%'"),
    "an unknown effect": (
        lambda: wald_test(fitted(), "Dayz = 3"), ArgumentError, "'Dayz' is no fixed.*'Days'",
    ),
    "half an equation": (lambda: wald_test(fitted(), "Days ="), ArgumentError, "something like"),
    "an inequality": (lambda: wald_test(fitted(), "Days < 3"), ArgumentError, "'<' at position 5"),
    "a product": (
        lambda: wald_test(fitted(), "Days * Intercept = 1"), ArgumentError, "linear combination",
    ),
    "no effect": (lambda: wald_test(fitted(), "3 = 4"), ArgumentError, "some fixed effect"),
    "a contradiction": (
        lambda: wald_test(fitted(), ["Days = 1", "Days = 2"]), ArgumentError, "contradict",
    ),
    "L too wide": (
        lambda: wald_test(fitted(), [1.0, 2.0, 3.0]), ArgumentError, r"\(k, 2\).*Intercept, Days",
    ),
    "L of zeros": (lambda: wald_test(fitted(), np.zeros((1, 2))), ArgumentError, "row 0"),
    "two right-hand sides": (
        lambda: wald_test(fitted(), [0.0, 1.0], [1.0, 2.0]), ArgumentError, r"\(2,\)",
    ),
    "a test of one fit": (
        lambda: likelihood_ratio_test(fitted()), ArgumentError, "two fits, got 1",
    ),
    "a test of a list": (
        lambda: likelihood_ratio_test([fitted(), fitted()]), ArgumentError, "at least two|a Fit",
    ),
    "a test of a fit and itself": (
        lambda: lrt(SLEEP), ArgumentError, "equally many parameters",
    ),
    "a test of REML and ML": (lambda: lrt(SMALL, reml=False), ArgumentError, "REML and one by ML"),
    "a test of other rows": (lambda: lrt(SMALL, rows=170), ArgumentError, "170 and 180 rows"),
    "a test of fixed effects by REML": (
        lambda: lrt("Reaction ~ 1 + (1 | Subject)"), ArgumentError, "reml=False",
    ),
    "an unknown residual": (
        lambda: residuals(fitted(), "deviance"), ArgumentError, "'pearson'.*got 'deviance'",
    ),
    "an unknown prediction": (
        lambda: predict(fitted(), FRAME, kind="fixed"), ArgumentError, "'correlated', got 'fixed'",
    ),
    "new levels refused": (
        lambda: predict(fitted(), FRAME.with_columns(Subject=pl.lit("x")), new_levels="raise"),
        DataError, "level of 'Subject' that was not in the fit.*row 0",
    ),
    "a column missing": (
        lambda: predict(fitted(), FRAME.drop("Days")), ColumnNotFoundError, "'Days'",
    ),
    "a column of another kind": (
        lambda: predict(fitted(), FRAME.with_columns(Days=pl.lit("x"))), DataError, "'Days'.*Str",
    ),
    "half a point": (lambda: profile(fitted(), n_points=1.5), ArgumentError, "n_points.*1.5"),
    "points as text": (lambda: profile(fitted(), n_points="3"), ArgumentError, "n_points.*'3'"),
    "no simulations": (lambda: simulate(fitted(), 0, seed=1), ArgumentError, ">= 1, got 0"),
    "a generator as seed": (
        lambda: simulate(fitted(), seed=np.random.default_rng(1)),
        ArgumentError, "would be changed",
    ),
    "a negative seed": (lambda: simulate(fitted(), seed=-1), ArgumentError, ">= 0.*got -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls(name: str) -> None:
    call, kind, words = CALLS[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()


@pytest.mark.parametrize(
    "value", [None, "fit", 3, pl.DataFrame()], ids=["none", "str", "int", "frame"]
)
@pytest.mark.parametrize("name", [n for n in inference.__all__ if n.islower()])
def test_what_is_no_fit(name: str, value: object) -> None:
    more = {"wald_test": ("Days",), "likelihood_ratio_test": (value,)}.get(name, ())
    seed = {"seed": 1} if name == "simulate" else {}
    with pytest.raises(ArgumentError, match=r"expected a Fit, as fit\(\) returns it, got"):
        getattr(inference, name)(value, *more, **seed)
