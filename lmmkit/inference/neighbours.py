"""What the residuals of correlated rows of the fit say of new rows."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.frames import as_frame, select
from lmmkit.design.groups import match_levels
from lmmkit.design.rows import DesignRows
from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import Fit
from lmmkit.inference.loadings import Loadings, less_neighbours
from lmmkit.records import FloatArray, IntArray, evolve, float_array, record
from lmmkit.residual.contract import Coordinates, Exchangeable, Particular
from lmmkit.residual.model import ResidualModel

_ROUNDING = 1e-9


@record
class Neighbours:
    """New rows less what the correlated rows of the fit say of their residuals, ``K e``.

    ``y_new - K (y - offset)`` has the mean ``X beta + z b`` and a residual that no row of the fit
    tells anything of.

    Attributes
    ----------
    known : ndarray (n,)
        ``K (y - offset)``.
    X : ndarray (n, p)
    loadings : tuple of Loadings
    variance : ndarray (n,)
        Of the residual that is left, relative to sigma2.
    """

    known: FloatArray = float_array(1)
    X: FloatArray = float_array(2)
    loadings: tuple[Loadings, ...]
    variance: FloatArray = float_array(1)


def neighbours(fit: Fit, frame: Any, rows: DesignRows, fitted: FloatArray) -> Neighbours:
    """What ``K = Cov(e_new, e) Var(e)^-1`` takes from the complete new rows.

    Zero for rows whose group is not in the fit. ``fitted`` are the new rows' conditional means.
    """
    residual, design = fit.residual, fit.design
    if residual is None or residual.model.whitener is None:
        raise ArgumentError(
            "predict: kind 'correlated' is of a fit whose residuals are correlated, with "
            "residual=Residual(...); expected 'conditional' or 'population'"
        )
    model, theta = residual.model, residual.theta
    assert model.whitener is not None
    correlation, seen = model.whitener.correlation, model.rows
    anywhere = isinstance(correlation, Exchangeable)
    if not correlation.columns and not anywhere:
        raise ArgumentError(
            "predict: kind 'correlated' has to know where the new rows stand among those of their "
            "group; name the coordinates in the fit, such as ar1('time')"
        )
    table = as_frame(frame).select(pl.all().gather(rows.rows))
    points = np.zeros((table.height, 1)) if anywhere else _values(table, seen)
    codes = _groups(table, seen)
    if isinstance(correlation, Particular):
        correlation.check(_together(seen, points, codes))
    own = model.split(theta)[0]
    mine, theirs = _deviations(table, model, theta, fitted), np.exp(-model.log_root(theta))
    y = design.y if design.offset is None else design.y - design.offset
    known, X, left = np.zeros(len(points)), np.array(rows.X), np.ones(len(points))
    ends = np.cumsum(seen.sizes)
    weights: list[tuple[IntArray, IntArray, FloatArray]] = []
    for code in np.unique(codes[codes >= 0]).tolist():
        old, new = (
            slice(ends[code] - seen.sizes[code], ends[code]),
            np.flatnonzero(codes == code).astype(np.int32),
        )
        joint = np.concatenate([seen.values[old], points[new]])[None]
        R = correlation.correlation(own, joint)[0]
        n = R.shape[0] - len(new)
        K = np.linalg.solve(R[:n, :n], R[:n, n:]).T
        same = R[n:, :n] == 1.0
        again = same.any(axis=1)
        K[again] = np.eye(n)[same[again].argmax(axis=1)]
        rest = 1.0 - (K * R[n:, :n]).sum(axis=1)
        if rest.min() < -_ROUNDING:
            raise DataError(
                f"predict: in {seen.group!r} {seen.labels[code]!r}, with {n} row(s) in the fit, "
                "the residual structure has no correlations with one more: the matrix would not "
                "be positive definite; expected kind='conditional' or 'population'"
            )
        left[new] = np.maximum(rest, 0.0)
        K = K * mine[new, None] / theirs[old]
        of_fit = model.order[old]
        known[new] = K @ y[of_fit]
        X[new] -= K @ design.X[of_fit]
        weights.append((new, of_fit, K))
    loadings = less_neighbours(design, rows, weights) if design.terms else ()
    return Neighbours(known, X, loadings, left * mine**2)


def _values(table: pl.DataFrame, seen: Coordinates) -> FloatArray:
    columns = select(table, seen.columns, "the residual structure of the fit")
    values = np.empty((table.height, len(seen.columns)))
    for j, (series, levels) in enumerate(zip(columns.values(), seen.levels, strict=True)):
        values[:, j] = _numbers(series, levels)
    return values


def _numbers(series: pl.Series, levels: pl.Series | None) -> FloatArray:
    """Numbers as they are, text as positions among the fitted levels."""
    if levels is None:
        numbers = series.cast(pl.Float64).to_numpy() if series.dtype.is_numeric() else None
        if numbers is None or not np.isfinite(numbers).all():
            raise DataError(
                f"predict: {series.name!r}, a coordinate of the residual structure, has to hold a "
                "finite number in every row that is predicted; drop the other rows"
            )
        return np.asarray(numbers)
    codes = match_levels(series, levels)
    if (codes < 0).any():
        unknown = series[int(np.argmax(codes < 0))]
        raise DataError(f"predict: {series.name!r} has {unknown!r}, which was not in the fit")
    return codes.astype(np.float64)


def _groups(table: pl.DataFrame, seen: Coordinates) -> IntArray:
    """The position of each row's group; -1 for one that was not in the fit."""
    if not seen.group:
        return np.zeros(table.height, dtype=np.int32)
    columns = list(select(table, seen.group.split(":"), "the residual structure").values())
    for column in columns:
        if column.null_count():
            raise DataError(
                f"predict: {column.name!r}, which tells the groups of correlated residuals, is "
                "missing in some row that is predicted; drop these rows"
            )
    label = columns[0]
    for other in columns[1:]:
        label = label.cast(pl.String) + ":" + other.cast(pl.String)
    return match_levels(label, seen.labels)


