"""Predict the mean of the response, for the rows of a fit or for new ones."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.rows import DesignRows, design_rows
from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, check_level, normal_quantile
from lmmkit.inference.levels import LevelTerms, level_terms, mean, standard_columns
from lmmkit.records import FloatArray, IntArray


def predict(
    fit: Fit,
    frame: Any = None,
    *,
    kind: str = "conditional",
    new_levels: str = "population",
    offset: Any = None,
    std_error: bool = False,
    level: float = 0.95,
) -> pl.DataFrame:
    """Predict ``offset + X beta + Z b``, or ``offset + X beta`` alone.

    Parameters
    ----------
    fit : Fit
    frame : polars.DataFrame, optional
        New rows, which need no response; by default the rows of the fit.
    kind : {"conditional", "population"}
        With the conditional modes of the random effects, or without random effects.
    new_levels : {"population", "raise"}
        What to do with a level that was not in the fit: its random effects are 0, with their prior
        variance Psi; or raise.
    offset : str or array (rows of frame), optional
        For new rows; by default the column that was the offset of the fit.
    std_error : bool
        Add ``std_error``, the root of ``Var(x'beta_hat + z'(b_hat - b))`` with the uncertainty of
        beta and of b together, and ``conf_low``, ``conf_high``. Psi and sigma2 are taken as known.
    level : float
        Confidence level of the interval.

    Returns
    -------
    polars.DataFrame
        One row a row of ``frame``: ``row`` (its position), ``estimate``, and the columns that
        ``std_error`` adds; null where a predictor is missing.

    Raises
    ------
    ArgumentError
        For an argument that is not one of its legal values.
    DataError
        When the frame does not fit the model, or has a new level with ``new_levels="raise"``.
    """
    check_fit(fit)
    if kind not in ("conditional", "population"):
        raise ArgumentError(f"predict: expected kind 'conditional' or 'population', got {kind!r}")
    if new_levels not in ("population", "raise"):
        raise ArgumentError(
            f"predict: expected new_levels 'population' or 'raise', got {new_levels!r}"
        )
    check_level(level)
    if frame is None and offset is not None:
        raise ArgumentError("predict: offset= is for new rows; the rows of the fit have theirs")
    conditional = kind == "conditional" and bool(fit.design.terms)
    if frame is None:
        rows = _fitted_rows(fit)
    else:
        rows = design_rows(fit.design, frame, random=conditional, offset=offset)
    estimate = mean(fit, rows.X, rows.offset)
    deviation = None
    if conditional:
        if new_levels == "raise":
            _check_levels(fit, rows)
        levels = level_terms(fit)
        x, z = standard_columns(fit, rows.X, rows.Z)
        place = _positions(levels, rows.codes[0])
        known = place >= 0
        estimate = estimate + np.where(known, (z * levels.modes[place]).sum(axis=1), 0.0)
        if std_error:
            deviation = _conditional_deviation(fit, levels, x, z, place)
    elif std_error:
        x = rows.X @ fit.objective.moments.basis.x
        deviation = np.sqrt(_quadratic(fit, x, level_terms(fit).C))
    table = pl.DataFrame({"row": rows.rows, "estimate": estimate})
    if deviation is not None:
        width = normal_quantile(level) * deviation
        table = table.with_columns(
            std_error=deviation, conf_low=estimate - width, conf_high=estimate + width
        )
    if frame is None:
        return table
    every = pl.DataFrame({"row": np.arange(rows.n_rows, dtype=np.int32)})
    return every.join(table, on="row", how="left", maintain_order="left")


def _fitted_rows(fit: Fit) -> DesignRows:
    design = fit.design
    return DesignRows(
        n_rows=design.n_obs,
        X=design.X,
        Z=tuple(term.Z for term in design.terms),
        codes=tuple(term.codes for term in design.terms),
        rows=design.rows,
        offset=design.offset,
    )


def _positions(levels: LevelTerms, codes: IntArray) -> IntArray:
    place: IntArray = np.where(codes >= 0, levels.position[codes], -1)
    return place


def _check_levels(fit: Fit, rows: DesignRows) -> None:
    for term, codes in zip(fit.design.terms, rows.codes, strict=True):
        new = np.flatnonzero(codes < 0)
        if len(new):
            raise DataError(
                f"predict: {len(new)} row(s) have a level of {term.group!r} that was not in the "
                f"fit, the first at row {int(rows.rows[new[0]])}; new_levels='population' predicts "
                "them without random effects"
            )


def _quadratic(fit: Fit, a: FloatArray, C: FloatArray) -> FloatArray:
    """``sigma2 a'C^-1 a`` of each row."""
    root = np.linalg.solve(np.linalg.cholesky(C), a.T)
    total: FloatArray = float(fit.natural.sigma2) * (root**2).sum(axis=0)
    return total


def _conditional_deviation(
    fit: Fit, levels: LevelTerms, x: FloatArray, z: FloatArray, place: IntArray
) -> FloatArray:
    known = (place >= 0).astype(np.float64)
    prior = z @ levels.D
    explained = known * np.einsum("na,nab,nb->n", prior, levels.W[place], prior)
    a = x - known[:, None] * np.einsum("nap,na->np", levels.B[place], prior)
    left = np.maximum((prior * z).sum(axis=1) - explained, 0.0)
    variance = _quadratic(fit, a, levels.C) + float(fit.natural.sigma2) * left
    return np.asarray(np.sqrt(variance))
