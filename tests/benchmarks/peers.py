"""What is timed against what: lmmkit, the peers that are installed, and one pass over the rows."""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import attrs
import numpy as np
import polars as pl

import lmmkit
from tests.benchmarks.cases import Case


@attrs.frozen
class Engine:
    """A way to fit a case by restricted maximum likelihood.

    Attributes
    ----------
    prepare : callable (frame) -> data
        The frame in the form that the engine takes fastest; not timed.
    fit : callable (case, data) -> result
    loglik : callable (result) -> float
    most_groups : int or None
        Cases with more are left out: they would take hours.
    most_terms : int or None
        Cases with more random terms are left out: the engine cannot fit them.
    """

    name: str
    version: str
    prepare: Callable[[pl.DataFrame], Any]
    fit: Callable[[Case, Any], Any]
    loglik: Callable[[Any], float]
    most_groups: int | None = None
    most_terms: int | None = None

    def lacks(self, case: Case, frame: pl.DataFrame) -> str:
        """Why the engine does not run on a case; empty where it does."""
        if self.most_terms is not None and len(case.terms) > self.most_terms:
            return "cannot fit several random terms"
        groups = max(frame[name].n_unique() for _, group in case.terms for name in group.split(":"))
        if self.most_groups is not None and groups > self.most_groups:
            return f"left out above {self.most_groups} groups"
        return ""


def _lmmkit() -> Engine:
    return Engine(
        name="lmmkit",
        version=metadata.version("lmmkit") if _installed("lmmkit") else "checkout",
        prepare=lambda frame: frame,
        fit=lambda case, frame: lmmkit.fit(case.formula, frame),
        loglik=lambda result: float(result.loglik),
    )


def _mixedlm() -> Engine:
    import mixedlm

    return Engine(
        name="mixedlm",
        version=metadata.version("mixedlm"),
        prepare=pl.DataFrame.to_pandas,
        fit=lambda case, frame: mixedlm.lmer(case.formula, frame),
        loglik=lambda result: float(result.logLik()),
    )


def _mixedlm_rs() -> Engine:
    import mixedlm_rs

    return Engine(
        name="mixedlm-rs",
        version=metadata.version("mixedlm-rs"),
        prepare=pl.DataFrame.to_pandas,
        fit=lambda case, frame: _statsmodels_call(mixedlm_rs.mixedlm, case, frame),
        loglik=lambda result: float(result.llf),
        most_terms=1,
    )


def _statsmodels() -> Engine:
    from statsmodels.formula.api import mixedlm

    return Engine(
        name="statsmodels",
        version=metadata.version("statsmodels"),
        prepare=pl.DataFrame.to_pandas,
        fit=lambda case, frame: _statsmodels_call(mixedlm, case, frame),
        loglik=lambda result: float(result.llf),
        most_groups=10_000,
        most_terms=1,
    )


def _one_pass() -> Engine:
    return Engine(
        name="one pass",
        version=np.__version__,
        prepare=lambda frame: frame,
        fit=_sums_of_products,
        loglik=lambda result: float("nan"),
    )


def _statsmodels_call(mixedlm: Callable[..., Any], case: Case, frame: Any) -> Any:
    ((effects, group),) = case.terms
    model = mixedlm(
        f"{case.response} ~ {case.fixed}", frame, groups=group, re_formula=f"~{effects}"
    )
    return model.fit(reml=True)


def _sums_of_products(case: Case, frame: pl.DataFrame) -> tuple[float, float, float]:
    """The least that any fit must do with the rows: ``y'y``, ``x'y`` and ``x'x``."""
    y, x = frame[case.response].to_numpy(), frame[case.fixed].to_numpy()
    return float(y @ y), float(x @ y), float(x @ x)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


ENGINES: dict[str, Callable[[], Engine]] = {
    "lmmkit": _lmmkit,
    "mixedlm": _mixedlm,
    "mixedlm-rs": _mixedlm_rs,
    "statsmodels": _statsmodels,
    "one pass": _one_pass,
}
"""Each loads its package, and raises ImportError where that is not installed."""
