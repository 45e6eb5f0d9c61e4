"""From a pandas frame to a Polars one, without pyarrow."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.errors import DataError


def is_pandas(data: Any) -> bool:
    """Whether ``data`` is an object of pandas, which is not imported for it."""
    return type(data).__module__.partition(".")[0] == "pandas"


def from_pandas(data: Any) -> pl.DataFrame:
    """The columns of a pandas frame; its index is left out.

    A categorical column becomes an Enum of its categories, in their order and as text. NaN, NaT,
    None and NA become null.
    """
    if not hasattr(data, "columns"):
        raise DataError(f"expected a frame, got a pandas {type(data).__name__}; use its to_frame()")
    columns: dict[str, pl.Series] = {}
    for label, column in data.items():
        name = str(label)
        if name in columns:
            raise DataError(f"the pandas frame has two columns named {name!r}; rename one")
        try:
            columns[name] = _series(name, column)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"the pandas column {name!r} ({column.dtype}) could not be read; make all its "
                "values numbers, text, true/false or dates"
            ) from error
    return pl.DataFrame(columns)


def _series(name: str, column: Any) -> pl.Series:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return pl.Series(name, column.to_numpy(), nan_to_null=True)
    present = zip(column.tolist(), column.notna().tolist(), strict=True)
    values = [value if there else None for value, there in present]
    categories = getattr(column.dtype, "categories", None)
    if categories is None:
        return pl.Series(name, values)
    texts = [None if value is None else str(value) for value in values]
    return pl.Series(name, texts, dtype=pl.Enum([str(value) for value in categories]))
