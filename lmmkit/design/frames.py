"""Columns of a frame: what counts as a number, what is missing, which rows are kept."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.design.checks import check_unmasked
from lmmkit.design.design import DroppedRows
from lmmkit.design.pandas_frames import from_pandas, is_pandas
from lmmkit.errors import ArgumentError, ColumnNotFoundError, DataError
from lmmkit.records import FloatArray, IntArray, adopt


def as_frame(data: Any) -> pl.DataFrame:
    """``data`` as a Polars frame: a DataFrame, a LazyFrame, columns by name, or pandas."""
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if is_pandas(data):
        return from_pandas(data)
    try:
        if isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__"):
            return pl.DataFrame(data)
    except (ImportError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"a {type(data).__name__} could not be made a Polars frame: {error}; "
            "convert it first, for example with polars.DataFrame or polars.from_pandas"
        ) from error
    raise DataError(
        f"expected a Polars frame, got {type(data).__name__}; "
        "convert it first, for example with polars.DataFrame or polars.from_pandas"
    )


def select(frame: pl.DataFrame, names: Iterable[str], needed_by: str) -> dict[str, pl.Series]:
    """The columns ``names``; a missing one is an error that suggests the nearest name."""
    columns = {}
    for name in names:
        if name not in frame.columns:
            near = get_close_matches(name, frame.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            shown = ", ".join(frame.columns[:20]) + (", ..." if frame.width > 20 else "")
            raise ColumnNotFoundError(
                f"{needed_by} needs a column {name!r}, which the frame does not have"
                f"{hint} Its columns are: {shown}"
            )
        columns[name] = frame.get_column(name)
    return columns


def kind_of(dtype: pl.DataType) -> str:
    """``number``, ``text``, ``true/false`` or ``date``: what a fitted column must stay."""
    if dtype.is_numeric():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype == pl.Boolean:
        return "true/false"
    return "date" if dtype.is_temporal() else str(dtype)


def variable(series: pl.Series) -> NDArray[np.float64] | pl.Series:
    """What a formula sees of a column: numbers as float64, text and true/false as they are."""
    kind = kind_of(series.dtype)
    if kind == "number":
        return series.cast(pl.Float64).to_numpy()
    if kind in ("text", "true/false"):
        return series
    advice = "a number of days, say, or text" if kind == "date" else "numbers or text"
    raise DataError(
        f"column {series.name!r} is {series.dtype}, which can be neither a covariate nor a "
        f"factor; make it {advice}, with with_columns() on the frame"
    )


def side_column(value: Any, role: str, frame: pl.DataFrame) -> tuple[str, pl.Series] | None:
    """The weights or the offset as a column: given by name, or as an array over the rows."""
    if value is None:
        return None
    if isinstance(value, str):
        name, series = value, select(frame, [value], role)[value]
    elif isinstance(value, pl.Expr):
        raise DataError(
            f"{role}: expected a column name or one number a row, got a Polars expression; make "
            "it a column with with_columns() on the frame, and name that"
        )
    else:
        name = f"{role} array"
        check_unmasked(role, value)
        try:
            series = pl.Series(name, value if isinstance(value, pl.Series) else np.asarray(value))
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{role}: expected a column name or one number a row, "
                f"got {type(value).__name__}: {error}"
            ) from error
        if len(series) != frame.height:
            raise DataError(
                f"{role}: expected one number a row of the frame, {frame.height} in all, "
                f"got {len(series)}"
            )
    if not series.dtype.is_numeric():
        raise DataError(f"{role}: expected numbers, but {name!r} is {series.dtype}; cast it")
    return name, series


def kept_numbers(series: pl.Series, rows: IntArray) -> FloatArray:
    """The numbers of a column in the rows kept: read-only, and a copy.

    A Polars column may share its memory with a numpy array that the user goes on to change.
    """
    kept = series if len(series) == len(rows) else series.gather(rows)
    return adopt(kept.cast(pl.Float64).to_numpy(writable=True))


def keep_rows(
    columns: Mapping[str, pl.Series], height: int, missing: str, *, some: bool = True
) -> tuple[IntArray | None, DroppedRows]:
    """The positions of the rows without a missing value (None for all), and what was dropped.

    Null and NaN are missing. Infinite numbers raise, and so does a frame of which no row remains
    unless ``some`` is False.
    """
    if missing not in ("drop", "raise"):
        raise ArgumentError(f"missing: expected 'drop' or 'raise', got {missing!r}")
    if height == 0 and some:
        raise DataError("the frame has no rows; a model needs data")
    lost = np.zeros(0, dtype=bool)
    counts = []
    for name, series in columns.items():
        gaps = _gaps(name, series)
        if gaps is not None:
            counts.append((name, int(gaps.sum())))
            lost = gaps if not lost.size else lost | gaps
    if not counts:
        return None, DroppedRows()
    listing = ", ".join(f"{name!r} ({count} of {height})" for name, count in counts)
    if missing == "raise":
        raise DataError(
            f"missing values in {listing}; fill them, or drop the rows with missing='drop'"
        )
    if lost.all() and some:
        raise DataError(
            f"every row has a missing value: {listing}; fill them, or leave a column out"
        )
    kept = np.flatnonzero(~lost).astype(np.int32)
    return kept, DroppedRows(total=int(lost.sum()), by_column=tuple(counts))


def _gaps(name: str, series: pl.Series) -> NDArray[np.bool_] | None:
    """Where ``series`` is null or NaN; None when nowhere."""
    if series.dtype.is_float():
        total = series.sum()
        if not series.null_count() and isfinite(total):
            return None
        infinite = series.is_infinite().fill_null(False)
        if infinite.any():
            raise DataError(
                f"column {name!r} is infinite in {int(infinite.sum())} rows, first in row "
                f"{infinite.arg_max()}; make these rows missing, or leave them out"
            )
        gaps = series.is_null() | series.is_nan().fill_null(True)
    elif series.null_count():
        gaps = series.is_null()
    else:
        return None
    return gaps.to_numpy() if gaps.any() else None
