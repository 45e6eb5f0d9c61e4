"""Simulated responses: their moments, and that a seed reproduces them."""

from typing import Any

import numpy as np
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference.residuals import residuals
from lmmkit.inference.simulate import simulate
from tests.dense_oracle import Array, marginal_covariance, residual_direction
from tests.helpers import dense_model, reference_case, reference_frame

_DRAWS = 4000


def _weighted() -> Fit:
    frame = reference_frame("sleepstudy", ("Subject",)).head(40)
    generator = np.random.default_rng(1)
    frame = frame.with_columns(
        w=generator.uniform(0.3, 3.0, frame.height), shift=generator.normal(size=frame.height)
    )
    return fit("Reaction ~ Days + (Days | Subject)", frame, weights="w", offset="shift")


def _draws(fitted: Fit, **options: Any) -> Array:
    return simulate(fitted, _DRAWS, seed=11, **options).drop("row").to_numpy().T


def _check_moments(draws: Array, mean: Array, V: Array) -> None:
    """Mean and covariance within five Monte Carlo standard errors."""
    variance = np.diag(V)
    z = (draws.mean(axis=0) - mean) / np.sqrt(variance / _DRAWS)
    assert np.abs(z).max() < 5.0
    centred = draws - mean
    error = np.sqrt((np.outer(variance, variance) + V**2) / _DRAWS)
    assert np.abs((centred.T @ centred / _DRAWS - V) / error).max() < 5.0


def test_new_random_effects_give_the_marginal_moments() -> None:
    fitted = _weighted()
    mean = residuals(fitted, "marginal")["fitted"].to_numpy()
    V = marginal_covariance(
        dense_model(fitted.design), fitted.natural.psi, float(fitted.natural.sigma2)
    )
    _check_moments(_draws(fitted), mean, V)


def test_conditional_draws_scatter_about_the_conditional_fit() -> None:
    fitted = _weighted()
    V = float(fitted.natural.sigma2) * residual_direction(dense_model(fitted.design))
    mean = residuals(fitted)["fitted"].to_numpy()
    _check_moments(_draws(fitted, conditional=True), mean, V)


def test_a_variance_of_zero_makes_the_rows_independent() -> None:
    case = reference_case("dyestuff2_singular")
    fitted = fit(case.formula, case.frame())
    assert fitted.natural.psi[0][0, 0] == 0.0
    mean = residuals(fitted, "marginal")["fitted"].to_numpy()
    _check_moments(_draws(fitted), mean, float(fitted.natural.sigma2) * np.eye(len(mean)))


def test_a_seed_reproduces_the_draws_and_another_does_not() -> None:
    fitted = _weighted()
    first = simulate(fitted, 2, seed=3)
    assert first.columns == ["row", "sim_1", "sim_2"]
    assert first.equals(simulate(fitted, 2, seed=np.random.SeedSequence(3)))
    assert not first.equals(simulate(fitted, 2, seed=4))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True, np.random.default_rng(0)])
def test_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(ArgumentError, match="whole number >= 0 or a SeedSequence"):
        simulate(_weighted(), seed=seed)


@pytest.mark.parametrize("n", [0, 1.5, "2"])
def test_what_is_no_number_of_responses(n: Any) -> None:
    with pytest.raises(ArgumentError, match=">= 1"):
        simulate(_weighted(), n, seed=1)
