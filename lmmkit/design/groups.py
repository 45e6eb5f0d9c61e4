"""Factors: the sorted levels of a column and the position of each row's level among them."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.design.frames import kind_of
from lmmkit.errors import DataError
from lmmkit.records import IntArray, adopt, record

_LABEL = pl.String
_SMALL = 4_096
_LARGE = 300_000


def levels_and_codes(series: pl.Series) -> tuple[pl.Series, IntArray]:
    """The levels of ``series``, sorted, and each row's position among them.

    An Enum keeps its own order; a Categorical is sorted as text. Levels that do not occur are
    left out.
    """
    dtype = series.dtype
    if dtype == pl.Enum:
        used, codes = _compact(series.to_physical())
        return dtype.categories.gather(used).alias(series.name), codes  # type: ignore[attr-defined]
    if kind_of(dtype) == "text":
        series = series.cast(_LABEL)
        if len(series) < _SMALL:
            values = series.to_list()
            position = {value: i for i, value in enumerate(sorted(set(values)))}
            codes = np.fromiter((position[value] for value in values), np.int32, len(values))
            return pl.Series(series.name, list(position), dtype=_LABEL), codes
        if len(series) > _LARGE:
            counts = series.to_frame("level").group_by("level").agg(pl.len())
            levels = counts["level"].sort().alias(series.name)
            return levels, match_levels(series, levels)
        levels = series.unique().sort()
        codes = series.cast(pl.Enum(levels)).to_physical().to_numpy()
        return levels, codes.astype(np.int32)
    if dtype.is_integer():
        used, codes = _compact(series)
        return pl.Series(series.name, used, dtype=dtype), codes
    physical = series.cast(pl.UInt8) if dtype == pl.Boolean else series.to_physical()
    used, codes = _compact(physical)
    return pl.Series(series.name, used, dtype=physical.dtype).cast(dtype), codes


def match_levels(series: pl.Series, levels: pl.Series) -> IntArray:
    """Each row's position among ``levels``, -1 where its value is not one of them."""
    if kind_of(series.dtype) != kind_of(levels.dtype):
        raise DataError(
            f"the values of {series.name!r} are {kind_of(series.dtype)}, the levels "
            f"{kind_of(levels.dtype)}; make them the same"
        )
    comparable = series.cast(levels.dtype, strict=False)
    if series.dtype.is_float() and levels.dtype.is_integer():
        comparable = comparable.set(series != series.floor(), None)
    found = comparable.to_frame("level").join(
        pl.DataFrame({"level": levels, "code": np.arange(len(levels), dtype=np.int32)}),
        on="level",
        how="left",
        maintain_order="left",
    )
    return found["code"].fill_null(-1).to_numpy()


def check_groupable(series: pl.Series) -> None:
    """Raise unless the column can be a grouping factor."""
    dtype = series.dtype
    small_integer = dtype.is_integer() and not str(dtype).endswith("128")
    if small_integer or kind_of(dtype) in ("text", "true/false", "date"):
        return
    advice = f"cast it, for example pl.col({series.name!r}).cast(pl.Int64)"
    if dtype.is_integer():
        advice += ", or .cast(pl.String) where its numbers need more than 64 bits"
    raise DataError(
        f"the grouping factor {series.name!r} is {dtype}; expected whole numbers of up to 64 bits, "
        f"text, true/false or dates; {advice}"
    )


@record
class GroupLevels:
    """The levels of one grouping factor, and how to find them in a new frame.

    Attributes
    ----------
    columns : tuple of str
    kinds : tuple of str
        What each column must stay: numbers, text, true/false or dates.
    levels : tuple of polars.Series
        The levels of each column; empty where ``labels`` are those of a relation.
    pairs : tuple of ndarray
        For ``a:b:c``, the combinations that occur: codes of ``a`` and ``b`` joined into one
        number, those joined with the codes of ``c``, and so on.
    labels : polars.Series
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    levels: tuple[pl.Series, ...]
    pairs: tuple[NDArray[np.int64], ...]
    labels: pl.Series = attrs.field(repr=False)


def find_groups(
    names: Sequence[str], columns: Mapping[str, pl.Series]
) -> tuple[GroupLevels, IntArray]:
    """The levels of the combinations of ``names``, sorted, and each row's position."""
    for name in names:
        check_groupable(columns[name])
    labels, codes = levels_and_codes(columns[names[0]])
    levels, pairs = [labels], []
    for name in names[1:]:
        inner, inner_codes = levels_and_codes(columns[name])
        joined = codes.astype(np.int64) * len(inner) + inner_codes
        pair, codes = _compact(pl.Series(joined))
        left, right = labels.gather(pair // len(inner)), inner.gather(pair % len(inner))
        labels = left.cast(_LABEL) + ":" + right.cast(_LABEL)
        levels.append(inner)
        pairs.append(pair)
    labels = labels.alias(":".join(names))
    kinds = tuple(kind_of(columns[name].dtype) for name in names)
    return GroupLevels(tuple(names), kinds, tuple(levels), tuple(pairs), labels), adopt(codes)


def match_groups(groups: GroupLevels, columns: Mapping[str, pl.Series]) -> IntArray:
    """Each row's level of a fitted grouping factor, -1 for a level that the fit does not have."""
    if not groups.levels:
        first, *others = (columns[name] for name in groups.columns)
        for series in others:
            first = first.cast(_LABEL) + ":" + series.cast(_LABEL)
        return match_levels(first, groups.labels)
    codes = match_levels(columns[groups.columns[0]], groups.levels[0])
    for name, inner, pair in zip(groups.columns[1:], groups.levels[1:], groups.pairs, strict=True):
        inner_codes = match_levels(columns[name], inner)
        joined = codes.astype(np.int64) * len(inner) + inner_codes
        joined[(codes < 0) | (inner_codes < 0)] = -1
        codes = match_levels(pl.Series(joined), pl.Series(pair))
    return codes


def _compact(series: pl.Series) -> tuple[NDArray[np.int64], IntArray]:
    """The distinct whole numbers, sorted, and each row's position among them."""
    values = series.to_numpy()
    if series.is_sorted():
        starts = run_starts(values)
        lengths = np.diff(starts, append=len(values))
        return values[starts], np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
    low, high = int(series.min()), int(series.max())  # type: ignore[arg-type]
    if high - low < 4 * len(values) + 1024:
        wide = np.uint64 if low > 0 else np.int64
        if low > 0:
            values = values - values.dtype.type(low)
        elif low < 0:
            values = np.subtract(values, low, dtype=wide)
        seen = np.zeros(high - low + 1, dtype=bool)
        seen[values] = True
        position = np.cumsum(seen, dtype=np.int32)
        position -= 1
        return np.flatnonzero(seen).astype(wide) + wide(low), position[values]
    distinct = series.unique().sort()
    return distinct.to_numpy(), match_levels(series, distinct)


def run_starts(values: NDArray[Any]) -> NDArray[np.intp]:
    """Where the runs of equal values start."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return np.flatnonzero(starts)
