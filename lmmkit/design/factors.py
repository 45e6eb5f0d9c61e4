"""The grouping factors of a formula's random terms: found in a frame, matched in a new one."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import attrs
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.design.frames import kind_of
from lmmkit.design.groups import GroupLevels, find_groups, match_groups, match_levels
from lmmkit.design.memberships import equal_loads, padded, union_codes
from lmmkit.errors import DataError
from lmmkit.formula.terms import BarTerm
from lmmkit.records import FloatArray, IntArray, adopt, evolve, record


@record
class MemberLevels:
    """The levels of ``mm(a, b)``, and how to find them in a new frame.

    Attributes
    ----------
    columns : tuple of str
    kinds : tuple of str
        What each column must stay.
    weights : tuple of str
        The columns of the loads; none for equal loads.
    labels : polars.Series
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    weights: tuple[str, ...]
    labels: pl.Series = attrs.field(repr=False)


FactorLevels = GroupLevels | MemberLevels


class Factor(NamedTuple):
    """A grouping factor in a set of rows: its levels, the rows' codes, and their loads if any."""

    levels: FactorLevels
    codes: IntArray
    loads: FloatArray | None


def find_factors(bars: Iterable[BarTerm], columns: Mapping[str, pl.Series]) -> tuple[Factor, ...]:
    """The levels of each random term, sorted, and each row's codes; a repeated factor once."""
    found: dict[tuple[Any, ...], Factor] = {}
    keys = []
    for bar in bars:
        keys.append((bar.factors, bar.members, bar.weights))
        if keys[-1] not in found:
            found[keys[-1]] = _find(bar, columns)
    return tuple(found[key] for key in keys)


def _find(bar: BarTerm, columns: Mapping[str, pl.Series]) -> Factor:
    if not bar.members:
        return Factor(*find_groups(bar.factors, columns), None)
    labels, codes, _ = union_codes(bar.group, [columns[name] for name in bar.factors])
    kinds = tuple(kind_of(columns[name].dtype) for name in bar.factors)
    levels = MemberLevels(bar.factors, kinds, bar.weights, labels)
    return Factor(levels, codes, _loads(levels, columns))


def relabeled(levels: FactorLevels, labels: pl.Series) -> FactorLevels:
    """A factor whose levels are the labels of a relation instead of those that rows have."""
    if isinstance(levels, MemberLevels):
        return evolve(levels, labels=labels)
    return evolve(levels, levels=(), pairs=(), labels=labels)


def match_factor(levels: FactorLevels, columns: Mapping[str, pl.Series]) -> Factor:
    """The codes and loads of new rows, -1 for a level that was not in the fit."""
    if isinstance(levels, GroupLevels):
        return Factor(levels, match_groups(levels, columns), None)
    codes = np.column_stack([match_levels(columns[name], levels.labels) for name in levels.columns])
    return Factor(levels, padded(codes, _present(levels, columns)), _loads(levels, columns))


def typed(
    factors: Iterable[FactorLevels], columns: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """The columns, a column of memberships in which every row is missing given its type."""
    cast = {
        name: columns[name].cast(factor.labels.dtype)
        for factor in factors
        if isinstance(factor, MemberLevels)
        for name in factor.columns
        if columns[name].dtype == pl.Null
    }
    return {**columns, **cast}


def required_columns(
    bars: Iterable[BarTerm], columns: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """The columns of the random terms that a row must have, null where it lacks what it needs.

    Of the memberships it needs one, and the loads of those that it has.
    """
    required: dict[str, pl.Series] = {}
    loaded: dict[str, pl.Series] = {}
    for bar in bars:
        if not bar.members:
            required |= {name: columns[name] for name in bar.factors}
            continue
        present = [columns[name].is_not_null() for name in bar.factors]
        some = reduce(or_, present)
        required[bar.group] = some.set(~some, None)
        for weight, here in zip(bar.weights, present, strict=bool(bar.weights)):
            loaded[weight] = loaded.get(weight, here) | here
    for weight, here in loaded.items():
        required.setdefault(weight, _load_column(columns[weight]).set(~here, 0.0))
    return required


def _load_column(series: pl.Series) -> pl.Series:
    if not series.dtype.is_numeric():
        raise DataError(
            f"the column {series.name!r} of loads is {series.dtype}; expected numbers; cast it"
        )
    return series.cast(pl.Float64)


def _loads(levels: MemberLevels, columns: Mapping[str, pl.Series]) -> FloatArray:
    present = _present(levels, columns)
    if not levels.weights:
        return equal_loads(present)
    given = [_load_column(columns[name]).to_numpy() for name in levels.weights]
    return adopt(np.where(present, np.column_stack(given), 0.0))


def _present(levels: MemberLevels, columns: Mapping[str, pl.Series]) -> NDArray[np.bool_]:
    return np.column_stack([columns[name].is_not_null().to_numpy() for name in levels.columns])
