"""The reference fits by lme4 as typed records in lmmkit's words, and the tables they were made on.

``reference_cases()`` gives every case, ``reference_case("sleep_rs")`` one, ``dense_model(design)``
hands a design to the oracle. Arrays follow the order of lme4's own output; names are translated to
those that formulaic gives the same columns.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit import datasets
from lmmkit.design.design import Design
from tests.dense_oracle import DenseModel, DenseTerm

REFERENCE = Path(__file__).parent / "reference"


@attrs.frozen(eq=False)
class TermCovariance:
    """Covariance matrix of one random term: grouping factor, effects' names, ``psi (q, q)``."""

    group: str
    names: tuple[str, ...]
    psi: NDArray[np.float64]


@attrs.frozen(eq=False)
class Modes:
    """Conditional modes of one factor: ``values (m, q)`` and the first level's covariance."""

    group: str
    levels: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    first_covariance: NDArray[np.float64]


@attrs.frozen
class ProfileInterval:
    """A 95 % profile interval; an end that lme4 did not find is NaN.

    ``names`` has two effects for a correlation, none for sigma.
    """

    kind: Literal["sd", "cor", "sigma", "beta"]
    group: str | None
    names: tuple[str, ...]
    lower: float
    upper: float


@attrs.frozen(eq=False)
class ReferenceCase:
    """One fit by lme4; ``other`` holds lmerTest's figures as R wrote them, R's names included."""

    id: str
    table: str
    formula: str
    factors: tuple[str, ...]
    reml: bool
    n_obs: int
    n_params: int
    loglik: float
    aic: float
    bic: float
    names: tuple[str, ...]
    beta: NDArray[np.float64]
    std_error: NDArray[np.float64]
    beta_cov: NDArray[np.float64]
    sigma2: float
    theta: NDArray[np.float64]
    terms: tuple[TermCovariance, ...]
    singular: bool
    fitted_head: NDArray[np.float64]
    rss_conditional: float
    modes: Modes | None
    profile_intervals: tuple[ProfileInterval, ...]
    other: Mapping[str, Any]

    def frame(self) -> pl.DataFrame:
        """The table that the case was fitted to, its factors as text."""
        return reference_frame(self.table, self.factors)

    def __str__(self) -> str:
        return self.id


def reference_frame(table: str, factors: Iterable[str] = ()) -> pl.DataFrame:
    """A table by name, bundled or in ``tests/reference``; columns in ``factors`` become text."""
    if table in datasets.names():
        frame = datasets.load(table)
    else:
        frame = pl.read_csv(REFERENCE / f"{table}.csv")
    return frame.with_columns(pl.col(name).cast(pl.String) for name in factors)


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


@functools.cache
def reference_cases() -> tuple[ReferenceCase, ...]:
    """Every lme4 fit whose random terms share one grouping factor."""
    content = json.loads((REFERENCE / "single_factor.json").read_text())
    return tuple(_case(raw) for raw in content["cases"])


def reference_case(case_id: str) -> ReferenceCase:
    """One case by its id, ``"dietox_rs"``."""
    return {case.id: case for case in reference_cases()}[case_id]


def _case(raw: dict[str, Any]) -> ReferenceCase:
    frame = reference_frame(raw["data"], raw["factors"])
    return ReferenceCase(
        id=raw["id"],
        table=raw["data"],
        formula=python_formula(raw["formula"]),
        factors=tuple(raw["factors"]),
        reml=raw["reml"],
        n_obs=raw["nobs"],
        n_params=raw["npar"],
        loglik=raw["loglik"],
        aic=raw["aic"],
        bic=raw["bic"],
        names=tuple(python_name(name, frame) for name in raw["fixef"]),
        beta=np.array(list(raw["fixef"].values())),
        std_error=np.array(list(raw["se"].values())),
        beta_cov=np.atleast_2d(raw["vcov"]["values"]),
        sigma2=raw["sigma2"],
        theta=np.atleast_1d(raw["theta"]),
        terms=tuple(
            TermCovariance(
                group=re.sub(r"\.\d+$", "", group),
                names=_effects(term["names"], frame),
                psi=np.atleast_2d(term["values"]),
            )
            for group, term in raw["varcorr"].items()
        ),
        singular=raw["singular"],
        fitted_head=np.array(raw["fitted_head"]),
        rss_conditional=raw["rss_conditional"],
        modes=_modes(raw, frame),
        profile_intervals=_intervals(raw, frame),
        other={
            key: value
            for key, value in raw.items()
            if key.startswith(("satterthwaite", "kenward_roger", "anova"))
        },
    )


def _effects(names: str | list[str], frame: pl.DataFrame) -> tuple[str, ...]:
    listed = [names] if isinstance(names, str) else names
    full_rank = "(Intercept)" not in listed
    return tuple(python_name(name, frame, full_rank=full_rank) for name in listed)


def _modes(raw: dict[str, Any], frame: pl.DataFrame) -> Modes | None:
    if "ranef" not in raw:
        return None
    ((group, table),) = raw["ranef"].items()
    return Modes(
        group=group,
        levels=tuple(table["levels"]),
        names=_effects(table["names"], frame),
        values=np.array(table["values"]),
        first_covariance=np.atleast_2d(raw["ranef_condvar_first"][group]),
    )


def _intervals(raw: dict[str, Any], frame: pl.DataFrame) -> tuple[ProfileInterval, ...]:
    table = raw.get("profile_ci")
    if table is None:
        return ()
    return tuple(
        _interval(name, frame, *(np.nan if end is None else end for end in ends))
        for name, *ends in zip(table["names"], table["lower"], table["upper"], strict=True)
    )


def _interval(name: str, frame: pl.DataFrame, lower: float, upper: float) -> ProfileInterval:
    if name == "sigma":
        return ProfileInterval("sigma", None, (), lower, upper)
    if match := re.fullmatch(r"sd_(.+)\|(.+)", name):
        return ProfileInterval("sd", match[2], _effects(match[1], frame), lower, upper)
    if match := re.fullmatch(r"cor_(.+)\.(\(Intercept\))\|(.+)", name):
        names = _effects([match[2], match[1]], frame)
        return ProfileInterval("cor", match[3], names, lower, upper)
    return ProfileInterval("beta", None, (python_name(name, frame),), lower, upper)


def dense_model(design: Design) -> DenseModel:
    """The oracle's view of a design with one response."""
    return DenseModel(
        y=design.y,
        X=design.X,
        terms=tuple(DenseTerm(term.Z, term.codes) for term in design.terms),
        weights=design.weights,
        offset=0.0 if design.offset is None else design.offset,
    )
