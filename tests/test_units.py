"""Held parameters, profiles and residual structures follow the units of the response."""

import math

import numpy as np
import polars as pl
import pytest

from lmmkit import confidence_intervals, datasets, fit, variance_components
from lmmkit.errors import DataError
from lmmkit.residual import (
    Residual,
    ar1,
    exponential,
    gaussian,
    matern,
    per_stratum,
    power,
    spherical,
    unstructured,
)
from lmmkit.residual.contract import Correlation
from tests.residual.dense import frame

SLEEP = datasets.load("sleepstudy").with_columns(pl.col("Reaction").cast(pl.Float64))
CHILDREN = datasets.load("Orthodont")
UNITS = pytest.mark.parametrize("c", [1e-9, 1e-6, 1e3, 1e9])


@UNITS
def test_a_held_standard_deviation(c: float) -> None:
    plain, scaled = (
        fit(
            "Reaction ~ Days + (Days | Subject)",
            SLEEP.with_columns(pl.col("Reaction") * unit),
            fixed={("Subject", "Days"): 50.0 * unit**2},
        )
        for unit in (1.0, c)
    )
    assert scaled.certificate.inertia == plain.certificate.inertia == (5, 0, 0)
    assert scaled.certificate.converged
    assert scaled.loglik == pytest.approx(plain.loglik - 178 * math.log(c), rel=1e-10)
    errors = [variance_components(each)["std_error"].drop_nulls() for each in (plain, scaled)]
    assert (errors[1] / c**2).to_numpy() == pytest.approx(errors[0].to_numpy(), rel=1e-6)


@UNITS
@pytest.mark.parametrize("structured", [True, False])
def test_profiles(c: float, structured: bool) -> None:
    formula = "distance ~ age + " + ("diag(age | Subject)" if structured else "(1 | Subject)")
    residual = None if structured else Residual(exponential("age"), per_stratum("Sex"))
    limits = []
    for unit in (1.0, c):
        found = fit(
            formula, CHILDREN.with_columns(pl.col("distance") * unit), residual=residual, reml=True
        )
        sd = ("Subject", "sd_Intercept" if structured else "Intercept")
        table = confidence_intervals(found, "profile", which=["age", sd])
        limits.append(table.select("conf_low", "conf_high").to_numpy() / unit)
    assert limits[1] == pytest.approx(limits[0], rel=1e-6)


@pytest.mark.parametrize("c", [1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize(
    "correlation",
    [
        exponential("east", "north", group="id"),
        gaussian("east", "north", group="id", nugget=True),
        spherical("east", "north", group="id", nugget=True),
        matern("time", group="id", smoothness=1.5),
    ],
    ids=str,
)
def test_distances(correlation: Correlation, c: float) -> None:
    data = frame(seed=5, groups=40)
    moved = data.with_columns(pl.col("east", "north", "time") * c)
    plain, scaled = (fit("y ~ x", each, residual=Residual(correlation)) for each in (data, moved))
    assert scaled.loglik == pytest.approx(plain.loglik, rel=1e-9)
    assert scaled.certificate.converged
    assert scaled.residual is not None
    assert plain.residual is not None
    ratio = scaled.residual.estimates[0] / plain.residual.estimates[0]
    assert ratio == pytest.approx(c, rel=1e-4)


@pytest.mark.parametrize("size", [1e-200, 1e100, 1e300])
def test_coordinates_beyond_arithmetic(size: float) -> None:
    data = frame(seed=5, groups=40).with_columns(pl.col("east", "v") * size)
    with pytest.raises(DataError, match="'east', which the residual structure uses: the largest"):
        fit("y ~ x", data, residual=Residual(exponential("east", "north", group="id")))
    with pytest.raises(DataError, match="'v', which the residual structure uses: the largest"):
        fit("y ~ x", data, residual=Residual(variance=power("v")))


def test_times_that_are_too_large_to_be_whole() -> None:
    data = frame(seed=5, groups=40).with_columns(pl.col("visit") * 1e30)
    with pytest.raises(DataError, match=r"ar1: expected whole numbers in 'visit', got .*e\+30"):
        fit("y ~ x", data, residual=Residual(ar1("visit", group="id")))


@pytest.mark.parametrize("c", [1e-16, 1e16])
def test_covariates_beside_correlated_residuals(c: float) -> None:
    data = frame(seed=5, groups=40)
    structure = Residual(unstructured("visit", group="id"), per_stratum("visit"))
    plain, scaled = (
        fit("y ~ x", data.with_columns(pl.col("x") * unit), residual=structure) for unit in (1.0, c)
    )
    assert scaled.loglik == pytest.approx(plain.loglik - math.log(c), rel=1e-9)
    assert scaled.certificate.converged
    assert plain.natural.beta is not None
    assert scaled.natural.beta == pytest.approx(plain.natural.beta / np.array([1.0, c]), rel=1e-5)
