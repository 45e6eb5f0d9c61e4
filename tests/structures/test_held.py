"""Parameters of covariance structures that are held together with the residual variance."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lmmkit import datasets, fit
from tests.dense_oracle import dense_loglik, profiled_loglik
from tests.helpers import dense_model

MACHINES = datasets.load("Machines")
DISTANCE = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("name", "correlation"),
    [("homdiag", np.eye(3)), ("homcs", np.where(DISTANCE, 0.5, 1)), ("ar1", 0.5**DISTANCE)],
)
def test_every_variance_known(
    name: str, correlation: np.ndarray[tuple[int, int], np.dtype[np.float64]], reml: bool
) -> None:
    held = {("Worker", "sd"): 3.0, "sigma2": 1.5}
    if name != "homdiag":
        held[("Worker", "rho")] = 0.5
    formula = f"score ~ Machine + {name}(0 + Machine | Worker)"
    found = fit(formula, MACHINES, reml=reml, fixed=held)
    assert found.certificate.converged
    assert found.natural.sigma2 == 1.5
    assert found.natural.psi[0] == pytest.approx(9.0 * correlation)
    assert found.natural.beta is not None
    dense = dense_loglik(
        dense_model(found.design), found.natural.beta, [9.0 * correlation], 1.5, reml=reml
    )
    assert found.loglik == pytest.approx(dense, rel=1e-10)


@pytest.mark.parametrize("rho", [-0.45, -0.49, -0.4999])
def test_a_correlation_that_the_data_speak_against(rho: float) -> None:
    """There are local maxima, in which one or two standard deviations are zero."""
    found = fit(
        "score ~ Machine + cs(0 + Machine | Worker)", MACHINES, fixed={("Worker", "rho"): rho}
    )
    assert found.certificate.converged
    model, correlation = dense_model(found.design), np.where(DISTANCE, rho, 1.0)
    generator = np.random.default_rng(1)

    def minus(x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        sd = np.exp(np.clip(x, -9.0, 9.0))
        psi = np.outer(sd[:3], sd[:3]) * correlation
        return -profiled_loglik(model, [psi], sd[3] ** 2, reml=True)

    ends = [
        minimize(minus, generator.normal(2.0, 1.0, size=4), method="L-BFGS-B").fun
        for _ in range(12)
    ]
    assert found.loglik >= -min(ends) - 1e-6
