"""Defects seen in statsmodels 0.15.0's MixedLM, each as a test that they are not here."""

import copy

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, fit
from lmmkit.inference import (
    fixed_effects,
    information_criteria,
    variance_components,
)
from lmmkit.optimize import default_strategy, maximize, seed_strategy
from lmmkit.parameters import SquareRootParams
from tests.dense_oracle import numeric_hessian, profiled_loglik
from tests.helpers import dense_model, reference_case, reference_frame

DIETOX = "Weight ~ Time + (Time | Pig)"
BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])


def dietox() -> pl.DataFrame:
    return reference_frame("dietox", ["Pig"])


def dyestuff(c: float = 1.0, *, restricted: bool = True) -> Fit:
    frame = reference_frame("Dyestuff").with_columns(pl.col("Yield") * c)
    return fit("Yield ~ 1 + (1 | Batch)", frame, reml=restricted)


@pytest.mark.parametrize("strategy", [default_strategy(), seed_strategy()], ids=["default", "seed"])
def test_the_dietox_random_slope_fit_does_not_stop_3_below_its_maximum(strategy: object) -> None:
    """There it stops at -2220.39 and reports convergence."""
    result = fit(DIETOX, dietox(), strategy=strategy)  # type: ignore[arg-type]
    assert result.loglik == pytest.approx(-2217.0475, abs=5e-5)
    assert result.certificate.converged


@pytest.mark.parametrize("factor", [[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.0], [0.0, 0.01]]])
def test_what_is_not_the_maximum_is_not_called_converged(factor: list[list[float]]) -> None:
    """No start without correlation, and no place on the way, passes for the maximum."""
    objective = fit(DIETOX, dietox()).objective
    start = SquareRootParams((np.array(factor),))
    for iterations in range(1, 12):
        optimum = maximize(objective, start=start, max_iterations=iterations)
        reached = optimum.loglik == pytest.approx(-2217.0474591455, abs=1e-8)
        assert reached or not optimum.certificate.converged
    assert optimum.certificate.converged


@BOTH
def test_standard_errors_of_variances_are_those_of_the_dense_likelihood(restricted: bool) -> None:
    """There they are off by about the square root of the scale."""
    result = dyestuff(restricted=restricted)
    model = dense_model(result.design)
    at = np.array([result.natural.psi[0].item(), float(result.natural.sigma2)])
    hessian = numeric_hessian(
        lambda x: profiled_loglik(model, [[[x[0]]]], x[1], reml=restricted), at, 0.1 * at
    )
    expected = np.sqrt(np.diagonal(np.linalg.inv(-hessian)))
    np.testing.assert_allclose(variance_components(result)["std_error"], expected, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("c", [1e-3, 1e3])
def test_standard_errors_of_variances_scale_with_the_square(c: float, restricted: bool) -> None:
    """There they are not equivariant."""
    before, after = dyestuff(restricted=restricted), dyestuff(c, restricted=restricted)
    expected = c**2 * variance_components(before)["std_error"].to_numpy()
    np.testing.assert_allclose(variance_components(after)["std_error"], expected, rtol=1e-5)


def test_a_held_fixed_effect_is_no_estimate() -> None:
    """There it returns another estimate than the value given, with a standard error of 0."""
    result = fit(DIETOX, dietox(), fixed={"Time": 7.0})
    row = fixed_effects(result).row(by_predicate=pl.col("term") == "Time", named=True)
    assert row["estimate"] == 7.0
    for name in ("std_error", "statistic", "p_value", "conf_low", "conf_high"):
        assert row[name] is None
    free = information_criteria(fit(DIETOX, dietox()))["n_parameters"].item()
    assert information_criteria(result)["n_parameters"].item() == free - 1
    assert result.loglik < fit("Weight ~ 1 + offset(o) + (Time | Pig)", with_trend(6.94)).loglik


def with_trend(slope: float) -> pl.DataFrame:
    return dietox().with_columns(o=slope * pl.col("Time"))


@pytest.mark.parametrize("case_id", ["dietox_rs", "dietox_rs_ml", "dyestuff2_singular"])
def test_information_criteria_are_numbers_under_reml(case_id: str) -> None:
    """There AIC is NaN under REML."""
    case = reference_case(case_id)
    row = information_criteria(fit(case.formula, case.frame(), reml=case.reml)).row(0, named=True)
    assert row["aic"] == pytest.approx(case.aic, rel=1e-9)
    assert row["bic"] == pytest.approx(case.bic, rel=1e-9)
    assert row["n_parameters"] == case.n_params


@BOTH
def test_a_profile_is_of_the_variance_and_changes_nothing(restricted: bool) -> None:
    """There it is of the ratio to sigma2, and its argument is changed."""
    profile = pytest.importorskip("lmmkit.inference.profile").profile
    result = dyestuff(restricted=restricted)
    before = copy.deepcopy(result.optimum)
    table = profile(result, ("Batch", "Intercept"), n_points=3)
    assert result.optimum == before
    assert profile(result, ("Batch", "Intercept"), n_points=3).equals(table)
    inner = table.filter(pl.col("value") > 1.0)
    assert inner.height >= 4
    for value, loglik in inner.select("value", "loglik").iter_rows():
        held = fit(
            "Yield ~ 1 + (1 | Batch)",
            reference_frame("Dyestuff"),
            reml=restricted,
            fixed={("Batch", "Intercept"): value**2},
        )
        assert loglik == pytest.approx(held.loglik, abs=1e-7)


def test_fitting_again_changes_nothing() -> None:
    """There a fit changes the model, so that the next one differs."""
    result = dyestuff()
    for start in (0.1, 30.0):
        again = maximize(result.objective, start=SquareRootParams((np.array([[start]]),)))
        assert again.loglik == pytest.approx(result.loglik, rel=1e-12)
    assert dyestuff() == result