def _together(seen: Coordinates, points: FloatArray, codes: IntArray) -> Coordinates:
    """The rows of the fit and new ones, sorted by group; a row of a new group is one of its own."""
    new, n = codes < 0, len(seen.labels)
    own = np.where(new, n + np.cumsum(new) - 1, codes)
    every = np.concatenate([seen.codes, own])
    order = np.argsort(every, kind="stable")
    names = pl.Series(["new"] * int(new.sum()), dtype=pl.String)
    return evolve(
        seen,
        values=np.concatenate([seen.values, points])[order],
        codes=every[order].astype(np.int32),
        labels=pl.concat([seen.labels.cast(pl.String), names]),
    )


def _deviations(
    table: pl.DataFrame, model: ResidualModel, theta: FloatArray, fitted: FloatArray
) -> FloatArray:
    """Standard deviations of the new rows relative to sigma, of weight 1."""
    total = np.zeros(table.height)
    own = model.split(theta)[model.residual.correlation is not None :]
    for part, mine, seen in zip(model.residual.variances, own, model.seen, strict=True):
        values = np.empty((table.height, len(part.columns)))
        for j, (name, levels) in enumerate(zip(part.columns, seen.levels, strict=True)):
            values[:, j] = (
                fitted
                if name is None
                else _numbers(
                    select(table, [name], "the variance function of the fit")[name], levels
                )
            )
        total += part.log_deviation(mine, values)
    return np.asarray(np.exp(total))


def residual_variances(fit: Fit, frame: Any, rows: DesignRows, fitted: FloatArray) -> FloatArray:
    """Of rows of the fit, or of new ones of weight 1, relative to sigma2."""
    residual, weights = fit.residual, fit.design.weights
    if frame is not None:
        if residual is None:
            return np.ones(len(rows.rows))
        table = as_frame(frame).select(pl.all().gather(rows.rows))
        return _deviations(table, residual.model, residual.theta, fitted) ** 2
    if residual is None:
        return np.ones(fit.design.n_obs) if weights is None else 1.0 / weights
    variances = np.empty(fit.design.n_obs)
    variances[residual.model.order] = np.exp(-2.0 * residual.model.log_root(residual.theta))
    return variances
