"""Variance functions of the fitted value: a fixed point, reached where plain turns do not."""

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import fit
from lmmkit.inference import residuals
from lmmkit.records import FloatArray
from lmmkit.residual import Residual, exponential, exponential_variance, power
from lmmkit.residual.acceleration import accelerated

ROOT = np.random.default_rng(2).standard_normal((8, 8))


@pytest.mark.parametrize("largest", [0.99, -1.5])
def test_a_linear_map_is_solved_in_as_many_steps_as_it_has_eigenvalues(largest: float) -> None:
    A = ROOT @ np.diag([largest, 0.9, -0.5, 0.3, 0.0, 0.0, 0.0, 0.0]) @ np.linalg.inv(ROOT)
    b = np.arange(8.0)
    seen: list[tuple[FloatArray, FloatArray]] = []
    v: FloatArray = np.zeros(8)
    for _ in range(8):
        seen.append((v, A @ v + b))
        v = accelerated(seen)
    assert v == pytest.approx(np.linalg.solve(np.eye(8) - A, b), rel=1e-6)


def test_away_from_the_fixed_point_half_a_step() -> None:
    seen = [
        (np.array([0.0, 1.0]), np.array([0.1, 1.0])),
        (np.array([3.0, 1.0]), np.array([4.0] * 2)),
    ]
    assert accelerated(seen) == pytest.approx([3.5, 2.5])


def _frame() -> pl.DataFrame:
    """Deviations that grow with the mean, a chain inside each group."""
    generator = np.random.default_rng(7)
    t = np.tile(np.arange(12.0), 20)
    mean = 2.0 + 0.8 * t - 0.07 * t**2
    noise = generator.standard_normal((20, 12))
    for i in range(1, 12):
        noise[:, i] = 0.8 * noise[:, i - 1] + 0.6 * noise[:, i]
    return pl.DataFrame(
        {
            "id": np.repeat(np.arange(20), 12),
            "t": t,
            "y": mean + 0.01 * np.exp(mean) * noise.ravel(),
        }
    )


@pytest.mark.parametrize("function", [exponential_variance, power])
@pytest.mark.parametrize("formula", ["y ~ t + I(t**2)", "y ~ t + I(t**2) + (1 | id)"])
def test_the_fit_is_that_with_its_own_fitted_values(function: object, formula: str) -> None:
    data = _frame()
    correlation = exponential("t", group="id")
    found = fit(formula, data, residual=Residual(correlation, function()))  # type: ignore[operator]
    assert found.certificate.converged
    known = data.with_columns(v=residuals(found)["fitted"])
    again = fit(formula, known, residual=Residual(correlation, function("v")))  # type: ignore[operator]
    assert found.loglik == pytest.approx(again.loglik, abs=1e-7)
    assert found.residual is not None
    assert again.residual is not None
    assert found.residual.estimates == pytest.approx(again.residual.estimates, rel=1e-6)
