"""Rows that belong to several levels of one factor, each with a load."""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from lmmkit.design.checks import check_unmasked
from lmmkit.design.frames import kind_of
from lmmkit.design.groups import check_groupable, levels_and_codes
from lmmkit.design.labels import distinct_labels, label_series
from lmmkit.errors import DataError, ShapeError
from lmmkit.records import (
    FloatArray,
    IntArray,
    adopt,
    float_array,
    frozen_array,
    int_array,
    record,
    require,
)


@record
class Memberships:
    """The levels of each row, with their loads.

    Made by :func:`memberships` from labels or by :func:`incidence` from a matrix, and given as the
    labels of a term to :func:`~lmmkit.design.arrays.build_design_from_arrays`.

    Attributes
    ----------
    codes : ndarray (N, r) of int32
        Positions in ``levels``.
    loads : ndarray (N, r)
        Zero where a row has fewer than r memberships.
    levels : polars.Series (m,)
    """

    codes: IntArray = int_array(2)
    loads: FloatArray = float_array(2)
    levels: pl.Series = attrs.field(validator=attrs.validators.instance_of(pl.Series))

    def __attrs_post_init__(self) -> None:
        shape, m = self.codes.shape, len(self.levels)
        require(
            self.loads.shape == shape and self.codes.size > 0,
            f"Memberships: loads of shape {self.loads.shape}, codes of shape {shape}; expected "
            "(rows, memberships) twice",
        )
        low, high = int(self.codes.min()), int(self.codes.max())
        require(
            low >= 0 and high < m,
            f"Memberships: codes run from {low} to {high}, but there are {m} levels",
        )


def memberships(labels: Any, loads: ArrayLike | None = None) -> Memberships:
    """Multiple membership from the labels of each row's levels.

    Parameters
    ----------
    labels : array (N, r) or polars.DataFrame of r columns
        The levels that each row belongs to; None where it has fewer than r, one at least.
    loads : array (N, r), optional
        Any finite numbers, used as they are; read as zero where the label is missing. By default
        the memberships of a row load equally and sum to one.

    Returns
    -------
    Memberships
        With the levels of all columns, sorted.

    Raises
    ------
    ShapeError, DataError
        When the labels are no factor or a load is not finite.
    """
    columns = _label_columns(labels)
    levels, codes, present = union_codes("labels", columns)
    lonely = np.flatnonzero(~present.any(axis=1))
    if lonely.size:
        raise DataError(
            f"labels: {lonely.size} rows have no membership, the first of them row {lonely[0]}; "
            "leave them out of every array"
        )
    return Memberships(codes, _given_loads(loads, present), levels)


def incidence(matrix: Any, levels: Sequence[Any] | pl.Series | None = None) -> Memberships:
    """Memberships from a matrix: row n's random part is ``sum_j matrix[n, j] Z[n] @ b[j]``.

    Parameters
    ----------
    matrix : array or scipy.sparse (N, m)
        Any finite numbers; r is the largest number of entries of a row that are not zero.
    levels : sequence or polars.Series (m,), optional
        The label of each column, all different; 0, 1, ... by default.

    Returns
    -------
    Memberships
        With the columns of the matrix as levels, in their order.

    Raises
    ------
    ShapeError, DataError
        When it is no matrix of finite numbers or the labels do not name its columns.
    """
    from scipy.sparse import csr_array, issparse

    if np.iscomplexobj(matrix):
        raise ShapeError("incidence: expected real numbers, got complex ones; take the .real part")
    if not issparse(matrix):
        check_unmasked("incidence", matrix)
        matrix = frozen_array(matrix)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ShapeError(f"incidence: expected a matrix (rows, levels), got shape {matrix.shape}")
    table = csr_array(matrix, dtype=np.float64, copy=True)
    table.sum_duplicates()
    table.eliminate_zeros()
    n, m = table.shape
    counts = np.diff(table.indptr)
    row = np.repeat(np.arange(n), counts)
    wrong = np.flatnonzero(~np.isfinite(table.data))
    if wrong.size:
        place = (int(row[wrong[0]]), int(table.indices[wrong[0]]))
        raise DataError(f"incidence: {wrong.size} entries are not finite, the first at {place}")
    labels = pl.Series("level", np.arange(m)) if levels is None else distinct_labels(levels)
    if len(labels) != m:
        raise ShapeError(f"incidence: {m} columns, but {len(labels)} labels in levels")
    column = np.arange(len(row)) - np.repeat(table.indptr[:-1], counts)
    present = np.arange(max(1, int(counts.max()))) < counts[:, None]
    codes, loads = np.zeros(present.shape, dtype=np.int32), np.zeros(present.shape)
    codes[row, column], loads[row, column] = table.indices, table.data
    return Memberships(padded(codes, present), adopt(loads), labels)


