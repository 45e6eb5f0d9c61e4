"""What has to be fast, in evaluations and bytes: these do not depend on what else is running."""

import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import fit
from lmmkit.residual import Residual, ar1, car1, model, per_stratum, unstructured


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the likelihood is evaluated, and how often all rows are summed for that."""
    counts: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(model.ResidualModel, "objective")
    counted(model, "cross_products")
    return counts


@pytest.mark.parametrize("n", [4, 8])
def test_repeated_measures_with_dropout_are_fitted_from_sums(n: int, calls: Counter[str]) -> None:
    """Differences would take 1260 evaluations an iteration for the 35 parameters of 8 visits."""
    generator = np.random.default_rng(1)
    m = 3000
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
    found = fit("y ~ visit * arm + base", frame, residual=structure)
    assert found.certificate.converged
    assert 0 < calls["objective"] < 50
    assert calls["cross_products"] == 0


def test_random_effects_beside_many_residual_parameters(calls: Counter[str]) -> None:
    """Differences would take 72 evaluations an iteration for 8 parameters."""
    series = _series(1000, 8).with_columns(visit=pl.format("v{}", pl.col("t").cast(pl.Int64)))
    structure = Residual(ar1("t", group="id"), per_stratum("visit"))
    found = fit("y ~ x + visit + (1 | id)", series, residual=structure)
    assert found.certificate.converged
    assert 0 < calls["objective"] < 72


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


def _peak(formula: str, frame: pl.DataFrame, residual: Residual) -> int:
    tracemalloc.start()
    try:
        assert fit(formula, frame, residual=residual).certificate.converged
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("structure", [ar1("t", group="id"), car1("u", group="id")])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | id)"])
def test_autoregressions_are_linear_in_rows(
    structure: Any, formula: str, calls: Counter[str]
) -> None:
    """Ten times as many rows, in groups that are ten times as long or as many."""
    small, long, many = _series(10, 100), _series(10, 1000), _series(100, 100)
    residual = Residual(structure)
    evaluations, bytes_of = [], []
    for frame in (small, long, many):
        calls.clear()
        bytes_of.append(_peak(formula, frame, residual))
        evaluations.append(calls["objective"])
    assert max(evaluations) < 30
    assert max(bytes_of) < 10 * bytes_of[0]
