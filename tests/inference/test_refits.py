"""Profiles of fits with covariance structures."""

import numpy as np
import polars as pl
import pytest

from lmmkit import confidence_intervals, datasets, fit, profile
from tests.dense_oracle import profiled_loglik
from tests.helpers import dense_model

MACHINES = datasets.load("Machines")
CAKE = datasets.load("cake")


def test_diagonal_profiles_are_those_of_separate_terms() -> None:
    dummies = MACHINES["Machine"].to_dummies().rename(lambda column: column[-1])
    parts = " + ".join(f"(0 + {machine} | Worker)" for machine in "ABC")
    separate = fit(f"score ~ Machine + {parts}", MACHINES.hstack(dummies))
    together = fit("score ~ Machine + diag(0 + Machine | Worker)", MACHINES)
    expected = confidence_intervals(separate, method="profile")
    found = confidence_intervals(together, method="profile")
    for column in ("estimate", "conf_low", "conf_high"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-5)


def test_a_profile_is_the_maximum_over_the_rest() -> None:
    """With rho held, the dense log-likelihood at no other sd and sigma is higher."""
    found = fit("score ~ Machine + homcs(0 + Machine | Worker)", MACHINES, reml=False)
    curve = profile(found, [("Worker", "rho")], n_points=3)
    dense = dense_model(found.design)
    row = curve.row(1, named=True)
    matrix = (1.0 - row["value"]) * np.eye(3) + row["value"]
    best = max(
        profiled_loglik(dense, [sd**2 * matrix], sigma2, reml=False)
        for sd in np.linspace(4.0, 10.0, 25)
        for sigma2 in np.linspace(0.7, 1.2, 11)
    )
    assert best <= row["loglik"] + 1e-9
    assert best == pytest.approx(row["loglik"], abs=0.05)


def test_a_correlation_of_one_has_a_lower_limit() -> None:
    found = fit("angle ~ recipe + temp + homcs(0 + temperature | replicate)", CAKE)
    table = confidence_intervals(found, method="profile", which=[("replicate", "rho")])
    low, high = table.select("conf_low", "conf_high").row(0)
    assert 0.9 < low < 0.97
    assert high == 1.0


def test_an_infinite_range_has_no_limits() -> None:
    found = fit("angle ~ recipe + temp + exp(0 + temperature | replicate)", CAKE)
    table = confidence_intervals(found, method="profile", which=[("replicate", "range")])
    assert table["conf_low"].item() is None


def test_a_walk_ends_where_the_structure_ends() -> None:
    """Without variance every correlation is as good, down to -1 / (q - 1)."""
    draw = np.random.default_rng(2)
    frame = pl.DataFrame(
        {
            "y": draw.normal(size=270),
            "g": [f"g{i}" for i in np.repeat(np.arange(30), 9)],
            "t": ["a", "b", "c"] * 90,
        }
    ).with_columns(y=pl.col("y") - pl.col("y").mean().over("g", "t"))
    found = fit("y ~ 1 + homcs(0 + t | g)", frame)
    table = confidence_intervals(found, method="profile", which=[("g", "rho")])
    assert table["conf_low"].item() == pytest.approx(-0.5, abs=1e-3)
    assert table["conf_high"].item() == 1.0


def test_correlations_of_unstructured_terms_beside_structures() -> None:
    found = fit("score ~ Machine + (1 | Worker) + diag(0 + Machine | Worker)", MACHINES)
    assert profile(found, ["sigma"], n_points=2).height > 2
    both = fit("angle ~ recipe + (temp | replicate) + homdiag(0 + recipe | replicate)", CAKE)
    plain = fit("angle ~ recipe + (temp | replicate) + (1 | replicate:recipe)", CAKE)
    assert both.loglik == pytest.approx(plain.loglik, rel=1e-10)
    which = [("replicate", "Intercept", "temp"), ("replicate", "temp"), "sigma"]
    tables = [confidence_intervals(one, "profile", which=which) for one in (both, plain)]
    for column in ("estimate", "conf_low", "conf_high"):
        ours, theirs = (table[column].to_numpy() for table in tables)
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_sigma_is_profiled_to_zero_where_the_effects_of_a_row_stand_in_for_it() -> None:
    """One row a group and effect: the diagonal of V is known, sigma is not."""
    orthodont = datasets.load("Orthodont").with_columns(pl.col("age").cast(pl.String).alias("c"))
    found = fit("distance ~ age * Sex + cs(0 + c | Subject)", orthodont, reml=False)
    low = confidence_intervals(found, method="profile", which="sigma")["conf_low"].item()
    assert low == 0.0
    curve = profile(found, "sigma", n_points=2).filter(pl.col("value") > 0)
    for value, loglik in curve.select("value", "loglik").head(2).rows():
        held = {"sigma2": value**2}
        known = fit("distance ~ age * Sex + cs(0 + c | Subject)", orthodont, reml=False, fixed=held)
        assert loglik == pytest.approx(known.loglik, abs=1e-6)
