"""The table of designs and parameter values on which every likelihood test runs.

One line in :data:`DESIGNS` or :data:`POINTS` enrols a case in all of them.
"""

from collections.abc import Callable, Sequence
from functools import cache

import attrs
import numpy as np
import polars as pl

from lmmkit.design import Design, RandomTerm, group
from lmmkit.likelihood import Objective, ml, reml
from lmmkit.moments import cross_products
from lmmkit.records import FloatArray

SIGMA2 = 0.7
CRITERIA = (ml, reml)


def _design(
    codes: Sequence[int],
    sizes: Sequence[int] = (2,),
    p: int = 2,
    *,
    seed: int = 0,
    balanced: bool = False,
    weighted: bool = False,
    shifted: bool = False,
) -> Design:
    """Rows with the given levels; columns of X and Z are 1, x, and then noise."""
    rng = np.random.default_rng(seed)
    labels = np.array(codes, dtype=np.int32)
    n, n_levels = len(labels), int(labels.max()) + 1
    columns = np.column_stack([np.ones(n), rng.normal(size=(n, 5))])
    if balanced:
        columns = columns[np.arange(n) % (n // n_levels)]
    ends = np.cumsum([0, *sizes])
    terms = tuple(
        RandomTerm(
            group="g",
            names=tuple(f"z{i}" for i in range(size)),
            Z=columns[:, start : start + size],
            codes=labels,
            # the last level has no rows
            levels=pl.Series(range(n_levels + 1)),
        )
        for start, size in zip(ends, sizes, strict=False)
    )
    effects = rng.normal(size=n_levels)[labels] if terms else 0.0
    return Design(
        y=columns[:, :p] @ rng.normal(size=p) + effects + rng.normal(size=n),
        X=columns[:, :p],
        x_names=tuple(f"x{i}" for i in range(p)),
        terms=terms,
        rows=np.arange(n, dtype=np.int32),
        weights=rng.uniform(0.3, 3.0, n) if weighted else None,
        offset=rng.normal(size=n) if shifted else None,
    )


BALANCED = [level for level in range(13) for _ in range(3)]
UNBALANCED = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6, 6, 7]
SHUFFLED = [3, 0, 2, 3, 1, 2, 2, 0, 3, 1, 1, 2, 0, 3, 2, 4, 4, 1, 0, 0, 3, 4, 2]

DESIGNS: dict[str, Callable[[], Design]] = {
    "balanced intercept": lambda: _design(BALANCED, (1,), 1, balanced=True),
    "balanced intercept, covariate": lambda: _design(BALANCED, (1,), 3),
    "balanced slope": lambda: _design(BALANCED, (2,), 2, balanced=True),
    "unbalanced slope": lambda: _design(UNBALANCED, (2,), 3),
    "shuffled rows": lambda: _design(SHUFFLED, (2,), 2),
    "weights and offset": lambda: _design(UNBALANCED, (2,), 2, weighted=True, shifted=True),
    "two terms on one factor": lambda: _design(SHUFFLED, (1, 1), 2),
    "terms of different size": lambda: _design(SHUFFLED, (2, 1), 2, weighted=True),
    "q = 3": lambda: _design(SHUFFLED, (3,), 1),
    "q = 4": lambda: _design(UNBALANCED, (4,), 2),
    "no fixed effect": lambda: _design(UNBALANCED, (2,), 0),
    "one row a group": lambda: _design(range(12), (1,), 2, weighted=True),
    "no random term": lambda: _design(SHUFFLED, (), 3, weighted=True),
}


@cache
def design(name: str) -> Design:
    return DESIGNS[name]()


@cache
def objective(name: str, *, restricted: bool) -> Objective:
    return CRITERIA[restricted](cross_products(group(design(name))))


def _interior(q: int, rng: np.random.Generator) -> FloatArray:
    return np.tril(rng.normal(size=(q, q)), -1) + np.diag(rng.uniform(0.3, 1.2, q))


def _perfectly_correlated(q: int, rng: np.random.Generator) -> FloatArray:
    """The last effect depends on the others; q = 1 leaves no variance."""
    factor = _interior(q, rng)
    factor[-1, -1] = 0.0
    return factor


def _first_variance_zero(q: int, rng: np.random.Generator) -> FloatArray:
    factor = _interior(q, rng)
    factor[0, 0] = 0.0
    return factor


def _no_variance(q: int, rng: np.random.Generator) -> FloatArray:
    return np.zeros((q, q))


POINTS: dict[str, Callable[[int, np.random.Generator], FloatArray]] = {
    "interior": _interior,
    "perfect correlation": _perfectly_correlated,
    "first variance zero": _first_variance_zero,
    "no variance": _no_variance,
}


@attrs.frozen(eq=False)
class Place:
    """Relative factors, one a term, and fixed effects: the place where a test evaluates."""

    factors: tuple[FloatArray, ...]
    beta: FloatArray
    sigma2: float = SIGMA2


def place(design: Design, point: str, seed: int = 1) -> Place:
    rng = np.random.default_rng(seed)
    factors = tuple(POINTS[point](term.q, rng) for term in design.terms)
    return Place(factors, rng.normal(size=design.X.shape[1:]))
