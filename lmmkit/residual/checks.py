"""What structures ask of coordinates and of their arguments."""

import functools
from typing import Any

import numpy as np

from lmmkit.errors import ArgumentError, DataError
from lmmkit.records import FloatArray
from lmmkit.residual.contract import Coordinates

_LEAST = 1e-12
_LARGEST_WHOLE = 2.0**53


def column_name(value: Any, role: str) -> str | None:
    """``value`` if it can be the name of a column, or None."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ArgumentError(f"{role}: expected the name of a column, got {value!r}")


def column_names(values: Any, role: str) -> tuple[str, ...]:
    """One or several names of columns as a tuple."""
    listed = tuple(values) if isinstance(values, tuple | list) else (values,)
    if listed and all(isinstance(value, str) and value for value in listed):
        return listed
    raise ArgumentError(f"{role}: expected names of columns, got {values!r}")


def check_distinct(coordinates: Coordinates, structure: str) -> None:
    """Raise where two rows of a group, sorted, have the same coordinates."""
    values, codes = coordinates.values, coordinates.codes
    same = (codes[1:] == codes[:-1]) & (values[1:] == values[:-1]).all(axis=1)
    if not same.any():
        return
    row = int(np.argmax(same))
    where = ", ".join(
        f"{name} = {coordinates.label(i, float(values[row, i]))}"
        for i, name in enumerate(coordinates.columns)
    )
    raise DataError(
        f"{structure}: two rows of {_group(coordinates, row)} have the same coordinates "
        f"({where}), so that their correlation would be 1; name a finer grouping factor with "
        "group=, average the rows, or drop one"
    )


def check_whole(coordinates: Coordinates, structure: str) -> None:
    """Raise where a time is not a whole number, or too large to tell."""
    times = coordinates.values[:, 0]
    broken = (times != np.round(times)) | (np.abs(times) > _LARGEST_WHOLE)
    if broken.any():
        row = int(np.argmax(broken))
        raise DataError(
            f"{structure}: expected whole numbers in {coordinates.columns[0]!r}, got "
            f"{times[row]:g} in {_group(coordinates, row)}; car1 takes any times, or multiply "
            "them to whole units"
        )


def check_numbers(coordinates: Coordinates, structure: str) -> None:
    """Raise where a coordinate is text, whose levels have an order but no distance."""
    for name, levels in zip(coordinates.columns, coordinates.levels, strict=True):
        if levels is not None:
            raise DataError(
                f"{structure}: expected numbers in {name!r}, got text, such as "
                f"{str(levels[0])!r}; make it a number with with_columns() on the frame"
            )


def gaps(coordinates: Coordinates) -> FloatArray:
    """The distances in time of neighbours in a group."""
    inside = coordinates.codes[1:] == coordinates.codes[:-1]
    return np.asarray(np.diff(coordinates.values[:, 0])[inside])


def _group(coordinates: Coordinates, row: int) -> str:
    if not coordinates.group:
        return "the data, which are one group,"
    return f"{coordinates.group} {coordinates.labels[int(coordinates.codes[row])]!r}"


def distances(coordinates: FloatArray) -> FloatArray:
    """Euclidean distances (..., n, n) between the rows of (..., n, d)."""
    gaps = coordinates[..., :, None, :] - coordinates[..., None, :, :]
    if gaps.shape[-1] == 1:
        return np.abs(gaps[..., 0])
    return functools.reduce(np.hypot, np.moveaxis(gaps, -1, 0))


def log_determinant(variances: FloatArray) -> float:
    """The sum of ``log|R|`` from each row's variance given those before it.

    NaN where one is so small that rounding would decide.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = float(np.log(variances).sum())
    return total if variances.min(initial=1.0) > _LEAST else np.nan
