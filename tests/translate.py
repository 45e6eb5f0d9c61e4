"""R's formulas and names in lmmkit's words."""

import re
from collections.abc import Sequence

import polars as pl

from lmmkit.formula import parse_formula


def python_formula(formula: str) -> str:
    """R's formula with formulaic's power: ``I(Days^2)`` becomes ``I(Days**2)``."""
    return formula.replace("^", "**")


def python_name(name: str, frame: pl.DataFrame, *, full_rank: bool = False) -> str:
    """Formulaic's name of the column that R calls ``name``.

    ``CuCu035`` becomes ``Cu[T.Cu035]``, or ``Cu[Cu035]`` when ``full_rank`` says that the factor
    is coded without a reference level; ``I(Days^2)`` becomes ``I(Days ** 2)``.
    """
    return ":".join(_python_part(part, frame, full_rank) for part in name.split(":"))


def _python_part(part: str, frame: pl.DataFrame, full_rank: bool) -> str:
    if part == "(Intercept)":
        return "Intercept"
    for column in frame.columns:
        level = part.removeprefix(column)
        if frame[column].dtype == pl.String and level != part and level in frame[column]:
            return f"{column}[{level}]" if full_rank else f"{column}[T.{level}]"
    return re.sub(r"\s*\^\s*", " ** ", part)


def effect_names(names: str | list[str], frame: pl.DataFrame) -> tuple[str, ...]:
    """The names of one random term's effects."""
    listed = [names] if isinstance(names, str) else names
    full_rank = "(Intercept)" not in listed
    return tuple(python_name(name, frame, full_rank=full_rank) for name in listed)


def group_name(group: str, formula: str) -> str:
    """Our name of lme4's grouping factor: of ``(1 | batch/cask)``, ``cask:batch`` is
    ``batch:cask``; ``Subject.1`` is a second term on ``Subject``.
    """
    parts = sorted(re.sub(r"\.\d+$", "", group).split(":"))
    bars = parse_formula(python_formula(formula)).random
    (factors,) = {bar.factors for bar in bars if sorted(bar.factors) == parts}
    return ":".join(factors)


def level_labels(group: str, levels: Sequence[str], formula: str) -> tuple[str, ...]:
    """Our labels of the levels of lme4's ``group``: of ``cask:batch``, ``a:A`` is ``A:a``."""
    if group_name(group, formula) == group:
        return tuple(levels)
    return tuple(":".join(reversed(level.split(":"))) for level in levels)
