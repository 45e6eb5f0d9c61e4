"""Likelihood-ratio tests: the statistic, the reference distribution, and pairs that are refused."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference import likelihood_ratio_test
from lmmkit.optimize import em
from lmmkit.residual import Residual, power
from lmmkit.structures import Diagonal
from tests.helpers import reference_case
from tests.inference.fitted import fitted, simulated

FRAME = simulated(1, 0.8)


def chi2_1(x: float) -> float:
    return math.erfc(math.sqrt(x / 2))


def chi2_2(x: float) -> float:
    return math.exp(-x / 2)


def test_one_variance_against_none_more_is_a_mixture() -> None:
    """Stram and Lee (1994): a random slope with its covariance, 1 and 2 degrees of freedom."""
    frame = likelihood_ratio_test(fitted("sleep_rs"), fitted("sleep_ri"))
    statistic = 2 * (reference_case("sleep_rs").loglik - reference_case("sleep_ri").loglik)
    row = frame.row(0, named=True)
    assert len(frame) == 1
    assert row["statistic"] == pytest.approx(statistic, rel=1e-6)
    assert row["df"] == 2
    assert row["distribution"] == "0.5 chi2(1) + 0.5 chi2(2)"
    expected = 0.5 * chi2_1(statistic) + 0.5 * chi2_2(statistic)
    assert row["p_value"] == pytest.approx(expected, rel=1e-5)
    assert row["smaller"] == reference_case("sleep_ri").formula
    assert row["larger"] == reference_case("sleep_rs").formula


def test_an_independent_variance() -> None:
    small, large = fit("y ~ x + (1 | g)", FRAME), fit("y ~ x + (x || g)", FRAME)
    row = likelihood_ratio_test(small, large).row(0, named=True)
    assert row["distribution"] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert row["p_value"] == pytest.approx(0.5 * chi2_1(row["statistic"]))


def test_a_variance_held_at_zero() -> None:
    """As the model without it."""
    held = fit("y ~ x + (x | g)", FRAME, fixed={("g", "x"): 0.0})
    large = fit("y ~ x + (x | g)", FRAME)
    ours = likelihood_ratio_test(held, large)
    theirs = likelihood_ratio_test(fit("y ~ x + (1 | g)", FRAME), large)
    assert ours["distribution"].item() == theirs["distribution"].item()
    np.testing.assert_allclose(ours["p_value"], theirs["p_value"], rtol=1e-6)


def test_a_covariance_is_inside_the_parameter_space() -> None:
    row = likelihood_ratio_test(fitted("sleep_dbl"), fitted("sleep_rs")).row(0, named=True)
    assert (row["df"], row["distribution"]) == (1, "chi2(1)")
    statistic = 2 * (reference_case("sleep_rs").loglik - reference_case("sleep_dbl").loglik)
    assert row["statistic"] == pytest.approx(statistic, rel=1e-4)
    assert row["p_value"] == pytest.approx(chi2_1(row["statistic"]), rel=1e-9)


def test_several_variances_are_said_to_be_conservative() -> None:
    frame = FRAME.with_columns(z=pl.col("x").sin())
    small, large = (fit(f"y ~ x + ({t} | g)", frame) for t in ("1", "1 + x + z"))
    row = likelihood_ratio_test(small, large).row(0, named=True)
    assert (row["df"], row["distribution"]) == (5, "chi2(5), conservative")


def test_fixed_effects_under_ml() -> None:
    small = fit("y ~ 1 + (1 | g)", FRAME, reml=False)
    large = fit("y ~ x + I(x**2) + (1 | g)", FRAME, reml=False)
    row = likelihood_ratio_test(large, small).row(0, named=True)
    assert (row["df"], row["distribution"]) == (2, "chi2(2)")
    assert row["statistic"] == pytest.approx(2 * (large.loglik - small.loglik))
    assert row["p_value"] == pytest.approx(chi2_2(row["statistic"]))


def test_a_fixed_effect_held() -> None:
    large = fit("y ~ x + (1 | g)", FRAME, reml=False)
    held = fit("y ~ x + (1 | g)", FRAME, reml=False, fixed={"x": 0.5})
    known = fit("y ~ 1 + (1 | g)", FRAME, reml=False, offset=0.5 * FRAME["x"].to_numpy())
    for small in (held, known):
        row = likelihood_ratio_test(small, large).row(0, named=True)
        assert row["statistic"] == pytest.approx(2 * (large.loglik - known.loglik), abs=1e-8)
        assert row["df"] == 1


def test_other_columns_of_the_same_space_under_reml() -> None:
    """The restricted likelihood depends on the columns of X; the test must not."""
    small = fit("y ~ x + (1 | g)", FRAME)
    plain = fit("y ~ x + (x | g)", FRAME)
    scaled = fit("y ~ I(x * 100 + 7) + (x | g)", FRAME)
    assert abs(plain.loglik - scaled.loglik) > 1
    expected = likelihood_ratio_test(small, plain)["statistic"].item()
    assert likelihood_ratio_test(small, scaled)["statistic"].item() == pytest.approx(expected)


def test_three_models_make_two_comparisons() -> None:
    three = [fitted(case) for case in ("sleep_rs", "sleep_ri", "sleep_dbl")]
    frame = likelihood_ratio_test(*three)
    assert frame["df"].to_list() == [1, 1]
    assert frame["larger"][0] == frame["smaller"][1] == reference_case("sleep_dbl").formula


def slope(frame: pl.DataFrame = FRAME, reml: bool = True) -> Fit:
    return fit("y ~ x + (x | g)", frame, reml=reml)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: fit("y ~ x + (1 | g)", FRAME.head(40)), "fitted to 40 and 72 rows"),
        (lambda: fit("z ~ x + (1 | g)", FRAME.with_columns(z=-pl.col("y"))), "responses"),
        (lambda: fit("y ~ x + (1 | g)", FRAME, weights="w"), "different prior weights"),
        (lambda: fit("y ~ x + (1 | g)", FRAME, reml=False), "one was fitted by REML"),
        (lambda: fit("y ~ 1 + (1 | g)", FRAME), "restricted likelihoods do not compare"),
        (lambda: fit("y ~ x + (1 | g)", FRAME, fixed={"x": 1.0}), "restricted likelihoods"),
        (lambda: fit("y ~ w + (1 | g)", FRAME), "fixed effects of the first are no combination"),
        (lambda: fit("y ~ x + (0 + w | g)", FRAME), "random effects that the second lacks"),
        (
            lambda: fit(
                "y ~ x + (1 | h)", FRAME.with_columns(h="g" + pl.col("w").round().cast(str))
            ),
            "random effects that the second lacks",
        ),
        (slope, "equally many parameters"),
    ],
)
def test_pairs_that_do_not_compare(other: Callable[[], Fit], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        likelihood_ratio_test(other(), slope())


def test_a_larger_model_that_fits_worse_is_refused() -> None:
    """A covariance matrix held far from the data, with a fixed effect more."""
    small = fit("y ~ 1 + (1 | g)", FRAME, reml=False)
    large = fit("y ~ x + I(x**2) + (1 | g)", FRAME, reml=False, fixed={("g", "Intercept"): 1e4})
    with pytest.raises(ArgumentError, match="the larger model has the smaller log-likelihood"):
        likelihood_ratio_test(small, large)


def _labels(*fits: Fit) -> list[str]:
    table = likelihood_ratio_test(*fits)
    return [table["smaller"][0], *table["larger"]]


def test_models_of_one_formula_are_told_apart() -> None:
    one = "y ~ x + (x | g)"
    plain = fit(one, FRAME, reml=False)
    diagonal = fit(one, FRAME, reml=False, covariance={"g": Diagonal()})
    assert _labels(diagonal, plain) == [f"{one}; covariance of g: Diagonal", one]
    spread = Residual(variance=power("w"))
    both = fit(one, FRAME, reml=False, residual=spread, covariance={"g": Diagonal()})
    assert _labels(diagonal, both)[1] == (f"{one}; covariance of g: Diagonal; residual: power('w')")
    held = fit(one, FRAME, reml=False, fixed={"x": 0.0})
    assert _labels(held, plain) == [f"{one}; 5 parameters", f"{one}; 6 parameters"]
    written = fit("y ~ x + diag(x | g)", FRAME, reml=False)
    assert _labels(written, plain)[0] == "y ~ x + diag(x | g)"
    with pytest.raises(
        ArgumentError, match=r"covariance of g: Diagonal; 5 parameters' and '.*equally many"
    ):
        likelihood_ratio_test(diagonal, diagonal)


@pytest.mark.parametrize("fits", [(), ("one",)])
def test_too_few(fits: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match=f"at least two fits, got {len(fits)}"):
        likelihood_ratio_test(*(fitted("sleep_ri") for _ in fits))


def test_a_fit_that_did_not_converge_is_marked() -> None:
    frame = simulated(1, 1.0)
    small, middle, large = (
        fit(formula, frame, reml=False)
        for formula in ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)", "y ~ x + (x | g)")
    )
    short = fit("y ~ x + (x | g)", frame, reml=False, strategy=em(3))
    assert not short.certificate.converged
    assert likelihood_ratio_test(small, middle, large)["converged"].to_list() == [True, True]
    assert likelihood_ratio_test(small, middle, short)["converged"].to_list() == [True, False]
