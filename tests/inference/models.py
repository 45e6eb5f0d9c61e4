"""Small models of several factors, with relations and loads, that tests of inference share."""

import functools
from collections.abc import Callable

import numpy as np
import polars as pl

from lmmkit.design import level_covariance
from lmmkit.fit import Fit, fit
from lmmkit.records import FloatArray

_RELATED = [f"a{i:02d}" for i in range(14)]


@functools.cache
def crossed_frame(seed: int = 3, n: int = 150) -> pl.DataFrame:
    """Columns y, x, w, shift; crossed s and d; g nested in s; animals a, some without rows."""
    draw = np.random.default_rng(seed)
    s, d, a = draw.integers(0, 9, n), draw.integers(0, 6, n), draw.integers(2, 14, n)
    g = 10 * s + draw.integers(0, 3, n)
    x = draw.normal(size=n)
    effects = (
        draw.normal(size=9)[s]
        + x * draw.normal(size=9)[s] * 0.7
        + draw.normal(size=6)[d]
        + 0.8 * draw.normal(size=100)[g]
        + draw.normal(size=14)[a]
    )
    return pl.DataFrame(
        {
            "y": 1.0 + 0.5 * x + effects + draw.normal(size=n),
            "x": x,
            "w": draw.uniform(0.5, 2.0, n),
            "shift": draw.normal(size=n),
            "s": [f"s{i}" for i in s],
            "d": [f"d{i}" for i in d],
            "g": [f"g{i}" for i in g],
            "a": [f"a{i:02d}" for i in a],
            "b": [f"a{i:02d}" for i in (a + draw.integers(1, 5, n)) % 12 + 2],
            "wa": draw.uniform(0.2, 1.0, n),
            "wb": draw.uniform(-0.5, 1.0, n),
        }
    )


def relatedness() -> FloatArray:
    """Covariance of the animals: parents, and offspring of random pairs of earlier ones."""
    draw = np.random.default_rng(0)
    m = len(_RELATED)
    A = np.zeros((m, m))
    for i in range(m):
        if i < 4:
            A[i, i] = 1.0
            continue
        first, second = draw.choice(i, 2, replace=False)
        A[i, :i] = A[:i, i] = 0.5 * (A[first, :i] + A[second, :i])
        A[i, i] = 1.0 + 0.5 * A[first, second]
    return A


def _animals(formula: str) -> Fit:
    relation = level_covariance(relatedness(), _RELATED)
    return fit(formula, crossed_frame(), relations={"a": relation})


MODELS: dict[str, Callable[[], Fit]] = {
    "crossed": lambda: fit("y ~ x + (1 | s) + (1 | d)", crossed_frame()),
    "crossed with slopes, weighted": lambda: fit(
        "y ~ x + (x | s) + (1 | d)", crossed_frame(), weights="w", offset="shift"
    ),
    "nested": lambda: fit("y ~ x + (x | s) + (1 | s:g)", crossed_frame()),
    "nested and crossed": lambda: fit("y ~ x + (1 | s/g) + (1 | d)", crossed_frame()),
    "two terms on a crossed factor": lambda: fit(
        "y ~ 1 + (1 | s) + (1 | d) + (0 + x | s)", crossed_frame(), reml=False
    ),
    "three crossed factors": lambda: fit("y ~ x + (x | s) + (1 | d) + (1 | a)", crossed_frame()),
    "memberships": lambda: fit("y ~ x + (1 | mm(a, b)) + (1 | d)", crossed_frame()),
    "weighted memberships, slopes": lambda: fit(
        "y ~ 1 + (x | mm(a, b, weights=(wa, wb)))", crossed_frame(), weights="w"
    ),
    "animals": lambda: _animals("y ~ x + (1 | a)"),
    "animals with slopes, crossed": lambda: _animals("y ~ x + (x | a) + (1 | s)"),
    "a variance of zero": lambda: fit(
        "y ~ x + (1 | s) + (x | d)", crossed_frame(), fixed={("d", "x"): 0.0}
    ),
    "a factor without variance": lambda: fit(
        "y ~ x + (1 | d) + (1 | s) + (1 | a)", crossed_frame(), fixed={("d", "Intercept"): 0.0}
    ),
    "no factor left": lambda: fit(
        "y ~ x + (1 | d) + (1 | s)",
        crossed_frame(),
        fixed={("d", "Intercept"): 0.0, ("s", "Intercept"): 0.0},
    ),
    "one factor left": lambda: fit(
        "y ~ x + (1 | d) + (x | s)", crossed_frame(), fixed={("d", "Intercept"): 0.0}
    ),
    "held variances": lambda: fit(
        "y ~ x + (x | s) + (1 | d)",
        crossed_frame(),
        fixed={("s", "Intercept"): 0.5, ("s", "Intercept", "x"): 0.1, ("d", "Intercept"): 0.3},
    ),
}


@functools.cache
def model(name: str) -> Fit:
    """A model of :data:`MODELS`, fitted."""
    return MODELS[name]()
