"""Fits of several factors, relations and memberships are maxima of the dense log-likelihood."""

import numpy as np
import pytest

from lmmkit.fit import Fit
from lmmkit.inference import profile
from tests.dense_oracle import Array, profiled_loglik
from tests.helpers import dense_model
from tests.inference.models import model

FREE = (
    "crossed",
    "crossed with slopes, weighted",
    "nested",
    "nested and crossed",
    "two terms on a crossed factor",
    "three crossed factors",
    "memberships",
    "weighted memberships, slopes",
    "animals",
    "animals with slopes, crossed",
)
EVERY = pytest.mark.parametrize("name", FREE)


@EVERY
def test_no_covariances_nearby_are_better(name: str) -> None:
    result = model(name)
    dense, natural = dense_model(result.design), result.natural
    best = profiled_loglik(dense, natural.psi, float(natural.sigma2), reml=result.reml)
    assert result.loglik == pytest.approx(best, rel=1e-11)
    draw, compared = np.random.default_rng(0), 0
    for _ in range(30):
        near = [p * draw.uniform(0.9, 1.1) + 0.02 * draw.uniform(-1, 1) for p in natural.psi]
        if all(np.linalg.eigvalsh(p)[0] >= 0 for p in near):
            sigma2 = float(natural.sigma2) * draw.uniform(0.97, 1.03)
            assert profiled_loglik(dense, near, sigma2, reml=result.reml) < best
            compared += 1
    assert compared >= 10


def constrained(result: Fit, k: int, value: float) -> float:
    """The largest dense log-likelihood where the deviation of term k is held, all terms scalar."""
    from scipy.optimize import minimize

    dense, natural = dense_model(result.design), result.natural

    def loss(x: Array) -> float:
        psi = [np.exp(a) * p for a, p in zip(x, natural.psi, strict=False)]
        psi[k] = np.array([[value**2]])
        sigma2 = float(np.exp(x[-1]) * natural.sigma2)
        return -profiled_loglik(dense, psi, sigma2, reml=result.reml)

    start = np.zeros(len(natural.psi) + 1)
    return -float(minimize(loss, start, method="BFGS", options={"gtol": 1e-6}).fun)


@pytest.mark.parametrize(("name", "k"), [("crossed", 1), ("nested and crossed", 1), ("animals", 0)])
def test_a_profile_is_the_constrained_maximum(name: str, k: int) -> None:
    result = model(name)
    term = result.design.terms[k]
    curve = profile(result, (term.group, *term.names), n_points=2)
    assert curve.height >= 3
    for value, loglik in curve.select("value", "loglik").rows():
        assert loglik == pytest.approx(constrained(result, k, value), abs=1e-6)
