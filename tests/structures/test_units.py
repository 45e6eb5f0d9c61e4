"""Fits with covariance structures follow the units of the data."""

import math

import numpy as np
import polars as pl
import pytest

from lmmkit import datasets, fit, variance_components
from lmmkit.fit import Fit
from lmmkit.optimize.evaluate import differentiate, evaluate, observed_hessian
from lmmkit.optimize.metrics import absolute

SLEEP = datasets.load("sleepstudy").with_columns(w=pl.lit(1.0))


def _fit(effects: str, x: float, y: float, w: float) -> Fit:
    scaled = SLEEP.with_columns(
        pl.col("Days") * x, pl.col("Reaction").cast(pl.Float64) * y, pl.col("w") * w
    )
    return fit(f"Reaction ~ Days + {effects}", scaled, weights="w")


def _errors(found: Fit) -> np.ndarray:
    """The variance components' standard errors, relative to the estimates."""
    table = variance_components(found)
    return (table["std_error"] / table["estimate"]).to_numpy()


UNITS = [(1e8, 1.0, 1.0), (1e-8, 1.0, 1.0), (1.0, 1e6, 1.0), (1.0, 1.0, 1e-2)]
FAR = [(1e20, 1.0, 1.0), (1e34, 1.0, 1.0), (1e-30, 1.0, 1.0), (1.0, 1.0, 1e34), (1.0, 1.0, 1e-34)]
EFFECTS = [
    "diag(Days | Subject)",
    "cs(Days | Subject)",
    "toep(Days | Subject)",
    "rr(Days | Subject, 1)",
    "diag(0 + Days | Subject)",
]


@pytest.mark.parametrize(
    ("effects", "x", "y", "w"),
    [(each, *unit) for each in EFFECTS for unit in UNITS]
    + [(each, *unit) for each in EFFECTS[:2] for unit in FAR]
    + [("homdiag(Days | Subject)", *unit) for unit in UNITS[2:]],
)
def test_likelihood_and_relative_errors(effects: str, x: float, y: float, w: float) -> None:
    plain, scaled = _fit(effects, 1.0, 1.0, 1.0), _fit(effects, x, y, w)
    assert plain.certificate.converged
    assert scaled.certificate.converged
    shift = (SLEEP.height - 2) * math.log(y) + math.log(x)
    assert scaled.loglik + shift == pytest.approx(plain.loglik, abs=1e-6)
    assert _errors(scaled) == pytest.approx(_errors(plain), rel=1e-4)


def test_a_standard_deviation_of_zero_has_a_metric() -> None:
    """The information of theta vanishes there, the curvature does not."""
    found = fit("Reaction ~ Days + homdiag(1 | Subject)", SLEEP)
    standard = found.objective.standardized()
    score = differentiate(standard, evaluate(standard, np.zeros(1)))
    metric = absolute(standard, score)
    assert np.isfinite(metric).all()
    assert metric[0, 0] == pytest.approx(abs(observed_hessian(standard, score)[0, 0]), rel=1e-6)
