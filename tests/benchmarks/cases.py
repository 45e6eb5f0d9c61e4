"""What is timed: models, their data, and how the data are made."""

from collections.abc import Callable

import attrs
import numpy as np
import polars as pl

from lmmkit import datasets


@attrs.frozen
class Case:
    """One model, ``response ~ fixed + (random | group)``, and the frame it is fitted to.

    ``large`` cases run in fresh processes, which also gives their peak memory.
    """

    name: str
    title: str
    frame: Callable[[], pl.DataFrame]
    response: str = "y"
    fixed: str = "x"
    random: str = "x"
    group: str = "g"
    large: bool = False

    @property
    def formula(self) -> str:
        return f"{self.response} ~ {self.fixed} + ({self.random} | {self.group})"


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


_TEN_THOUSAND = "10 000 groups x 10, random slope"
_MILLION = "1 000 000 groups x 10"

CASES = (
    Case(
        "sleepstudy",
        "sleepstudy, random slope",
        lambda: datasets.load("sleepstudy"),
        "Reaction",
        "Days",
        "Days",
        "Subject",
    ),
    Case(
        "dietox",
        "dietox, random slope",
        lambda: datasets.load("dietox"),
        "Weight",
        "Time",
        "Time",
        "Pig",
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
        random="1",
        large=True,
    ),
)
