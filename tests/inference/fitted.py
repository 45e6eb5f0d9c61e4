"""Fits that several tests of the inference functions share."""

import functools

import numpy as np
import polars as pl

from lmmkit.fit import Fit, fit
from lmmkit.inference import random_effects
from lmmkit.records import FloatArray
from tests.helpers import reference_case


@functools.cache
def fitted(case_id: str) -> Fit:
    """Our fit of a reference case."""
    case = reference_case(case_id)
    return fit(case.formula, case.frame(), reml=case.reml)


@functools.cache
def simulated(seed: int, slope_sd: float, n_groups: int = 12, n: int = 5) -> pl.DataFrame:
    """Columns y, x, w (positive weights) and g, twelve groups of unequal size."""
    draw = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), n + np.arange(n_groups) % 3)
    x = draw.normal(size=len(g))
    b = draw.normal(size=(n_groups, 2)) * (1.0, slope_sd)
    y = 2.0 + 0.5 * x + b[g, 0] + b[g, 1] * x + draw.normal(size=len(g))
    return pl.DataFrame(
        {"y": y, "x": x, "w": draw.uniform(0.5, 2.0, len(g)), "g": [f"g{i:02d}" for i in g]}
    )


def modes_by_name(
    result: Fit, group: str
) -> tuple[list[str], dict[str, FloatArray], dict[str, FloatArray]]:
    """Levels of one factor in order of appearance, and estimates and standard errors by effect."""
    frame = random_effects(result).filter(group=group)
    frame = frame.with_columns(pl.col("level").cast(pl.String))
    levels = frame["level"].unique(maintain_order=True).to_list()
    parts = {str(name): part for (name,), part in frame.partition_by("term", as_dict=True).items()}
    return (
        levels,
        {name: part["estimate"].to_numpy() for name, part in parts.items()},
        {name: part["std_error"].to_numpy() for name, part in parts.items()},
    )
