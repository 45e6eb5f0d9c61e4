"""Hypothesis strategies for designs of several factors: crossed, nested, in parts, by chance."""

from collections.abc import Callable

import numpy as np
import polars as pl
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmmkit.design import Design, LevelCovariance, RandomTerm, level_covariance
from lmmkit.records import evolve

Codes = NDArray[np.int32]
Pattern = Callable[[np.random.Generator, int, Codes], NDArray[np.integer]]

# A new factor from a generator, the number of rows and an earlier factor. The first six are
# patterns of data from which variances can be estimated.
PATTERNS: dict[str, Pattern] = {
    "crossed": lambda rng, n, before: rng.integers(0, rng.integers(3, 7), n),
    "balanced": lambda rng, n, before: np.arange(n) % 4,
    "finer": lambda rng, n, before: 3 * before + rng.integers(0, 3, n),
    "coarser": lambda rng, n, before: before // 2,
    "nearly finer": lambda rng, n, before: np.where(
        rng.uniform(size=n) < 0.2, 0, 3 * before + rng.integers(0, 3, n)
    ),
    "sparse": lambda rng, n, before: rng.integers(0, max(n // 3, 1), n),
    "a level a row": lambda rng, n, before: np.arange(n),
    "one level": lambda rng, n, before: np.zeros(n, dtype=np.int32),
    "the same again": lambda rng, n, before: before.max() - before,
}
ESTIMABLE = tuple(PATTERNS)[:6]


def compact(codes: NDArray[np.integer]) -> Codes:
    """The same levels, numbered 0, 1, 2, ... without gaps."""
    found: Codes = np.unique(codes, return_inverse=True)[1].astype(np.int32)
    return found


def same_partition(a: Codes, b: Codes) -> bool:
    """Whether two factors differ in the names of their levels alone."""
    both = len(np.unique(np.column_stack([a, b]), axis=0))
    return bool(both == len(np.unique(a)) == len(np.unique(b)))


@st.composite
def factors(draw: st.DrawFn, n: int, most: int, patterns: tuple[str, ...]) -> tuple[Codes, ...]:
    """Up to ``most`` factors; perhaps the rows fall in two parts that share no level."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    parts = rng.integers(0, 2, n) if draw(st.booleans()) else np.zeros(n, dtype=np.int32)
    made = [rng.integers(0, draw(st.integers(3, 6)), n).astype(np.int32)]
    for _ in range(draw(st.integers(1, most - 1))):
        before = draw(st.sampled_from(made))
        new = compact(PATTERNS[draw(st.sampled_from(patterns))](rng, n, before))
        if "the same again" in patterns or not any(same_partition(new, old) for old in made):
            made.append(new)
    split = [compact(codes + parts * (codes.max() + 1)) for codes in made]
    return tuple(rng.permutation(codes.max() + 1).astype(np.int32)[codes] for codes in split)


@st.composite
def crossed_designs(
    draw: st.DrawFn,
    *,
    rows: tuple[int, int] = (12, 32),
    most_factors: int = 4,
    most_terms: int = 4,
    most_effects: int = 2,
    patterns: tuple[str, ...] = tuple(PATTERNS),
) -> Design:
    """Two terms or more over two factors or more, several terms on one factor among them.

    Prior weights, an offset, and a level without rows now and then.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = draw(st.integers(*rows))
    codes = draw(factors(n, most_factors, patterns))
    on = list(range(len(codes)))[:most_terms]
    on += draw(st.lists(st.sampled_from(on), max_size=most_terms - len(on)))
    on = draw(st.permutations(on))
    columns = np.column_stack([np.ones(n), rng.normal(size=(n, 5))])
    p = draw(st.integers(0, 3))
    terms, start = [], dict.fromkeys(on, 0)
    empty = draw(st.booleans())
    for at in on:
        q = draw(st.integers(1, most_effects))
        held = slice(start[at], start[at] + q)  # terms on one factor have columns of their own
        start[at] = (start[at] + q) % 4
        terms.append(
            RandomTerm(
                f"g{at}",
                tuple(f"z{i}" for i in range(held.start, held.stop)),
                columns[:, held],
                codes[at],
                pl.Series(range(int(codes[at].max()) + 1 + empty)),
            )
        )
    y = columns[:, :p] @ rng.normal(size=p) + rng.normal(size=n)
    for term in terms:
        effects = rng.normal(size=(len(term.levels), term.q)) * rng.uniform(0.3, 2, term.q)
        y = y + (term.Z * effects[term.codes]).sum(axis=1)
    return Design(
        y=y,
        X=columns[:, :p],
        x_names=tuple(f"x{i}" for i in range(p)),
        terms=tuple(terms),
        rows=np.arange(n, dtype=np.int32),
        weights=rng.uniform(0.5, 2, n) if draw(st.booleans()) else None,
        offset=rng.normal(size=n) if draw(st.booleans()) else None,
    )


@st.composite
def tied_designs(draw: st.DrawFn) -> Design:
    """As :func:`crossed_designs`, with relations and multiple memberships of some factors."""
    design = draw(crossed_designs(rows=(12, 24), most_factors=2, most_terms=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    changed = {}
    for k, name in enumerate(dict.fromkeys(term.group for term in design.terms)):
        first = next(term for term in design.terms if term.group == name)
        kind = draw(st.sampled_from(["relation", "memberships", "both", "plain"][: 4 - (k == 0)]))
        term = first
        if kind in ("relation", "both"):
            term = evolve(term, relation=_relation(rng, term, draw(st.booleans())))
        if kind in ("memberships", "both"):
            codes, loads = _memberships(rng, term, draw(st.integers(1, 3)))
            term = evolve(term, codes=codes, loads=loads)
        changed[name] = {"codes": term.codes, "loads": term.loads, "relation": term.relation}
    return evolve(design, terms=tuple(evolve(t, **changed[t.group]) for t in design.terms))


def _relation(rng: np.random.Generator, term: RandomTerm, apart: bool) -> LevelCovariance:
    """A covariance between levels, singular now and then, perhaps zero between two parts."""
    m = len(term.levels)
    root = rng.normal(size=(m, int(rng.integers(1, m + 1))))
    if apart:
        root[: m // 2, root.shape[1] // 2 :] = 0.0
        root[m // 2 :, : root.shape[1] // 2] = 0.0
    root[np.arange(m), np.arange(m) % root.shape[1]] += 0.1
    return level_covariance(root @ root.T, term.levels)


def _memberships(
    rng: np.random.Generator, term: RandomTerm, more: int
) -> tuple[Codes, NDArray[np.float64]]:
    """Further memberships of each row, of any sign; a load of zero pads."""
    n, m = len(term.codes), len(term.levels)
    codes = np.column_stack([term.codes, rng.integers(0, m, (n, more))])
    loads = rng.normal(size=codes.shape) * rng.integers(0, 2, codes.shape)
    loads[:, 0] = rng.uniform(0.2, 1.0, n)
    return np.where(loads == 0.0, codes[:, :1], codes).astype(np.int32), loads
