"""A variance function whose likelihood has several maxima is fitted at the highest."""

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.residual import Residual, ar1, constant_plus_power, exponential_variance, power
from tests.residual.dense import frame


def _best(data: pl.DataFrame, powers: np.ndarray) -> float:
    """The highest of the log-likelihoods with the powers known, as weights."""
    fits = [
        fit("y ~ x", data.with_columns(w=pl.col("v") ** (-2.0 * p)), weights="w") for p in powers
    ]
    return max(found.loglik for found in fits)


def _two_maxima() -> pl.DataFrame:
    """Most rows lie near a line, where v is small; the others, where it is large, on another."""
    generator = np.random.default_rng(3)
    data = frame(groups=60)
    large = generator.random(data.height) < 0.4
    x = generator.standard_normal(data.height)
    noise = np.where(large, 0.001, 0.1) * generator.standard_normal(data.height)
    return data.with_columns(x=x, v=np.where(large, 2.0, 0.5), y=np.where(large, -x, x) + noise)


def _power(found: Fit) -> float:
    assert found.residual is not None
    return float(found.residual.estimates[-1])


def test_a_negative_power_is_found_beyond_a_positive_one() -> None:
    data = _two_maxima()
    found = fit("y ~ x", data, residual=Residual(variance=power("v")))
    assert found.certificate.converged
    assert found.loglik >= _best(data, np.linspace(-8.0, 8.0, 17))
    assert _power(found) < 0


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_starts_do_not_depend_on_the_unit_of_the_covariate(scale: float) -> None:
    data = _two_maxima().with_columns(far=scale * pl.col("v"))
    structures = (power, exponential_variance)
    for structure in structures:
        near = fit("y ~ x", data, residual=Residual(variance=structure("v")))
        far = fit("y ~ x", data, residual=Residual(variance=structure("far")))
        assert far.loglik == pytest.approx(near.loglik, rel=1e-7)


def test_beside_a_correlation_and_another_function() -> None:
    data = _two_maxima()
    both = (power("v"), constant_plus_power("v"))
    found = fit("y ~ x", data, residual=Residual(ar1("visit", group="id"), power("v")))
    larger = fit("y ~ x", data, residual=Residual(variance=both))
    alone = fit("y ~ x", data, residual=Residual(variance=power("v")))
    assert found.loglik >= alone.loglik
    assert larger.loglik >= alone.loglik - 1e-6
