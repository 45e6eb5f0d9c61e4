"""Wald and profile intervals: lme4's, the dense oracle's, at the bounds, and their invariances."""

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError, UnsupportedModelError
from lmmkit.fit import Fit, fit
from lmmkit.inference.confidence_intervals import confidence_intervals
from lmmkit.inference.parameters import parameter_covariance
from lmmkit.parameters.natural import NaturalParams
from tests.dense_oracle import Array, numeric_gradient
from tests.helpers import ReferenceCase, reference_case, reference_cases
from tests.inference.profiled import correlation_profile, dense_profile

_Z2 = 1.959963984540054**2
_SLOPES = "Reaction ~ Days + (Days | Subject)"
_PROFILED = [case for case in reference_cases() if case.profile_intervals]
# Orthodont's profile of sigma is degenerate in lme4: no upper limit, and a lower one that the
# dense oracle contradicts.
_UNTRUSTED = {("orthodont", "sigma")}


@cache
def _fit(case_id: str, reml: bool) -> Fit:
    case = reference_case(case_id)
    return fit(case.formula, case.frame(), reml=reml)


def _sleep(**options: Any) -> Fit:
    return fit(_SLOPES, reference_case("sleep_rs").frame(), **options)


@pytest.mark.parametrize("case", _PROFILED, ids=str)
def test_profile_limits_are_those_of_lme4(case: ReferenceCase) -> None:
    table = confidence_intervals(_fit(case.id, False), "profile")
    compared = 0
    for expected in case.profile_intervals:
        if (case.id, expected.kind) in _UNTRUSTED:
            continue
        rows = table.filter(kind="fixed" if expected.kind == "beta" else expected.kind)
        if expected.names:
            rows = rows.filter(
                pl.col("group").eq_missing(pl.lit(expected.group)),
                pl.col("term").str.split(", ").list.sort().list.join(",")
                == ",".join(sorted(expected.names)),
            )
        ((low, high),) = rows.select("conf_low", "conf_high").rows()
        width = expected.upper - expected.lower
        assert low == pytest.approx(expected.lower, abs=1e-3 * width), expected
        assert high == pytest.approx(expected.upper, abs=1e-3 * width), expected
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("case_id", ["dyestuff", "dyestuff2_singular", "orthodont"])
def test_profile_limits_by_the_dense_oracle(case_id: str, reml: bool) -> None:
    """Where a limit is inside, the deviance is z^2 above the minimum; at a bound, less."""
    fitted = _fit(case_id, reml)
    table = confidence_intervals(fitted, "profile")
    positions = {"fixed": 0, "sd": 0, "cor": 0, "sigma": 0}
    for kind, low, high in table.select("kind", "conf_low", "conf_high").rows():
        position = positions[kind]
        positions[kind] += 1
        for limit in (low, high):
            loss = 2.0 * (fitted.loglik - dense_profile(fitted, kind, position, limit))
            if (kind == "sd" and limit == 0.0) or (kind == "cor" and abs(limit) == 1.0):
                assert loss < _Z2 - 1e-3, (kind, position)
            else:
                assert loss == pytest.approx(_Z2, abs=1e-5), (kind, position)


def test_orthodonts_correlation_is_unlimited_although_an_inner_ridge_falls_off() -> None:
    """With the slope's variance at zero, within the limit, every correlation is as good."""
    fitted = _fit("orthodont", True)
    table = confidence_intervals(fitted, "profile", which=("Subject", "Intercept", "age"))
    assert table.select("conf_low", "conf_high").rows() == [(-1.0, 1.0)]
    without = dense_profile(fitted, "sd", 1, 0.0)
    assert 2.0 * (fitted.loglik - without) < _Z2


