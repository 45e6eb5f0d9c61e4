"""Factors as columns of numbers: levels found or matched, then contrasts.

Formulaic loads pandas, so this module is imported when a design is first built.
"""

import inspect
from typing import Any

import numpy as np
import polars as pl
from formulaic.materializers.types import FactorValues
from formulaic.transforms.contrasts import Contrasts, CustomContrasts, TreatmentContrasts
from numpy.typing import NDArray

from lmmkit.design.functions import Coded
from lmmkit.design.groups import levels_and_codes, match_levels
from lmmkit.errors import DataError
from lmmkit.records import FloatArray, IntArray


class LevelColumn:
    """One column of a coded factor, computed when it is written into the matrix."""

    def __init__(self, weights: FloatArray, codes: IntArray) -> None:
        self.weights, self.codes = weights, codes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.weights[self.codes]


def code_factor(values: Any, state: dict[str, Any], reduced_rank: bool) -> FactorValues[Any]:
    """The columns of a factor under its contrasts.

    Parameters
    ----------
    values : polars.Series, ndarray or Coded
    state : dict
        Holds the ``levels`` of the fit; filled when empty.
    reduced_rank : bool
        Whether the columns share the model with an intercept.

    Returns
    -------
    formulaic FactorValues of dict of str to LevelColumn
    """
    wanted = values if isinstance(values, Coded) else Coded(values, None, None)
    levels, codes = _levels(_as_factor(wanted.values), wanted.levels, state)
    if reduced_rank and len(levels) < 2:
        raise DataError(
            f"a factor needs at least two levels, this one has only {levels[0]!r}; "
            "leave it out of the formula"
        )
    contrasts = _contrasts(wanted.contrasts)
    labels = levels.to_list()
    try:
        coding = np.asarray(contrasts.get_coding_matrix(labels, reduced_rank), dtype=float)
    except ValueError as error:
        raise DataError(f"the contrasts do not fit the levels {labels[:20]}: {error}") from error
    names = contrasts.get_coding_column_names(labels, reduced_rank)
    columns = {
        name: LevelColumn(np.ascontiguousarray(column), codes)
        for name, column in zip(names, coding.T, strict=True)
    }
    return FactorValues(
        columns,
        kind="categorical",
        spans_intercept=False,
        format=contrasts.get_factor_format(labels, reduced_rank),
        encoded=True,
    )


def _levels(series: pl.Series, wanted: Any, state: dict[str, Any]) -> tuple[pl.Series, IntArray]:
    levels = state.get("levels")
    if levels is None and wanted is None:
        state["levels"], codes = levels_and_codes(series)
        return state["levels"], codes
    levels = pl.Series(wanted) if levels is None else levels
    codes = match_levels(series, levels)
    if codes.min() < 0:
        unknown = series.filter(pl.Series(codes < 0)).unique().sort()
        raise DataError(
            f"the level {unknown[0]!r} is not one of the known levels "
            f"{', '.join(map(repr, levels[:20]))}; drop its rows, or fit with it"
        )
    state["levels"] = levels
    return levels, codes


def _as_factor(values: Any) -> pl.Series:
    if isinstance(values, FactorValues):
        values = values.__wrapped__
    if isinstance(values, pl.Series):
        return values
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise DataError("C() takes one column")
    if not (np.abs(values) < 2**53).all() or (values != np.floor(values)).any():
        raise DataError(
            "a factor of numbers must hold whole numbers below 2**53; "
            "cast the column to text, or use cut() to make intervals"
        )
    return pl.Series(values.astype(np.int64))


def _contrasts(wanted: Any) -> Contrasts:
    if wanted is None:
        return TreatmentContrasts()
    if inspect.isclass(wanted) and issubclass(wanted, Contrasts):
        return wanted()
    return wanted if isinstance(wanted, Contrasts) else CustomContrasts(wanted)
