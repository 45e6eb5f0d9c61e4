"""Which models with residual structures are nested, and the distribution of their tests."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from lmmkit import datasets
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference import likelihood_ratio_test
from lmmkit.residual import (
    Residual,
    antedependence,
    ar1,
    by_stratum,
    car1,
    compound_symmetry,
    constant_plus_power,
    exponential,
    gaussian,
    per_stratum,
    power,
    toeplitz,
    unstructured,
)

CHILDREN = datasets.load("Orthodont")
FIXED = "distance ~ age * Sex"
INTERCEPT = FIXED + " + (1 | Subject)"
SLOPE = FIXED + " + (age | Subject)"


def _inside(structure: Callable[..., Any], *variance: Any, **options: Any) -> Residual:
    return Residual(structure("age", group="Subject", **options), variance)


CS = compound_symmetry(group="Subject")
MODELS: dict[str, tuple[str, Residual | None]] = {
    "none": (FIXED, None),
    "intercept": (INTERCEPT, None),
    "slope": (SLOPE, None),
    "cs": (FIXED, Residual(CS)),
    "cs by sex": (FIXED, Residual(CS, per_stratum("Sex"))),
    "ar1": (FIXED, _inside(ar1)),
    "ar1 of each sex": (FIXED, Residual(by_stratum(ar1("age", group="Subject"), "Sex"))),
    "ar1, by age": (FIXED, _inside(ar1, per_stratum("age"))),
    "exponential": (FIXED, _inside(exponential)),
    "exponential, nugget": (FIXED, _inside(exponential, nugget=True)),
    "gaussian, nugget": (FIXED, _inside(gaussian, nugget=True)),
    "toeplitz": (FIXED, _inside(toeplitz)),
    "antedependence": (FIXED, _inside(antedependence)),
    "unstructured": (FIXED, _inside(unstructured)),
    "unstructured, by age": (FIXED, _inside(unstructured, per_stratum("age"))),
    "intercept, by sex": (INTERCEPT, Residual(variance=per_stratum("Sex"))),
    "intercept, power": (INTERCEPT, Residual(variance=power("age"))),
    "intercept, power of the fitted": (INTERCEPT, Residual(variance=power())),
    "intercept, constant and power": (INTERCEPT, Residual(variance=constant_plus_power("age"))),
    "intercept, car1": (INTERCEPT, Residual(car1("age"))),
    "slope, car1": (SLOPE, Residual(car1("age"))),
}
EVEN = "0.5 chi2({}) + 0.5 chi2({})"
PLAIN = "chi2({1})"
UNKNOWN = "chi2({1}), conservative"
NESTED = [
    ("none", "cs", PLAIN),
    ("none", "ar1", EVEN),
    ("none", "exponential", EVEN),
    ("none", "exponential, nugget", UNKNOWN),
    ("none", "unstructured", PLAIN),
    ("none", "intercept, by sex", EVEN),
    ("none", "intercept, car1", UNKNOWN),
    ("intercept", "intercept, car1", EVEN),
    ("intercept", "intercept, power", PLAIN),
    ("intercept", "intercept, power of the fitted", PLAIN),
    ("intercept", "intercept, constant and power", UNKNOWN),
    ("intercept, power", "intercept, constant and power", EVEN),
    ("intercept", "unstructured", PLAIN),
    ("cs", "intercept, by sex", PLAIN),
    ("cs", "slope", EVEN),
    ("cs", "toeplitz", PLAIN),
    ("cs", "cs by sex", PLAIN),
    ("ar1", "ar1 of each sex", PLAIN),
    ("ar1", "ar1, by age", PLAIN),
    ("ar1", "toeplitz", PLAIN),
    ("ar1", "antedependence", PLAIN),
    ("ar1", "intercept, car1", EVEN),
    ("toeplitz", "unstructured", PLAIN),
    ("antedependence", "unstructured", PLAIN),
    ("exponential", "exponential, nugget", EVEN),
    ("intercept, car1", "slope, car1", EVEN),
]
NOT_NESTED = [
    ("ar1", "cs by sex"),
    ("exponential", "gaussian, nugget"),
    ("ar1", "intercept, power"),
    ("ar1", "slope"),
    ("cs by sex", "unstructured, by age"),
    ("slope", "unstructured"),
    ("intercept, power", "cs by sex"),
]


@cache
def _model(name: str) -> Fit:
    formula, residual = MODELS[name]
    return fit(formula, CHILDREN, reml=False, residual=residual)


@pytest.mark.parametrize(("small", "large", "distribution"), NESTED)
def test_nested(small: str, large: str, distribution: str) -> None:
    table = likelihood_ratio_test(_model(small), _model(large))
    df = table["df"].item()
    assert table["distribution"].item() == distribution.format(df - 1, df)


@pytest.mark.parametrize(("small", "large"), NOT_NESTED)
def test_not_nested(small: str, large: str) -> None:
    pair = (_model(small), _model(large))
    with pytest.raises(ArgumentError, match=r"equally many|are not nested: among the covariances"):
        likelihood_ratio_test(*pair)


def test_held_values_are_nested_where_they_are_possible() -> None:
    residual = MODELS["ar1"][1]
    held = fit(FIXED, CHILDREN, reml=False, residual=residual, fixed={("Residual", "phi"): 0.9})
    for large in ("ar1", "toeplitz", "antedependence"):
        assert likelihood_ratio_test(held, _model(large))["distribution"].item().startswith("chi2")
    with pytest.raises(ArgumentError, match="not nested"):
        likelihood_ratio_test(held, _model("intercept"), _model("intercept, power"))
    both = MODELS["ar1, by age"][1]
    known = fit(FIXED, CHILDREN, reml=False, residual=both, fixed={("Residual", "phi"): 0.3})
    with pytest.raises(ArgumentError, match="not nested"):
        likelihood_ratio_test(_model("ar1"), known)


def test_weights_and_held_variances() -> None:
    weighted = CHILDREN.with_columns(w=1.0 / CHILDREN["age"])
    plain = fit(INTERCEPT, weighted, reml=False, weights="w")
    large = fit(INTERCEPT, weighted, reml=False, weights="w", residual=MODELS["intercept, car1"][1])
    assert likelihood_ratio_test(plain, large)["distribution"].item() == EVEN.format(0, 1)
    known = {"sigma2": 2.0}
    held = fit(INTERCEPT, CHILDREN, reml=False, fixed=known)
    by_sex = fit(
        INTERCEPT, CHILDREN, reml=False, residual=MODELS["intercept, by sex"][1], fixed=known
    )
    assert likelihood_ratio_test(held, by_sex)["distribution"].item() == "chi2(1)"
