"""What the residuals of correlated rows of the fit say of new rows."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.frames import as_frame, select
from lmmkit.design.groups import match_levels
from lmmkit.design.rows import DesignRows
from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import Fit
from lmmkit.inference.levels import mean, random_part
from lmmkit.records import FloatArray, IntArray
from lmmkit.residual.contract import Coordinates
from lmmkit.residual.model import ResidualModel


def neighbour_part(fit: Fit, frame: Any, rows: DesignRows, fitted: FloatArray) -> FloatArray:
    """``Cov(e_new, e) Var(e)^-1 e_hat`` for the complete new rows, e_hat = ``y - X beta - Z b``.

    With the conditional modes it is the mean of the new residuals given all of the data. Zero for
    rows whose group is not in the fit. ``fitted`` are the new rows' conditional means.
    """
    residual = fit.residual
    if residual is None or residual.model.whitener is None:
        raise ArgumentError(
            "predict: kind 'correlated' is of a fit whose residuals are correlated, with "
            "residual=Residual(...); expected 'conditional' or 'population'"
        )
    model, theta = residual.model, residual.theta
    assert model.whitener is not None
    correlation, seen = model.whitener.correlation, model.rows
    if not correlation.columns:
        raise ArgumentError(
            "predict: kind 'correlated' has to know where the new rows stand among those of their "
            "group; name the coordinates in the fit, such as ar1('time')"
        )
    table = as_frame(frame).select(pl.all().gather(rows.rows))
    points = _values(table, seen)
    codes = _groups(table, seen)
    own = model.split(theta)[0]
    deviation = np.exp(-model.log_root(theta))
    e_hat = (fit.design.y - mean(fit, fit.design.X, fit.design.offset) - random_part(fit))[
        model.order
    ] / deviation
    part = np.zeros(len(points))
    ends = np.cumsum(seen.sizes)
    for code in np.unique(codes[codes >= 0]):
        old, new = slice(ends[code] - seen.sizes[code], ends[code]), np.flatnonzero(codes == code)
        joint = np.concatenate([seen.values[old], points[new]])[None]
        R = correlation.correlation(own, joint)[0]
        n = R.shape[0] - len(new)
        part[new] = R[n:, :n] @ np.linalg.solve(R[:n, :n], e_hat[old])
    return part * _deviations(table, model, theta, fitted)


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
    columns = list(select(table, seen.group.split(":"), "the residual groups").values())
    label = columns[0]
    for other in columns[1:]:
        label = label.cast(pl.String) + ":" + other.cast(pl.String)
    return match_levels(label, seen.labels)


def _deviations(
    table: pl.DataFrame, model: ResidualModel, theta: FloatArray, fitted: FloatArray
) -> FloatArray:
    """Standard deviations of the new rows relative to sigma, of weight 1."""
    total = np.zeros(table.height)
    own = model.split(theta)[1:]
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
