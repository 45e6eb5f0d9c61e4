"""Conditional modes and covariances against the dense oracle."""

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit, fit_design
from lmmkit.inference import random_effects, random_effects_covariance
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import conditional_modes
from tests.helpers import dense_model
from tests.inference.fitted import fitted, simulated


def estimates_by_term(result: Fit) -> list[FloatArray]:
    """The table's column of estimates, cut into one (m, q) a term."""
    flat = random_effects(result)["estimate"].to_numpy()
    sizes = [len(term.levels) * term.q for term in result.design.terms]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [p.reshape(-1, t.q) for p, t in zip(parts, result.design.terms, strict=True)]


@pytest.mark.parametrize(
    "formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ 1 + (1 | g) + (0 + x | g)"]
)
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("seed", [1, 39])
def test_against_the_oracle(formula: str, weights: str | None, seed: int) -> None:
    """Seed 39 gives a correlation of one."""
    result = fit(formula, simulated(seed, 0.3), weights=weights, offset="w")
    psi, sigma2 = result.natural.psi, float(result.natural.sigma2)
    theirs = conditional_modes(dense_model(result.design), psi, sigma2)
    ours = zip(estimates_by_term(result), random_effects_covariance(result), strict=True)
    for (modes, covariance), (oracle_modes, oracle_covariance) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(modes, oracle_modes, atol=1e-9)
        np.testing.assert_allclose(covariance, oracle_covariance, atol=1e-9)


def test_the_singular_case_is_singular() -> None:
    assert fit("y ~ x + (x | g)", simulated(39, 0.3), offset="w").certificate.singular == (0,)


def test_rows_and_columns() -> None:
    result = fitted("sleep_rs")
    frame = random_effects(result)
    assert frame.columns == ["group", "level", "term", "estimate", "std_error"]
    levels = result.design.terms[0].levels.cast(pl.String).to_list()
    assert frame["level"].cast(pl.String).to_list() == [x for x in levels for _ in range(2)]
    assert frame["term"].to_list() == ["Intercept", "Days"] * len(levels)
    assert frame["group"].unique().to_list() == ["Subject"]
    (covariance,) = random_effects_covariance(result)
    variances = np.diagonal(covariance, axis1=1, axis2=2).ravel()
    np.testing.assert_allclose(frame["std_error"].to_numpy() ** 2, variances)


def test_integer_levels_stay_integers() -> None:
    frame = simulated(1, 0.8).with_columns(pl.col("g").str.tail(2).cast(pl.Int64))
    assert random_effects(fit("y ~ x + (1 | g)", frame))["level"].dtype == pl.Int64


@pytest.mark.parametrize("slope_sd", [0.8, 0.3])
def test_a_level_without_rows_has_mode_zero_and_the_prior_covariance(slope_sd: float) -> None:
    design = fit("y ~ x + (x | g)", simulated(1, slope_sd)).design
    (term,) = design.terms
    levels = pl.Series("g", ["g", *term.levels])
    more = evolve(term, levels=levels, codes=term.codes + 1)
    wider = fit_design(evolve(design, terms=(more,)))
    (modes,) = estimates_by_term(wider)
    (covariance,) = random_effects_covariance(wider)
    np.testing.assert_array_equal(modes[0], 0.0)
    np.testing.assert_allclose(covariance[0], wider.natural.psi[0])
    plain = fit_design(design)
    np.testing.assert_allclose(modes[1:], estimates_by_term(plain)[0], atol=1e-8)
    np.testing.assert_allclose(covariance[1:], random_effects_covariance(plain)[0], atol=1e-8)


def test_zero_variance() -> None:
    frame = random_effects(fitted("dyestuff2_singular"))
    assert frame["estimate"].to_list() == [0.0] * 6
    assert frame["std_error"].to_list() == [0.0] * 6


def test_an_effect_held_at_zero() -> None:
    frame = simulated(1, 0.8)
    (modes,) = estimates_by_term(fit("y ~ x + (x | g)", frame, fixed={("g", "x"): 0.0}))
    (without,) = estimates_by_term(fit("y ~ x + (1 | g)", frame))
    np.testing.assert_array_equal(modes[:, 1], 0.0)
    np.testing.assert_allclose(modes[:, :1], without, atol=1e-8)


def test_a_variance_ratio_so_large_that_the_modes_are_group_means() -> None:
    """Groups a hundred thousand times as far apart as their rows: errors are those of the means."""
    frame = simulated(1, 0.8).with_columns(
        y=pl.col("g").str.tail(2).cast(pl.Float64) * 1e5 + pl.col("y")
    )
    result = fit("y ~ 1 + (1 | g)", frame)
    n = frame.group_by("g", maintain_order=True).len()["len"].to_numpy()
    expected = result.natural.sigma2 / n
    (covariance,) = random_effects_covariance(result)
    np.testing.assert_allclose(covariance[:, 0, 0], expected, rtol=1e-6)
