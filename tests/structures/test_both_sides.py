"""Structures of random effects together with other factors, and with structures of residuals."""

import json

import numpy as np
import polars as pl
import pytest

from lmmkit import (
    Residual,
    fit,
    likelihood_ratio_test,
    predict,
    random_effects,
    simulate,
    summary,
    tie,
)
from lmmkit.inference import parameter_covariance
from lmmkit.inference.parameters import parameter_values
from lmmkit.records import FloatArray
from lmmkit.residual import ar1
from tests.dense_oracle import conditional_modes, dense_loglik, numeric_gradient, numeric_hessian
from tests.helpers import REFERENCE, dense_model


def ovary() -> pl.DataFrame:
    angle = 2.0 * np.pi * pl.col("Time")
    return pl.read_csv(REFERENCE / "Ovary.csv").with_columns(
        s=angle.sin(),
        c=angle.cos(),
        Mare=pl.col("Mare").cast(pl.String),
        visit=pl.int_range(pl.len()).over("Mare").cast(pl.Float64),
    )


def test_nlme_diagonal_random_effects_with_ar1_residuals() -> None:
    """Pinheiro and Bates (2000), p. 240."""
    case = json.loads((REFERENCE / "structures.json").read_text())["ovary"]
    found = fit("follicles ~ s + c + diag(1 + s | Mare)", ovary(), residual=Residual(ar1("visit")))
    assert found.certificate.converged
    assert found.loglik == pytest.approx(case["loglik"], rel=1e-9)
    assert found.natural.beta == pytest.approx(np.array(case["fixef"]), rel=1e-4)
    assert np.diagonal(found.natural.psi[0]) == pytest.approx(np.array(case["psi"]), rel=1e-3)
    assert found.natural.sigma2 == pytest.approx(case["sigma2"], rel=1e-4)
    assert found.residual is not None
    assert found.residual.estimates == pytest.approx([case["phi"]], rel=1e-3)


def test_tied_parameters_beside_a_residual_structure() -> None:
    tied = tie(("Mare", "sd_Intercept"), ("Mare", "sd_s"))
    found = fit(
        "follicles ~ s + c + diag(1 + s | Mare)",
        ovary(),
        residual=Residual(ar1("visit")),
        constraints=[tied],
    )
    same = fit(
        "follicles ~ s + c + homdiag(1 + s | Mare)", ovary(), residual=Residual(ar1("visit"))
    )
    assert found.loglik == pytest.approx(same.loglik, rel=1e-9)


def crossed(seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    n = 160
    a, b, t = draw.integers(0, 14, n), draw.integers(0, 7, n), draw.integers(0, 4, n)
    psi = 2.0 * 0.6 ** np.abs(np.subtract.outer(range(4), range(4)))
    effects = draw.multivariate_normal(np.zeros(4), psi, 14)
    y = 1.0 + effects[a, t] + draw.normal(size=7)[b] + draw.normal(size=n)
    names = {"a": a, "b": b, "t": t}
    return pl.DataFrame({"y": y} | {k: [f"{k}{i}" for i in v] for k, v in names.items()})


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["ar1", "cs", "diag"])
def test_crossed_with_another_factor(name: str, reml: bool) -> None:
    frame = crossed()
    found = fit(f"y ~ 1 + {name}(0 + t | a) + (1 | b)", frame, reml=reml)
    assert found.certificate.converged
    term, theta = found.objective.structures[0], found.optimum.theta[0]
    assert term is not None
    assert theta is not None
    dense = dense_model(found.design)
    values = parameter_values(found)

    def loglik(at: FloatArray) -> float:
        """Over beta, theta, the logarithm of b's standard deviation, and log sigma."""
        sigma2 = float(np.exp(2.0 * at[-1]))
        psi = [sigma2 * term.covariance(at[1:-2]), np.exp(2.0 * at[-2:-1, None])]
        return dense_loglik(dense, at[:1], psi, sigma2, reml=reml)

    at = np.concatenate([values[:1], theta, 0.5 * np.log(values[-2:])])
    assert found.loglik == pytest.approx(loglik(at), rel=1e-10)
    assert np.abs(numeric_gradient(loglik, at)).max() < 2e-3
    if name == "ar1" and not reml:

        def reported(x: FloatArray) -> FloatArray:
            sigma = float(np.exp(x[-1]))
            own = np.abs(term.natural(x[1:-2], sigma))
            return np.concatenate([x[:1], own, np.exp(2.0 * x[-2:])])

        J = numeric_gradient(reported, at)
        expected = J @ np.linalg.inv(-numeric_hessian(loglik, at)) @ J.T
        assert parameter_covariance(found) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_inference_on_a_structured_crossed_fit() -> None:
    frame = crossed(3)
    found = fit("y ~ 1 + ar1(0 + t | a) + (1 | b)", frame)
    larger = fit("y ~ 1 + (0 + t | a) + (1 | b)", frame)
    assert likelihood_ratio_test(found, larger)["df"].item() == 8
    modes = random_effects(found).filter(pl.col("group") == "a")["estimate"].to_numpy()
    dense = conditional_modes(
        dense_model(found.design), found.natural.psi, float(found.natural.sigma2)
    )
    assert modes == pytest.approx(dense[0][0].ravel(), rel=1e-6, abs=1e-8)
    assert simulate(found, 2, seed=1).shape == (160, 3)
    assert predict(found).height == 160
    assert "Homogeneous(AR1)" in str(summary(found))
