"""Some sixty data sets of every awkward kind, drawn from a fixed seed, for fits that must not fail.

``BATTERY`` maps a name to a :class:`Recipe`; ``design_of(recipe)`` draws it.
"""

from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from lmmkit.design import build_design_from_arrays
from lmmkit.design.design import Design

Array = NDArray[np.float64]
Sizes = Callable[[np.random.Generator], NDArray[np.int64]]


@attrs.frozen(eq=False)
class Recipe:
    """Data from ``y = X beta + Z b + eps`` with ``b = sd * (unit-variance effects)``.

    ``sizes`` draws the groups' numbers of rows; ``correlation`` is that of any two random
    effects; ``collinear`` is the distance of the last covariate from the one before it; ``shift``
    and ``scale`` act on the covariates, ``unit`` on the response; ``separate`` gives each effect a
    term of its own.
    """

    sizes: Sizes
    q: int = 2
    sd: float = 1.0
    correlation: float = 0.0
    collinear: float | None = None
    shift: float = 0.0
    scale: float = 1.0
    unit: float = 1.0
    weighted: bool = False
    separate: bool = False
    seed: int = 0


def design_of(recipe: Recipe) -> Design:
    rng = np.random.default_rng([recipe.seed, recipe.q])
    sizes = recipe.sizes(rng)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    n, q = len(codes), recipe.q
    covariates = rng.normal(size=(n, max(q - 1, 1)))
    if recipe.collinear is not None and q > 2:
        covariates[:, -1] = covariates[:, -2] + recipe.collinear * covariates[:, -1]
    covariates = recipe.shift + recipe.scale * covariates
    X = np.column_stack([np.ones(n), covariates])
    Z = X[:, :q]
    unit_effects = X[:, :1] if q == 1 else np.column_stack([np.ones(n), _standardized(Z[:, 1:])])
    covariance = recipe.correlation + (1 - recipe.correlation) * np.eye(q)
    b = recipe.sd * rng.multivariate_normal(np.zeros(q), covariance, size=len(sizes))
    weights = rng.uniform(0.1, 10.0, size=n) if recipe.weighted else None
    noise = rng.normal(size=n) / (1.0 if weights is None else np.sqrt(weights))
    y = 3.0 + unit_effects.sum(axis=1) + (unit_effects * b[codes]).sum(axis=1) + noise
    terms = [("g", Z, codes)]
    if recipe.separate:
        terms = [("g", Z[:, [k]], codes) for k in range(q)]
    return build_design_from_arrays(recipe.unit * y, X, terms, weights=weights)


def _standardized(columns: Array) -> Array:
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0))


def equal(groups: int, rows: int) -> Sizes:
    return lambda rng: np.full(groups, rows)


def between(groups: int, low: int, high: int) -> Sizes:
    return lambda rng: rng.integers(low, high + 1, size=groups)


def one_giant(groups: int, giant: int) -> Sizes:
    return lambda rng: np.r_[giant, rng.integers(1, 4, size=groups - 1)]


def mostly_single(groups: int) -> Sizes:
    return lambda rng: np.where(rng.random(groups) < 0.7, 1, rng.integers(2, 8, size=groups))


def _recipes() -> Iterator[tuple[str, Recipe]]:
    layouts = {
        "few groups": between(4, 5, 9),
        "three groups": equal(3, 12),
        "many groups": between(400, 2, 6),
        "pairs": equal(60, 3),
        "one giant": one_giant(40, 500),
        "mostly single": mostly_single(120),
    }
    for name, sizes in layouts.items():
        for sd in (0.0, 0.05, 1.0, 30.0):
            yield f"{name}, sd {sd:g}", Recipe(sizes, sd=sd, seed=1)
    medium = between(25, 3, 12)
    for q in (1, 2, 3, 4, 5):
        for sd in (0.0, 0.5, 5.0):
            yield f"q {q}, sd {sd:g}", Recipe(medium, q=q, sd=sd, seed=2)
    for correlation in (0.99, 0.9999, 1.0):
        for q in (2, 3):
            recipe = Recipe(medium, q=q, correlation=correlation, seed=3)
            yield f"correlation {correlation:g}, q {q}", recipe
    for collinear in (1e-1, 1e-3, 1e-5):
        yield f"collinear {collinear:g}", Recipe(medium, q=3, collinear=collinear, seed=4)
    for shift, scale in ((2000.0, 5.0), (1e6, 1.0), (0.0, 1e-6), (0.0, 1e6), (-1e4, 1e3)):
        yield f"covariate {shift:g} + {scale:g} x", Recipe(medium, shift=shift, scale=scale, seed=5)
    for unit in (1e-8, 1e8):
        yield f"unit {unit:g}", Recipe(medium, unit=unit, seed=6)
    yield "ratio 1e4", Recipe(equal(30, 8), sd=1e4, seed=7)
    yield "ratio 1e6", Recipe(equal(30, 8), sd=1e6, seed=7)
    for q in (2, 4):
        yield f"weighted, q {q}", Recipe(medium, q=q, weighted=True, seed=8)
        yield f"separate, q {q}", Recipe(medium, q=q, separate=True, seed=9)
        yield f"separate, q {q}, sd 0", Recipe(medium, q=q, sd=0.0, separate=True, seed=9)


BATTERY: dict[str, Recipe] = dict(_recipes())