def union_codes(
    where: str, columns: Sequence[pl.Series]
) -> tuple[pl.Series, IntArray, NDArray[np.bool_]]:
    """The sorted levels of all columns, the codes (N, r), and where there is a membership."""
    stacked = _one_column(where, columns)
    present = stacked.is_not_null().to_numpy()
    codes = np.full(len(stacked), -1, dtype=np.int32)
    levels, codes[present] = levels_and_codes(stacked.filter(present))
    shape = (len(columns), -1)
    by_row = present.reshape(shape).T
    return levels, padded(codes.reshape(shape).T, by_row), by_row


def equal_loads(present: NDArray[np.bool_]) -> FloatArray:
    """Loads of the memberships that a row has, which sum to one."""
    return adopt(present / present.sum(axis=1, keepdims=True))


def padded(codes: IntArray, present: NDArray[np.bool_]) -> IntArray:
    """Codes whose gaps repeat the row's first membership, so that they tie it to no other."""
    first = codes[np.arange(len(codes)), present.argmax(axis=1)]
    return adopt(np.where(present, codes, first[:, None]))


def _one_column(where: str, columns: Sequence[pl.Series]) -> pl.Series:
    for series in columns:
        check_groupable(series)
    first, kind = columns[0], kind_of(columns[0].dtype)
    for series in columns[1:]:
        if kind_of(series.dtype) != kind:
            raise DataError(
                f"{where}: the column {first.name!r} is {kind}, {series.name!r} is "
                f"{kind_of(series.dtype)}; memberships are levels of one factor, make them the same"
            )
    one_enum = first.dtype == pl.Enum and all(series.dtype == first.dtype for series in columns)
    if kind == "text" and not one_enum:
        columns = [series.cast(pl.String) for series in columns]
    frames = [series.alias(where).to_frame() for series in columns]
    try:
        stacked = pl.concat(frames, how="vertical_relaxed").to_series()
    except pl.exceptions.PolarsError as error:
        types = ", ".join(f"{series.name!r} {series.dtype}" for series in columns)
        raise DataError(
            f"{where}: the columns {types} have no type in common; cast them"
        ) from error
    check_groupable(stacked)
    return stacked


def _label_columns(labels: Any) -> list[pl.Series]:
    if isinstance(labels, pl.DataFrame):
        return labels.get_columns()
    try:
        table = labels if isinstance(labels, np.ndarray) else np.asarray(labels, dtype=object)
    except ValueError as error:
        raise ShapeError(
            f"labels: expected (rows, memberships), got unequal rows: {error}"
        ) from error
    if table.ndim != 2 or 0 in table.shape:
        raise ShapeError(f"labels: expected (rows, memberships) labels, got shape {table.shape}")
    return [
        label_series("labels", f"labels[:, {j}]", table[:, j].tolist())
        for j in range(table.shape[1])
    ]


def _given_loads(loads: ArrayLike | None, present: NDArray[np.bool_]) -> FloatArray:
    if loads is None:
        return equal_loads(present)
    check_unmasked("loads", loads)
    array = frozen_array(loads)
    if array.shape != present.shape:
        raise ShapeError(
            f"loads: expected one number a label, shape {present.shape}, got {array.shape}"
        )
    array = np.where(present, array, 0.0)
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        raise DataError(
            f"loads: {len(wrong)} loads of memberships are not finite, the first at "
            f"{tuple(wrong[0].tolist())}; give a number, or make the label missing"
        )
    return adopt(array)
