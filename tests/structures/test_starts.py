"""Fits of structures to data without the effects they are for: local maxima on the boundary."""

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, fit
from lmmkit.optimize import maximize
from lmmkit.optimize.start import standard_start, with_theta

M, Q, N = 8, 4, 3


def fitted(name: str, seed: int, effects: str) -> Fit:
    generator = np.random.default_rng(seed)
    b = generator.normal(size=(M, Q)) * (effects != "none")
    if effects == "centred":
        b = b - b.mean(axis=1, keepdims=True)
    rows = [
        (i, t, b[i, t] + generator.normal()) for i in range(M) for t in range(Q) for _ in range(N)
    ]
    frame = pl.DataFrame(rows, schema=["g", "t", "y"], orient="row").cast({"g": str, "t": str})
    return fit(f"y ~ t + {name}(0 + t | g)", frame)


@pytest.mark.parametrize("seed", [6, 13])
@pytest.mark.parametrize(("name", "effects"), [("cs", "none"), ("toep", "none"), ("cs", "centred")])
def test_no_other_start_is_much_better(name: str, effects: str, seed: int) -> None:
    found = fitted(name, seed, effects)
    start = standard_start(found.objective)
    generator = np.random.default_rng(100 + seed)
    for _ in range(3):
        theta = tuple(t + generator.normal(size=t.shape) for t in start.theta if t is not None)
        other = maximize(found.objective, None, with_theta(found.objective, start.factor, theta))
        assert other.loglik < found.loglik + 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["homtoep", "toep", "mat"])
def test_rounding_where_the_likelihood_is_flat_is_no_saddle(name: str, seed: int) -> None:
    certificate = fitted(name, seed, "centred").certificate
    assert certificate.converged
    assert certificate.inertia[2] == 0
