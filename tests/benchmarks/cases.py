"""What is timed: models, their data, and how the data are made."""

from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit import datasets


@attrs.frozen
class Case:
    """One model and the frame it is fitted to.

    Attributes
    ----------
    terms : tuple of (effects, group)
        ``(("x", "g"),)`` for ``(x | g)``.
    large : bool
        The case runs in fresh processes, which also gives its peak memory.
    """

    name: str
    title: str
    frame: Callable[[], pl.DataFrame]
    response: str = "y"
    fixed: str = "x"
    terms: tuple[tuple[str, str], ...] = (("x", "g"),)
    large: bool = False

    @property
    def formula(self) -> str:
        bars = [f"({effects} | {group})" for effects, group in self.terms]
        return f"{self.response} ~ {' + '.join([self.fixed, *bars])}"


def growth(
    groups: int,
    *,
    spread: bool = False,
    text: bool = False,
    unequal: bool = False,
    slope: bool = True,
) -> pl.DataFrame:
    """Simulated growth curves, ten rows a group on average.

    Parameters
    ----------
    spread : bool
        A covariate that differs in every row; by default each group has 0, 1, ..., 9.
    text : bool
        Labels of the groups as strings.
    unequal : bool
        From 5 to 15 rows a group, rows in random order.
    slope : bool
        Whether slopes differ between groups.
    """
    rng = np.random.default_rng(1)
    rows = rng.integers(5, 16, groups) if unequal else np.full(groups, 10)
    g = np.repeat(np.arange(groups), rows)
    within = np.arange(len(g)) - np.repeat(np.cumsum(rows) - rows, rows)
    x = rng.uniform(0.0, 9.0, len(g)) if spread else within.astype(np.float64)
    y = 25.0 * rng.standard_normal(len(g)) + 10.0 * x + 250.0
    intercepts = rng.standard_normal(groups)
    y += 24.5 * intercepts[g]
    if slope:
        y += (0.4 * intercepts + 5.9 * rng.standard_normal(groups))[g] * x
    frame = pl.DataFrame({"y": y, "x": x, "g": g})
    if text:
        frame = frame.with_columns("s" + pl.col("g").cast(pl.String))
    return frame.sample(fraction=1.0, shuffle=True, seed=1) if unequal else frame


def ratings(rows: int, users: int, items: int) -> pl.DataFrame:
    """Simulated ratings: every user and item has one, popular items and busy users have many."""
    rng = np.random.default_rng(1)

    def members(count: int, spread: float) -> NDArray[np.intp]:
        share = np.exp(spread * rng.standard_normal(count))
        others = rng.choice(count, rows - count, p=share / share.sum())
        return rng.permutation(np.concatenate([np.arange(count), others]))

    user, item = members(users, 1.0), members(items, 1.5)
    x = rng.standard_normal(rows)
    y = 3.6 + 0.1 * x + 0.9 * rng.standard_normal(rows)
    y += 0.4 * rng.standard_normal(users)[user] + 0.6 * rng.standard_normal(items)[item]
    return pl.DataFrame({"y": y, "x": x, "user": user, "item": item})


def nested(rows: int) -> pl.DataFrame:
    """Simulated growth, ten rows a pupil ``c``; classes ``b`` of five pupils, five in ``a``."""
    rng = np.random.default_rng(1)
    c = np.arange(rows) // 10
    b = c // 5
    a = b // 5
    x = rng.uniform(0.0, 9.0, rows)
    y = 250.0 + 10.0 * x + 25.0 * rng.standard_normal(rows)
    for codes, intercept, slope in ((a, 20.0, 3.0), (b, 15.0, 2.0), (c, 24.0, 5.0)):
        effects = rng.standard_normal((2, codes[-1] + 1))[:, codes]
        y += intercept * effects[0] + slope * effects[1] * x
    return pl.DataFrame({"y": y, "x": x, "a": a, "b": b, "c": c})


def _nested_case(rows: int) -> Case:
    return Case(
        f"nested_{rows}",
        f"{rows:,} rows, slopes at three nested levels".replace(",", " "),
        lambda: nested(rows),
        terms=(("x", "a"), ("x", "b"), ("x", "c")),
        large=rows > 100_000,
    )


_INSTEVAL = Path(__file__).parents[1] / "reference" / "InstEval.parquet"
_TEN_THOUSAND = "10 000 groups x 10, random slope"
_MILLION = "1 000 000 groups x 10"

CASES = (
    Case(
        "sleepstudy",
        "sleepstudy, random slope",
        lambda: datasets.load("sleepstudy"),
        "Reaction",
        "Days",
        (("Days", "Subject"),),
    ),
    Case(
        "dietox",
        "dietox, random slope",
        lambda: datasets.load("dietox"),
        "Weight",
        "Time",
        (("Time", "Pig"),),
    ),
    Case("balanced", f"{_TEN_THOUSAND}, same x in each group", lambda: growth(10_000)),
    Case(
        "balanced_text",
        f"{_TEN_THOUSAND}, same x in each group, text groups",
        lambda: growth(10_000, text=True),
    ),
    Case("spread", f"{_TEN_THOUSAND}, continuous x", lambda: growth(10_000, spread=True)),
    Case(
        "spread_text",
        f"{_TEN_THOUSAND}, continuous x, text groups",
        lambda: growth(10_000, spread=True, text=True),
    ),
    Case(
        "shuffled",
        "10 000 groups of 5 to 15, random slope, continuous x, rows in random order",
        lambda: growth(10_000, spread=True, unequal=True),
    ),
    Case(
        "million_balanced",
        f"{_MILLION}, random slope, same x in each group",
        lambda: growth(1_000_000),
        large=True,
    ),
    Case(
        "million_spread",
        f"{_MILLION}, random slope, continuous x",
        lambda: growth(1_000_000, spread=True),
        large=True,
    ),
    Case(
        "million_intercept",
        f"{_MILLION}, random intercept, continuous x",
        lambda: growth(1_000_000, spread=True, slope=False),
        terms=(("1", "g"),),
        large=True,
    ),
    Case(
        "insteval",
        "InstEval, three crossed intercepts",
        lambda: pl.read_parquet(_INSTEVAL).cast({"y": pl.Float64, "service": pl.Int64}),
        fixed="service",
        terms=(("1", "s"), ("1", "d"), ("1", "dept:service")),
    ),
    Case(
        "ratings",
        "1 000 000 ratings by 6 000 users of 3 700 items, crossed intercepts",
        lambda: ratings(1_000_000, 6_000, 3_700),
        terms=(("1", "user"), ("1", "item")),
        large=True,
    ),
    *(_nested_case(rows) for rows in (7_230, 72_300, 723_000)),
)
