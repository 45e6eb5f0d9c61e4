"""Predict the mean of the response, for the rows of a fit or for new ones."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.rows import DesignRows, design_rows
from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, check_level, normal_quantile
from lmmkit.inference.levels import Levels, levels_of, mean, modes_part, relative_covariance
from lmmkit.inference.loadings import Loadings, fitted_rows, new_loadings, standard_rows
from lmmkit.inference.neighbours import neighbours, residual_variances
from lmmkit.inference.uncertainty import explained, row_variances
from lmmkit.records import FloatArray


def predict(
    fit: Fit,
    frame: Any = None,
    *,
    kind: str = "conditional",
    new_levels: str = "population",
    offset: Any = None,
    std_error: bool = False,
    observation: bool = False,
    level: float = 0.95,
) -> pl.DataFrame:
    """Predict ``offset + X beta + Z b``, or ``offset + X beta`` alone.

    Parameters
    ----------
    fit : Fit
    frame : polars.DataFrame, optional
        New rows, which need no response; by default the rows of the fit.
    kind : {"conditional", "population", "correlated"}
        With the conditional modes of the random effects; without random effects; or, for new rows
        of a fit with correlated residuals, with the modes and what the residuals of the rows of
        their group say of them (kriging, or a forecast).
    new_levels : {"population", "raise"}
        What to do with a level that was not in the fit: its random effects are 0, with their prior
        variance Psi, independent of all others; those of the row's other grouping factors are as
        ever. Each new membership of a row counts as a level of its own. Or raise.
    offset : str or array (rows of frame), optional
        For new rows; by default the column that was the offset of the fit.
    std_error : bool
        Add ``std_error``, the root of ``Var(x'beta_hat + z'(b_hat - b))`` with the uncertainty of
        beta and of b together, and ``conf_low``, ``conf_high``. Psi, sigma2 and the residual
        structure are taken as known. With ``kind="correlated"`` it is that of the error of the new
        observation itself.
    observation : bool
        Add the variance of a residual (of weight 1 in a new row), for the error of a new
        observation instead of its mean. A new observation has a group: of kind ``population`` only
        without random effects; with correlated residuals, of kind ``correlated``.
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
    if kind not in ("conditional", "population", "correlated"):
        raise ArgumentError(
            f"predict: expected kind 'conditional', 'population' or 'correlated', got {kind!r}"
        )
    if kind == "correlated" and frame is None:
        raise ArgumentError(
            "predict: kind 'correlated' is for new rows; those of the fit would be predicted as "
            "they were"
        )
    if observation:
        _check_observation(fit, kind)
    if new_levels not in ("population", "raise"):
        raise ArgumentError(
            f"predict: expected new_levels 'population' or 'raise', got {new_levels!r}"
        )
    check_level(level)
    if frame is None and offset is not None:
        raise ArgumentError("predict: offset= is for new rows; the rows of the fit have theirs")
    conditional = kind != "population" and bool(fit.design.terms)
    if frame is None:
        rows = fitted_rows(fit.design)
    else:
        rows = design_rows(fit.design, frame, random=conditional, offset=offset)
    levels, X = None, rows.X
    loadings: tuple[Loadings, ...] = ()
    noise: FloatArray = np.zeros(len(X))
    estimate = mean(fit, X, rows.offset)
    if conditional:
        if new_levels == "raise":
            _check_levels(fit, rows)
        levels = levels_of(fit)
        loadings = new_loadings(fit.design, rows)
        estimate = estimate + modes_part(levels, standard_rows(fit, loadings))
    if kind == "correlated":
        own = neighbours(fit, frame, rows, estimate)
        X, loadings, noise = own.X, own.loadings, own.variance
        estimate = mean(fit, X, rows.offset) + own.known
        if levels is not None:
            estimate = estimate + modes_part(levels, standard_rows(fit, loadings))
    elif observation:
        noise = residual_variances(fit, frame, rows, estimate)
    table = pl.DataFrame({"row": rows.rows, "estimate": estimate})
    if std_error:
        deviation = _deviation(fit, levels, X, standard_rows(fit, loadings), noise)
        width = normal_quantile(level) * deviation
        table = table.with_columns(
            std_error=deviation, conf_low=estimate - width, conf_high=estimate + width
        )
    if frame is None:
        return table
    every = pl.DataFrame({"row": np.arange(rows.n_rows, dtype=np.int32)})
    return every.join(table, on="row", how="left", maintain_order="left")


def _check_levels(fit: Fit, rows: DesignRows) -> None:
    for term, codes in zip(fit.design.terms, rows.codes, strict=True):
        new = np.flatnonzero((codes < 0).any(axis=1) if codes.ndim == 2 else codes < 0)
        if len(new):
            raise DataError(
                f"predict: {len(new)} row(s) have a level of {term.group!r} that was not in the "
                f"fit, the first at row {int(rows.rows[new[0]])}; new_levels='population' predicts "
                "the effects of that factor as zero"
            )


def _quadratic(a: FloatArray, C: FloatArray) -> FloatArray:
    """``a'C^-1 a`` of each row."""
    root = np.linalg.solve(np.linalg.cholesky(C), a.T)
    total: FloatArray = (root**2).sum(axis=0)
    return total


def _deviation(
    fit: Fit,
    levels: Levels | None,
    X: FloatArray,
    loadings: tuple[Loadings, ...],
    noise: FloatArray,
) -> FloatArray:
    """The root of ``sigma2 (g'P g + a'C^-1 a + noise)``, see :mod:`lmmkit.inference.levels`."""
    moments = fit.objective.moments
    x = X @ moments.basis.x
    if levels is None:
        C = fit.objective.locate(relative_covariance(fit)).point.C
        variance = _quadratic(x, C)
    else:
        a = x - explained(levels, loadings, x.shape[1])
        variance = _quadratic(a, levels.C) + row_variances(moments, levels, loadings)
    return np.asarray(np.sqrt(float(fit.natural.sigma2) * (variance + noise)))


def _check_observation(fit: Fit, kind: str) -> None:
    if fit.residual is not None and fit.residual.model.whitener is not None:
        if kind != "correlated":
            raise ArgumentError(
                "predict: the error of a new observation beside correlated ones depends on them; "
                "expected kind='correlated'"
            )
    elif kind == "population" and fit.design.terms:
        raise ArgumentError(
            "predict: a new observation belongs to some group; expected kind='conditional', where "
            "a level that was not in the fit has random effects of variance Psi"
        )
