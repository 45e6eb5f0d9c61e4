"""What has to be fast, in seconds of one processor."""

import time

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import fit
from lmmkit.residual import Residual, ar1, car1, per_stratum, unstructured


def _seconds(formula: str, frame: pl.DataFrame, residual: Residual) -> float:
    """The best of two fits."""
    best = np.inf
    for _ in range(2):
        start = time.process_time()
        assert fit(formula, frame, residual=residual).certificate.converged
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.slow
@pytest.mark.parametrize(("n", "seconds"), [(4, 0.6), (8, 1.5)])
def test_repeated_measures_of_ten_thousand_patients_with_dropout(n: int, seconds: float) -> None:
    generator = np.random.default_rng(1)
    m = 10_000
    root = generator.standard_normal((n, n)) + 2.0 * np.eye(n)
    y = generator.standard_normal((m, n)) @ root.T + np.arange(n)
    last = np.where(generator.random(m) < 0.3, generator.integers(1, n + 1, m), n)
    patient, visit = np.nonzero(np.arange(n) < last[:, None])
    frame = pl.DataFrame(
        {
            "patient": patient,
            "visit": np.array([f"v{i}" for i in range(n)])[visit],
            "arm": np.array(["a", "b"])[generator.integers(0, 2, m)[patient]],
            "base": generator.standard_normal(m)[patient],
            "y": y[patient, visit],
        }
    )
    structure = Residual(unstructured("visit", group="patient"), per_stratum("visit"))
    assert _seconds("y ~ visit * arm + base", frame, structure) < seconds


@pytest.mark.slow
def test_random_effects_beside_many_residual_parameters() -> None:
    series = _series(5_000, 8).with_columns(visit=pl.format("v{}", pl.col("t").cast(pl.Int64)))
    structure = Residual(ar1("t", group="id"), per_stratum("visit"))
    assert _seconds("y ~ x + visit + (1 | id)", series, structure) < 1.5


def _series(groups: int, rows: int) -> pl.DataFrame:
    generator = np.random.default_rng(2)
    e = np.empty((groups, rows))
    e[:, 0] = generator.standard_normal(groups)
    for i in range(1, rows):
        e[:, i] = 0.6 * e[:, i - 1] + 0.8 * generator.standard_normal(groups)
    x = generator.standard_normal((groups, rows))
    when = np.tile(np.arange(rows, dtype=np.float64), groups)
    return pl.DataFrame(
        {
            "id": np.repeat(np.arange(groups), rows),
            "t": when,
            "u": when + generator.uniform(0.0, 0.5, len(when)),
            "x": x.ravel(),
            "y": (1.0 + 0.5 * x + e).ravel(),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("structure", [ar1("t", group="id"), car1("u", group="id")])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | id)"])
def test_autoregressions_take_time_linear_in_rows(structure: object, formula: str) -> None:
    residual = Residual(structure)  # type: ignore[arg-type]
    small, large = (_seconds(formula, _series(groups, 10), residual) for groups in (5_000, 50_000))
    assert large < 10.0 * small * 1.6
