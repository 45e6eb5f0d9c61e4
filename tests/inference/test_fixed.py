"""Fixed effects where no reference reaches: held effects, scale, levels, wrong calls."""

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import fit
from lmmkit.inference import fixed_covariance, fixed_effects, glance, information_criteria
from tests.dense_oracle import gls
from tests.helpers import dense_model, reference_frame
from tests.inference.fitted import fitted, simulated


def test_columns_and_interval() -> None:
    frame = fixed_effects(fitted("dietox_rs"), level=0.9)
    assert frame.columns == [
        "term",
        "estimate",
        "std_error",
        "statistic",
        "p_value",
        "conf_low",
        "conf_high",
    ]
    width = 1.6448536269514722  # qnorm(0.95)
    half = (frame["conf_high"] - frame["conf_low"]).to_numpy() / 2
    np.testing.assert_allclose(half, width * frame["std_error"].to_numpy(), rtol=1e-12)


def test_p_value() -> None:
    """2 pnorm(-|z|), by the error function."""
    from math import erfc, sqrt

    row = fixed_effects(fitted("sleep_quad")).row(2, named=True)
    assert row["p_value"] == pytest.approx(erfc(abs(row["statistic"]) / sqrt(2)), rel=1e-12)


@pytest.mark.parametrize("fixed", [{}, {"sigma2": 1.3}, {("g", "x"): 0.0}])
def test_covariance_against_the_oracle(fixed: dict[str, float]) -> None:
    result = fit("y ~ x + (x | g)", simulated(1, 0.8), weights="w", fixed=fixed)
    psi, sigma2 = result.natural.psi, float(result.natural.sigma2)
    covariance = gls(dense_model(result.design), psi, sigma2)[1]
    np.testing.assert_allclose(fixed_covariance(result), covariance, rtol=1e-8)


@pytest.mark.parametrize("reml", [True, False])
def test_a_held_effect_has_no_standard_error_and_the_rest_takes_it_as_known(reml: bool) -> None:
    frame = simulated(1, 0.8)
    held = fit("y ~ x + (1 | g)", frame, fixed={"x": 0.25}, reml=reml)
    known = fit("y ~ 1 + (1 | g)", frame, offset=0.25 * frame["x"].to_numpy(), reml=reml)
    ours, theirs = fixed_effects(held), fixed_effects(known)
    assert ours.row(1) == ("x", 0.25, None, None, None, None, None)
    np.testing.assert_allclose(ours.row(0)[1:], theirs.row(0)[1:], rtol=1e-6)
    counts = [information_criteria(f)["n_parameters"].item() for f in (held, known)]
    assert counts == [3, 3]


def test_columns_that_depend_on_others_do_not_appear() -> None:
    frame = simulated(1, 0.8).with_columns(double=2 * pl.col("x"))
    result = fit("y ~ x + double + (1 | g)", frame)
    assert fixed_effects(result)["term"].to_list() == ["Intercept", "x"]
    assert result.design.aliased == ("double",)


@pytest.mark.parametrize("c", [1e-6, 1e6])
def test_scale_of_the_response(c: float) -> None:
    frame = reference_frame("sleepstudy")
    formula = "Reaction ~ Days + (Days | Subject)"
    ours = fixed_effects(fit(formula, frame.with_columns(pl.col("Reaction") * c)))
    theirs = fixed_effects(fit(formula, frame))
    for name, factor in (("estimate", c), ("std_error", c), ("statistic", 1.0)):
        np.testing.assert_allclose(ours[name], factor * theirs[name].to_numpy(), rtol=1e-6)


def test_aicc_is_null_where_it_is_not_defined() -> None:
    frame = simulated(1, 0.8).head(6).with_columns(g=pl.Series(["a", "a", "b", "b", "c", "c"]))
    result = fit("y ~ x + I(x**2) + (1 | g)", frame, reml=False)
    assert information_criteria(result)["aicc"].to_list() == [None]
    assert glance(result)["df_residual"].to_list() == [1]


@pytest.mark.parametrize("level", [0.0, 1.0, 95, "0.95", float("nan"), True])
def test_levels_that_are_none(level: float) -> None:
    with pytest.raises(ArgumentError, match=r"level: expected a number between 0 and 1"):
        fixed_effects(fitted("sleep_ri"), level=level)


def test_what_is_no_fit() -> None:
    with pytest.raises(ArgumentError, match="expected a Fit, as fit\\(\\) returns it, got dict"):
        fixed_effects({})  # type: ignore[arg-type]
