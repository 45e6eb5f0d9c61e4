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
from lmmkit.records import FloatArray, IntArray

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
        _term("g", labels, columns[:, start : start + size])
        for start, size in zip(ends, sizes, strict=False)
    )
    return _with_response(rng, columns, terms, p, weighted=weighted, shifted=shifted)


def _several(
    factors: Sequence[Sequence[int]],
    terms: Sequence[tuple[int, int]],
    p: int = 2,
    *,
    seed: int = 0,
    weighted: bool = False,
    shifted: bool = False,
) -> Design:
    """Terms given as (factor, number of columns), the columns 1, x, and then noise."""
    rng = np.random.default_rng(seed)
    codes = [np.array(factor, dtype=np.int32) for factor in factors]
    n = len(codes[0])
    columns = np.column_stack([np.ones(n), rng.normal(size=(n, 5))])
    return _with_response(
        rng,
        columns,
        tuple(_term(f"g{at}", codes[at], columns[:, :size]) for at, size in terms),
        p,
        weighted=weighted,
        shifted=shifted,
    )


def _term(group: str, codes: IntArray, columns: FloatArray) -> RandomTerm:
    return RandomTerm(
        group=group,
        names=tuple(f"z{i}" for i in range(columns.shape[1])),
        Z=columns,
        codes=codes,
        # the last level has no rows
        levels=pl.Series(range(int(codes.max()) + 2)),
    )


def _with_response(
    rng: np.random.Generator,
    columns: FloatArray,
    terms: tuple[RandomTerm, ...],
    p: int,
    *,
    weighted: bool,
    shifted: bool,
) -> Design:
    n = len(columns)
    distinct = {term.group: term.codes for term in terms}
    effects = sum(rng.normal(size=codes.max() + 1)[codes] for codes in distinct.values())
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

# several factors, 24 rows each
WHOLE = [level for level in range(4) for _ in range(6)]
CYCLE = list(range(6)) * 4
SUBPLOT = [level for level in range(12) for _ in range(2)]
FIFTHS = [level % 5 for level in range(24)]
SCATTERED = [3, 0, 2, 3, 1, 2, 2, 0, 3, 1, 1, 2, 0, 3, 2, 4, 4, 1, 0, 0, 3, 4, 2, 5]
# rows 0 to 3 meet only one another, row 4 nobody
APART = (
    [0, 0, 1, 1, 2, *(3 + i % 4 for i in range(19))],
    [1, 0, 1, 0, 2, *(3 + i % 3 for i in range(19))],
)

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
    "crossed": lambda: _several([WHOLE, CYCLE], [(0, 1), (1, 1)]),
    "crossed, the small factor first": lambda: _several([WHOLE, CYCLE], [(1, 1), (0, 1)], 3),
    "crossed slopes, weights and offset": lambda: _several(
        [SCATTERED, FIFTHS], [(0, 2), (1, 2)], weighted=True, shifted=True
    ),
    "nested": lambda: _several([WHOLE, SUBPLOT], [(0, 1), (1, 1)]),
    "nested slope in nested slope": lambda: _several([WHOLE, SUBPLOT], [(1, 2), (0, 2)]),
    "nested and crossed": lambda: _several(
        [WHOLE, SUBPLOT, SCATTERED], [(0, 1), (1, 1), (2, 2)], weighted=True
    ),
    "three factors crossed": lambda: _several(
        [SCATTERED, FIFTHS, WHOLE], [(0, 1), (1, 2), (2, 1)], 1
    ),
    "parts that do not meet": lambda: _several(APART, [(0, 2), (1, 1)], 1),
    "four terms on two factors": lambda: _several(
        [SCATTERED, WHOLE], [(0, 1), (1, 2), (0, 2), (1, 1)], 1
    ),
    "four factors": lambda: _several(
        [SCATTERED, WHOLE, SUBPLOT, FIFTHS], [(0, 1), (1, 1), (2, 1), (3, 1)], weighted=True
    ),
    "one factor by two names": lambda: _several([WHOLE, [3 - w for w in WHOLE]], [(0, 1), (1, 2)]),
    "a level for each row": lambda: _several([list(range(24)), WHOLE], [(0, 1), (1, 1)]),
    "one level for all rows": lambda: _several([[0] * 24, SCATTERED], [(0, 1), (1, 2)]),
    "crossed, no fixed effect": lambda: _several([SCATTERED, WHOLE], [(0, 2), (1, 1)], 0),
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
