"""Profiles where the data do not tell parameters apart: limits may be infinite, none an error."""

import math

import numpy as np
import polars as pl
import pytest

from lmmkit import datasets, fit
from lmmkit.inference.confidence_intervals import confidence_intervals
from lmmkit.inference.profile import profile

N = 90


def crossed() -> pl.DataFrame:
    generator = np.random.default_rng(3)
    a, two = generator.integers(0, 10, N), generator.integers(0, 2, N)
    y = generator.normal(size=10)[a] + generator.normal(size=N)
    names = {"a": [f"a{k}" for k in a], "two": [f"t{k}" for k in two]}
    return pl.DataFrame({"y": y, "x": generator.normal(size=N), **names}).with_columns(copy="a")


@pytest.mark.parametrize("others", ["", " + (1 | a)"])
def test_a_factor_whose_levels_are_fixed_effects_too(others: str) -> None:
    """The likelihood does not change with its standard deviation, nor then with the effects."""
    fitted = fit(f"y ~ x + two + (1 | two){others}", crossed())
    table = confidence_intervals(fitted, "profile")
    rows = {(group, term): (low, high) for group, term, _, _, low, high in table.rows()}
    assert rows[("two", "Intercept")] == (0.0, np.inf)
    assert rows[(None, "Intercept")] == (-np.inf, np.inf)
    assert rows[(None, "two[T.t1]")] == (-np.inf, np.inf)
    without = confidence_intervals(fit(f"y ~ x + two{others}", crossed()), "profile")
    for low, high in without.filter(term="x").select("conf_low", "conf_high").rows():
        assert rows[(None, "x")] == pytest.approx((low, high), rel=1e-4)
    assert profile(fitted).filter(kind="sd")["zeta"].is_finite().all()


def test_two_names_of_one_factor_share_its_variance() -> None:
    table = confidence_intervals(fit("y ~ x + (1 | a) + (1 | copy)", crossed()), "profile")
    alone = confidence_intervals(fit("y ~ x + (1 | a)", crossed()), "profile")
    ((_, high),) = alone.filter(group="a").select("conf_low", "conf_high").rows()
    for group in ("a", "copy"):
        limits = table.filter(group=group).select("conf_low", "conf_high").rows()
        assert limits == [(0.0, pytest.approx(high, rel=1e-5))]


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + two + (x | two)",
        "y ~ x + (0 + two | two)",
        "y ~ x + a + (1 | a)",
    ],
)
def test_every_parameter_has_limits_around_its_estimate(formula: str) -> None:
    table = confidence_intervals(fit(formula, crossed()), "profile")
    low, high = table["conf_low"], table["conf_high"]
    assert (low <= table["estimate"].fill_null(low)).all()
    assert (table["estimate"].fill_null(high) <= high).all()
    assert (low < high).all()


def test_random_effects_that_fixed_effects_take_up_leave_only_sigma() -> None:
    """Whatever a fixed effect is, random effects of any size make up for it."""
    machines = datasets.load("Machines")
    found = fit("score ~ Machine * Worker + (Machine | Worker)", machines)
    table = confidence_intervals(found, "profile")
    without = confidence_intervals(fit("score ~ Machine * Worker", machines), "profile")
    limits = {kind: rows for (kind,), rows in table.group_by("kind", maintain_order=True)}
    assert limits["fixed"]["conf_low"].to_list() == [-math.inf] * 18
    assert limits["fixed"]["conf_high"].to_list() == [math.inf] * 18
    assert limits["sd"].select("conf_low", "conf_high").rows() == [(0.0, math.inf)] * 3
    assert limits["cor"].select("conf_low", "conf_high").rows() == [(-1.0, 1.0)] * 3
    sigma, alone = (each.filter(kind="sigma").row(0)[-2:] for each in (table, without))
    assert sigma == pytest.approx(alone, rel=1e-6)
