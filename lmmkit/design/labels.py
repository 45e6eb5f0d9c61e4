"""Labels of levels that are given apart from a frame."""

from typing import Any

import polars as pl

from lmmkit.design.checks import check_unmasked
from lmmkit.design.groups import check_groupable
from lmmkit.errors import DataError


def label_series(where: str, name: str, labels: Any) -> pl.Series:
    """Labels given as a sequence, an array or a series, as a series that can be a factor."""
    check_unmasked(where, labels)
    try:
        series = pl.Series(name, labels)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise _not_labels(where) from error
    if series.dtype == pl.Object:
        raise _not_labels(where)
    if not len(series):
        raise DataError(f"{where}: expected labels of levels, got none")
    check_groupable(series)
    return series.cast(pl.String) if series.dtype == pl.Categorical else series


def _not_labels(where: str) -> DataError:
    return DataError(
        f"{where} cannot be read as one column; expected one label a row, all of them whole "
        "numbers, all text, all true/false or all dates"
    )


def distinct_labels(levels: Any) -> pl.Series:
    """The labels of the rows or columns of a matrix, all different and none missing."""
    labels = label_series("levels", "level", levels)
    if labels.null_count():
        raise DataError(f"levels: label {labels.is_null().arg_max()} is missing; give every one")
    twice = labels.filter(labels.is_duplicated())
    if len(twice):
        raise DataError(
            f"levels: {twice[0]!r} stands {int((labels == twice[0]).sum())} times; expected labels "
            "that are all different"
        )
    return labels
