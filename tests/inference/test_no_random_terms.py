"""A model without random terms is ordinary least squares, and every table says so."""

import numpy as np
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.inference import (
    fixed_covariance,
    glance,
    likelihood_ratio_test,
    random_effects,
    random_effects_covariance,
    summary,
    variance_components,
)
from tests.helpers import reference_case, reference_frame
from tests.inference.fitted import fitted, simulated


def straight(reml: bool = True) -> Fit:
    return fit("y ~ x", simulated(1, 0.8), reml=reml)


@pytest.mark.parametrize("reml", [True, False])
def test_against_least_squares(reml: bool) -> None:
    result = straight(reml)
    X, y = result.design.X, result.design.y
    rss = float(np.linalg.lstsq(X, y, rcond=None)[1][0])
    m = len(y) - 2 if reml else len(y)
    sigma2 = rss / m
    np.testing.assert_allclose(
        fixed_covariance(result), sigma2 * np.linalg.inv(X.T @ X), rtol=1e-10
    )
    row = variance_components(result).row(0, named=True)
    assert row["estimate"] == pytest.approx(sigma2)
    assert row["std_error"] == pytest.approx(sigma2 * np.sqrt(2 / m))


def test_tables_without_groups() -> None:
    result = straight()
    assert random_effects(result).is_empty()
    assert random_effects_covariance(result) == ()
    row = glance(result).row(0, named=True)
    assert row["n_groups"] is None
    assert row["n_parameters"] == 3
    assert not row["singular"]
    assert "groups" not in str(summary(result))


def test_a_variance_against_none() -> None:
    frame = reference_frame("Dyestuff", ["Batch"])
    small = fit("Yield ~ 1", frame)
    row = likelihood_ratio_test(small, fitted("dyestuff")).row(0, named=True)
    y = frame["Yield"].to_numpy().astype(float)
    n, s2 = len(y), y.var(ddof=1)
    loglik = -0.5 * ((n - 1) * (np.log(2 * np.pi * s2) + 1) + np.log(n))
    assert row["statistic"] == pytest.approx(2 * (reference_case("dyestuff").loglik - loglik))
    assert row["distribution"] == "0.5 chi2(0) + 0.5 chi2(1)"


def test_a_variance_estimated_as_zero_against_none() -> None:
    """The statistic is zero, and all of the mixture lies at or above it."""
    frame = reference_frame("Dyestuff2", ["Batch"])
    small = fit("Yield ~ 1", frame)
    held = fit("Yield ~ 1 + (1 | Batch)", frame, fixed={("Batch", "Intercept"): 0.0})
    assert held.loglik == pytest.approx(small.loglik, rel=1e-12)
    for fewer in (small, held):
        row = likelihood_ratio_test(fewer, fitted("dyestuff2_singular")).row(0, named=True)
        assert row["statistic"] == 0.0
        assert row["p_value"] == 1.0
