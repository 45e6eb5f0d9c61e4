"""Fits of several grouping factors at the edges: no fixed effects, confounded variances."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import multivariate_normal

from lmmkit import datasets, fit
from lmmkit.design import build_design, group
from lmmkit.errors import DataError
from lmmkit.likelihood import reml
from lmmkit.moments import cross_products
from lmmkit.parameters import NaturalParams
from lmmkit.residual import Residual, compound_symmetry


def crossed() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, 150), rng.integers(0, 9, 150)
    y = rng.normal(size=150) + rng.normal(size=12)[a] + rng.normal(size=9)[b]
    return pl.DataFrame({"y": y, "a": a, "b": b, "two": rng.integers(0, 2, 150)})


@pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
def test_crossed_factors_without_fixed_effects(restricted: bool) -> None:
    frame = crossed()
    result = fit("y ~ 0 + (1 | a) + (1 | b)", frame, reml=restricted)
    V = result.natural.sigma2 * np.eye(len(frame))
    for name, psi in zip(["a", "b"], result.natural.psi, strict=True):
        levels = frame[name].to_numpy()
        V += psi.item() * (levels[:, None] == levels)
    expected = multivariate_normal(cov=V).logpdf(frame["y"].to_numpy())
    assert result.certificate.converged
    assert result.loglik == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("variance", [1e8, 1e14, 1e18])
def test_the_hessian_where_a_variance_is_confounded_and_huge(variance: float) -> None:
    design = build_design("y ~ C(two) + (1 | two) + (1 | a)", crossed())
    objective = reml(cross_products(group(design)))
    params = NaturalParams(beta=np.zeros(2), psi=(np.array([[variance]]), np.eye(1)), sigma2=1.0)
    assert np.isfinite(objective.hessian(params)).all()


def test_a_factor_that_is_fixed_and_random_beside_correlated_residuals() -> None:
    # trial steps reach covariances at which rounding leaves no positive definite matrix
    machines = datasets.load("Machines")
    groups = Residual(compound_symmetry(group="Worker:Machine"))
    result = fit("score ~ Machine + (1 | Worker) + (1 | Machine)", machines, residual=groups)
    without = fit("score ~ Machine + (1 | Worker)", machines, residual=groups)
    assert result.certificate.converged
    assert result.loglik == pytest.approx(without.loglik, abs=1e-3)


@pytest.mark.parametrize("n", [60, 2000])
@pytest.mark.parametrize("weights", [None, "w"])
def test_crossed_effects_that_reproduce_the_response(n: int, weights: str | None) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.integers(0, 12, n), rng.integers(0, 9, n)
    known = rng.normal(size=12)[a] + 2.0 * rng.normal(size=9)[b]
    frame = pl.DataFrame({"y": known, "a": a, "b": b, "w": rng.uniform(0.5, 2.0, n)})
    with pytest.raises(DataError, match="effects reproduce the response 'y'"):
        fit("y ~ 1 + (1 | a) + (1 | b)", frame, weights=weights)
    noisy = frame.with_columns(y=pl.Series(known + 1e-4 * rng.normal(size=n)))
    found = fit("y ~ 1 + (1 | a) + (1 | b)", noisy, weights=weights)
    assert np.sqrt(found.natural.sigma2) == pytest.approx(1e-4, rel=0.3)
