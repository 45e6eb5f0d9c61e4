"""A small data set of every feature, and its likelihood by dense algebra from plain definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.likelihood.objective import Objective

Array = NDArray[np.floating[Any]]


def frame(seed: int = 7, groups: int = 9) -> pl.DataFrame:
    """Unequal groups with gaps, rows out of order, a covariate, strata of groups and of rows."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(groups):
        visits = np.sort(generator.choice(5, size=int(generator.integers(1, 6)), replace=False))
        for visit in visits:
            rows.append(
                {
                    "id": f"g{i:02d}",
                    "visit": int(visit),
                    "label": "abcde"[visit],
                    "time": float(visit + generator.uniform(0.0, 0.5)),
                    "east": float(generator.uniform(0, 3)),
                    "north": float(generator.uniform(0, 3)),
                    "arm": "uv"[i % 2],
                    "kind": ("p", "q", "r")[visit % 3],
                    "x": float(generator.normal()),
                    "v": float(generator.uniform(0.5, 3.0)),
                    "w": float(generator.uniform(0.5, 2.0)),
                    "y": float(generator.normal(2.0, 1.5)),
                }
            )
    order = generator.permutation(len(rows))
    return pl.DataFrame([rows[i] for i in order])


def effects(data: pl.DataFrame, group: str, seed: int) -> pl.Series:
    """A standard normal effect of each level of a column of text, by row."""
    codes = data[group].rank("dense").to_numpy().astype(int) - 1
    return pl.Series(np.random.default_rng(seed).standard_normal(int(codes.max()) + 1)[codes])


def residual_covariance(
    data: pl.DataFrame,
    correlation: Callable[[dict[str, Any], dict[str, Any]], float] | None = None,
    deviation: Callable[[dict[str, Any]], float] | None = None,
    group: str = "id",
) -> Array:
    """``G R G`` row by row: ``correlation(a, b)`` of two different rows of one group."""
    rows = data.to_dicts()
    n = len(rows)
    matrix = np.eye(n)
    together = data[group].to_numpy()[:, None] == data[group].to_numpy()
    if correlation is not None:
        for i, j in zip(*np.nonzero(together & ~np.eye(n, dtype=bool)), strict=True):
            matrix[i, j] = correlation(rows[i], rows[j])
    scale = np.array([1.0 if deviation is None else deviation(row) for row in rows])
    return matrix * np.outer(scale, scale)


def dense_value(y: Array, X: Array, V: Array, *, restricted: bool) -> float:
    """The (restricted) log-likelihood at the best beta, without lme4's ``log|X'X| / 2``."""
    C = X.T @ np.linalg.solve(V, X)
    r = y - X @ np.linalg.solve(C, X.T @ np.linalg.solve(V, y))
    total = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    m = len(y)
    if restricted:
        total += np.linalg.slogdet(C)[1]
        m -= X.shape[1]
    return float(-0.5 * (m * np.log(2.0 * np.pi) + total))


def random_part(data: pl.DataFrame, psi: Array | None) -> Array:
    """``Z psi Z'`` of an intercept and a slope on time for each group."""
    n = data.height
    if psi is None:
        return np.zeros((n, n))
    Z = np.column_stack([np.ones(n), data["time"].to_numpy()])[:, : len(psi)]
    codes = data["id"].to_numpy()
    return np.where(codes[:, None] == codes, Z @ psi @ Z.T, 0.0)


def at_natural(objective: Objective | None, psi: Array | None, sigma2: float) -> float:
    """The library's log-likelihood at natural parameters, beta profiled out."""
    from lmmkit.parameters import NaturalParams

    assert objective is not None
    return float(objective.loglik(NaturalParams(() if psi is None else (psi,), sigma2)))
