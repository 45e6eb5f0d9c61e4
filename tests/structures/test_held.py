"""Parameters of covariance structures that are held together with the residual variance."""

import numpy as np
import pytest

from lmmkit import datasets, fit
from tests.dense_oracle import dense_loglik
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