def test_correlations_among_three_effects_by_quadratic_programming() -> None:
    frame = reference_case("sleep_rs").frame()
    fitted = fit("Reaction ~ Days + (Days + I(Days**2) | Subject)", frame)
    table = confidence_intervals(fitted, "profile").filter(kind="cor")
    pairs = [(0, 1), (0, 2), (1, 2)]
    for limits, pair in zip(table.select("conf_low", "conf_high").rows(), pairs, strict=True):
        for limit in limits:
            loss = 2.0 * (fitted.loglik - correlation_profile(fitted, pair, limit))
            assert loss == pytest.approx(_Z2, abs=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("method", ["wald", "profile"])
def test_intervals_scale_with_the_response(method: str, factor: float) -> None:
    frame = reference_case("sleep_rs").frame()
    table = confidence_intervals(fit(_SLOPES, frame), method)
    scaled_frame = frame.with_columns(pl.col("Reaction") * factor)
    scaled = confidence_intervals(fit(_SLOPES, scaled_frame), method)
    scale = np.where(table["kind"] == "cor", 1.0, factor)
    for name in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(scaled[name] / scale, table[name], rtol=1e-6)


def test_a_shift_of_the_covariate_leaves_what_does_not_depend_on_it() -> None:
    frame = reference_case("sleep_rs").frame()
    table = confidence_intervals(fit(_SLOPES, frame), "profile")
    later = frame.with_columns(pl.col("Days") + 2000)
    shifted = confidence_intervals(fit(_SLOPES, later), "profile")
    for name in ("conf_low", "conf_high"):
        kept = [1, 4, 5]
        np.testing.assert_allclose(
            shifted[name].to_numpy()[kept], table[name].to_numpy()[kept], rtol=1e-6
        )


def test_a_singular_fit_has_one_sided_intervals() -> None:
    generator = np.random.default_rng(3)
    g, x = np.repeat(np.arange(10), 5), np.tile(np.arange(5.0), 10)
    u = generator.normal(size=10)
    frame = pl.DataFrame(
        {"g": g, "x": x, "y": 1 + 2 * x + u[g] * (2 + x) + generator.normal(size=50)}
    )
    fitted = fit("y ~ x + (x | g)", frame)
    assert fitted.certificate.singular == (0,)
    table = confidence_intervals(fitted, "profile")
    ((estimate, low, high),) = (
        table.filter(kind="cor").select("estimate", "conf_low", "conf_high").rows()
    )
    assert estimate == pytest.approx(1.0)
    assert high == 1.0
    assert 2.0 * (fitted.loglik - dense_profile(fitted, "cor", 0, low)) == pytest.approx(
        _Z2, abs=1e-5
    )
    wald = confidence_intervals(fitted).filter(kind="cor")
    assert wald.select("conf_low", "conf_high").rows() == [(None, None)]


def test_around_a_singular_fit_the_highest_of_several_maxima_counts() -> None:
    """By a general optimizer from several starts, one row of the factor of given length."""
    from scipy.optimize import minimize

    generator = np.random.default_rng(277)
    m, n = int(generator.integers(5, 15)), int(generator.integers(3, 8))
    generator.integers(1, 4), generator.integers(2)
    g, x = np.repeat(np.arange(m), n), generator.normal(size=m * n)
    root = generator.normal(size=(3, 3)) * generator.choice([0, 0.3, 1], size=(3, 1))
    b = generator.normal(size=(m, 3)) @ root.T
    y = 1 + x + b[g, 0] + b[g, 1] * x + b[g, 2] * x**2 + generator.normal(size=m * n)
    frame = pl.DataFrame({"g": g, "x": x, "y": y})
    fitted = fit("y ~ x + (x + I(x**2) | g)", frame, reml=False)
    assert fitted.certificate.singular == (0,)
    table = confidence_intervals(fitted, "profile", which=("g", "x"))
    limit = table["conf_high"].item()

    def loss(v: Array) -> float:
        factor = np.zeros((3, 3))
        factor[np.tril_indices(3)] = v[:-1]
        factor[1] *= limit / np.linalg.norm(factor[1])
        params = NaturalParams((factor @ factor.T,), float(np.exp(2.0 * v[-1])))
        return -float(fitted.objective.loglik(params))

    starts = np.random.default_rng(1).normal(size=(8, 7))
    best = -min(minimize(loss, start, method="BFGS").fun for start in starts)
    assert 2.0 * (fitted.loglik - best) == pytest.approx(_Z2, abs=1e-5)


def test_wald_limits_are_symmetric_on_their_scales() -> None:
    """With standard errors by numeric differentiation of log sd and atanh correlation."""
    fitted = _sleep()
    packed = np.asarray(fitted.natural.pack(), dtype=np.float64)

    def transformed(v: Array) -> Array:
        correlation = v[3] / np.sqrt(v[2] * v[4])
        return np.array(
            [
                v[0],
                v[1],
                np.log(v[2]) / 2,
                np.arctanh(correlation),
                np.log(v[4]) / 2,
                np.log(v[5]) / 2,
            ]
        )

    jacobian = numeric_gradient(transformed, packed, step=np.abs(packed) / 50)
    covariance = jacobian @ parameter_covariance(fitted) @ jacobian.T
    half = np.sqrt(_Z2 * np.diag(covariance))
    table = confidence_intervals(fitted)
    ends = transformed(packed) + np.outer([-1.0, 1.0], half)
    ends[:, [2, 4, 5]] = np.exp(ends[:, [2, 4, 5]])
    ends[:, 3] = np.tanh(ends[:, 3])
    np.testing.assert_allclose(table["conf_low"], ends[0], rtol=1e-6)
    np.testing.assert_allclose(table["conf_high"], ends[1], rtol=1e-6)
    assert table["kind"].to_list() == ["fixed", "fixed", "sd", "cor", "sd", "sigma"]
    assert table["group"].to_list() == [None, None, "Subject", "Subject", "Subject", "Residual"]


@pytest.mark.parametrize("method", ["wald", "profile"])
def test_levels_are_nested_and_which_selects(method: str) -> None:
    fitted = _sleep()
    every = confidence_intervals(fitted, method)
    some = confidence_intervals(
        fitted,
        method,
        which=["sigma", ("Subject", "Days", "Intercept"), "Days", ("Subject", "Days")],
    )
    np.testing.assert_allclose(
        some.drop("group", "term", "kind").to_numpy(),
        every[[1, 3, 4, 5]].drop("group", "term", "kind").to_numpy(),
        rtol=1e-8,
    )
    narrow = confidence_intervals(fitted, method, 0.5)
    assert (narrow["conf_low"] > every["conf_low"]).all()
    assert (narrow["conf_high"] < every["conf_high"]).all()


@pytest.mark.parametrize("method", ["wald", "profile"])
def test_held_parameters_have_no_limits(method: str) -> None:
    fitted = _sleep(fixed={"Days": 10.0, "sigma2": 600.0})
    table = confidence_intervals(fitted, method)
    assert table["conf_low"].is_null().to_list() == [False, True, False, False, False, True]
    assert table["estimate"][1] == 10.0
    without = confidence_intervals(_sleep(fixed={("Subject", "Days"): 0.0}), method)
    assert without["conf_high"].is_null().to_list() == [False, False, False, True, True, False]


def test_a_variance_held_at_zero_gives_the_intervals_of_the_smaller_model() -> None:
    held = confidence_intervals(_sleep(fixed={("Subject", "Days"): 0.0}), "profile")
    smaller = fit("Reaction ~ Days + (1 | Subject)", reference_case("sleep_rs").frame())
    expected = confidence_intervals(smaller, "profile")
    for name in ("conf_low", "conf_high"):
        np.testing.assert_allclose(held[name].drop_nulls(), expected[name], rtol=1e-7)


def test_a_covariance_held_at_zero_gives_the_intervals_of_independent_effects() -> None:
    held = confidence_intervals(_sleep(fixed={("Subject", "Intercept", "Days"): 0.0}), "profile")
    frame = reference_case("sleep_rs").frame()
    apart = fit("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", frame)
    expected = confidence_intervals(apart, "profile")
    for name in ("conf_low", "conf_high"):
        np.testing.assert_allclose(held[name].drop_nulls(), expected[name], rtol=1e-6)
        assert held[name].null_count() == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "bootstrap"}, UnsupportedModelError, "'wald' or 'profile'"),
        ({"method": "exact"}, ArgumentError, "'wald' or 'profile', got 'exact'"),
        ({"level": 1.0}, ArgumentError, "between 0 and 1"),
        ({"which": "Dayz"}, ArgumentError, "'Dayz' is no parameter.*'Days'.*'sigma'"),
        ({"which": [("Subject", "Dayz")]}, ArgumentError, r"\('Subject', 'Days'\)"),
        ({"which": 3}, ArgumentError, "got 3"),
    ],
)
def test_wrong_calls(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        confidence_intervals(_sleep(), **options)


def test_wald_limits_of_a_standard_deviation_far_below_its_standard_error() -> None:
    draw = np.random.default_rng(0)
    g, within = np.repeat(np.arange(8), 5), draw.normal(size=(8, 5))
    within -= within.mean(axis=1, keepdims=True)
    between = draw.normal(size=8)
    between -= between.mean()
    # Balanced: the REML variance is (MSB - MSW) / 5, here 1e-8 MSW / 5.
    residual = (within**2).sum() / 32
    between *= np.sqrt(residual * (1.0 + 1e-8) / (5.0 * (between**2).sum() / 7))
    frame = pl.DataFrame({"y": (within + between[:, None]).ravel(), "g": g})
    result = fit("y ~ 1 + (1 | g)", frame)
    assert 0.0 < result.natural.psi[0][0, 0] < 1e-7
    row = confidence_intervals(result, which=("g", "Intercept")).row(0, named=True)
    assert (row["conf_low"], row["conf_high"]) == (0.0, np.inf)
