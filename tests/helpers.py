"""The reference fits by lme4 as typed records in lmmkit's words, and the tables they were made on.

``reference_cases()`` gives every case, ``reference_case("sleep_rs")`` one, ``case_params()`` those
that a test runs on, ``dense_model(design)`` hands a design to the oracle. Random terms follow the
order of lme4's own output; names of columns are translated to those that formulaic gives them, and
``cask:batch`` with its levels ``a:A`` to the ``batch:cask`` of the formula.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lmmkit import datasets
from lmmkit.design.design import Design, RandomTerm
from tests.dense_oracle import DenseModel, DenseTerm
from tests.translate import effect_names, group_name, level_labels, python_formula, python_name

REFERENCE = Path(__file__).parent / "reference"
_MANY_ROWS = 10_000


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
    modes: tuple[Modes, ...]
    profile_intervals: tuple[ProfileInterval, ...]
    other: Mapping[str, Any]

    @property
    def large(self) -> bool:
        """Whether the case has so many rows that only slow tests fit it."""
        return self.n_obs > _MANY_ROWS

    def frame(self) -> pl.DataFrame:
        """The table that the case was fitted to, its factors as text."""
        return reference_frame(self.table, self.factors)

    def term(self, group: str, names: tuple[str, ...]) -> TermCovariance:
        """The covariance of the term with these effects of ``group``."""
        (found,) = (t for t in self.terms if (t.group, t.names) == (group, names))
        return found

    def __str__(self) -> str:
        return self.id


def reference_frame(table: str, factors: Iterable[str] = ()) -> pl.DataFrame:
    """A table by name, bundled or in ``tests/reference``; columns in ``factors`` become text."""
    if table in datasets.names():
        frame = datasets.load(table)
    elif (packed := REFERENCE / f"{table}.parquet").exists():
        frame = pl.read_parquet(packed).with_columns(pl.col(pl.Enum).cast(pl.String))
    else:
        frame = pl.read_csv(REFERENCE / f"{table}.csv")
    return frame.with_columns(pl.col(name).cast(pl.String) for name in factors)


@functools.cache
def reference_cases() -> tuple[ReferenceCase, ...]:
    """Every fit by lme4: those whose random terms share one grouping factor, then the others."""
    files = ("single_factor", "several_factors")
    contents = [json.loads((REFERENCE / f"{name}.json").read_text()) for name in files]
    return tuple(_case(raw) for content in contents for raw in content["cases"])


def case_params(
    wanted: Callable[[ReferenceCase], object] = lambda case: True,
) -> list[Any]:
    """Arguments for ``parametrize``: the cases that are ``wanted``, large ones marked slow."""
    return [
        pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.large else [])
        for case in reference_cases()
        if wanted(case)
    ]


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
                group=group_name(group, raw["formula"]),
                names=effect_names(term["names"], frame),
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


def _modes(raw: dict[str, Any], frame: pl.DataFrame) -> tuple[Modes, ...]:
    return tuple(
        Modes(
            group=group_name(group, raw["formula"]),
            levels=level_labels(group, table["levels"], raw["formula"]),
            names=effect_names(table["names"], frame),
            values=np.array(table["values"]),
            first_covariance=np.atleast_2d(raw["ranef_condvar_first"][group]),
        )
        for group, table in raw.get("ranef", {}).items()
    )


def _intervals(raw: dict[str, Any], frame: pl.DataFrame) -> tuple[ProfileInterval, ...]:
    table = raw.get("profile_ci")
    if table is None:
        return ()
    return tuple(
        _interval(name, raw, frame, *(np.nan if end is None else end for end in ends))
        for name, *ends in zip(table["names"], table["lower"], table["upper"], strict=True)
    )


def _interval(
    name: str, raw: dict[str, Any], frame: pl.DataFrame, lower: float, upper: float
) -> ProfileInterval:
    if name == "sigma":
        return ProfileInterval("sigma", None, (), lower, upper)
    if match := re.fullmatch(r"sd_(.+)\|(.+)", name):
        group = group_name(match[2], raw["formula"])
        return ProfileInterval("sd", group, effect_names(match[1], frame), lower, upper)
    if match := re.fullmatch(r"cor_(.+)\.(\(Intercept\))\|(.+)", name):
        names = effect_names([match[2], match[1]], frame)
        return ProfileInterval("cor", group_name(match[3], raw["formula"]), names, lower, upper)
    return ProfileInterval("beta", None, (python_name(name, frame),), lower, upper)


def dense_model(design: Design) -> DenseModel:
    """The oracle's view of a design with one response."""
    return DenseModel(
        y=design.y,
        X=design.X,
        terms=tuple(_dense_term(term) for term in design.terms),
        weights=design.weights,
        offset=0.0 if design.offset is None else design.offset,
    )


def _dense_term(term: RandomTerm) -> DenseTerm:
    if term.loads is None and term.relation is None:
        return DenseTerm(term.Z, term.codes)
    n, m = len(term.Z), len(term.levels)
    loadings = np.zeros((n, m))
    loads = np.ones((n, 1)) if term.loads is None else term.loads
    np.add.at(loadings, (np.arange(n)[:, None], term.codes.reshape(loads.shape)), loads)
    root = np.eye(m) if term.relation is None else term.relation.root
    return DenseTerm(term.Z, term.codes, loadings, root @ root.T)
