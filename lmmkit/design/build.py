"""From a formula and a frame to a design."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.checks import (
    check_columns,
    check_degrees,
    check_response,
    check_terms,
    positive,
)
from lmmkit.design.design import Design, RandomTerm
from lmmkit.design.encoding import Encoder, Encoding, term_columns
from lmmkit.design.factors import find_factors, relabeled, required_columns
from lmmkit.design.frames import as_frame, keep_rows, kept_numbers, kind_of, select, side_column
from lmmkit.design.groups import check_groupable
from lmmkit.design.rank import independent_columns
from lmmkit.design.relate import check_relations, relate
from lmmkit.design.relation import LevelCovariance
from lmmkit.design.structure import bound_structure
from lmmkit.errors import DataError
from lmmkit.formula import ModelFormula, parse_formula
from lmmkit.records import FloatArray, IntArray, adopt


def build_design(
    formula: ModelFormula | str,
    frame: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    missing: str = "drop",
    relations: Mapping[str, LevelCovariance] | None = None,
    coordinates: Sequence[str] = (),
) -> Design:
    """Build ``y = offset + X beta + sum_k Z_k b_k[code_k] + eps`` from a frame.

    A row with a missing value (null or NaN) in any column that the model uses is dropped and
    counted in ``Design.dropped``. Transforms such as ``center(x)`` and the levels of factors are
    taken from the rows that remain. Columns of X that depend linearly on earlier ones are left
    out and named in ``Design.aliased``, as R's ``lm`` does. Text, Categorical, Enum and Boolean
    columns are factors, their levels sorted (an Enum's in its own order).

    Parameters
    ----------
    formula : ModelFormula or str
    frame : polars.DataFrame
        Or a LazyFrame, which is collected, a mapping of columns, or a pandas frame.
    weights : str or array (rows of the frame), optional
        Prior weights, positive: the residual variance of a row is ``sigma2 / weight``.
    offset : str or array (rows of the frame), optional
        Added to the offsets of the formula.
    missing : {"drop", "raise"}
    relations : mapping of str to LevelCovariance, optional
        Known covariances between the levels of grouping factors, by the factor's name:
        ``{"animal": level_precision(inverse, ids)}``. Every term on the factor then has all levels
        of the relation, in its order; those of the data are found among them by name.
    coordinates : sequence of str
        Further columns to keep, in ``Design.coordinates``: ``Residual.columns``.

    Returns
    -------
    Design

    Raises
    ------
    FormulaError, ColumnNotFoundError, DataError
        When the formula or the data cannot carry the model.
    ArgumentError
        When an argument is not one of its legal values.
    """
    from lmmkit.design.plan import part

    coordinates = (coordinates,) if isinstance(coordinates, str) else tuple(coordinates)
    model = formula if isinstance(formula, ModelFormula) else parse_formula(formula)
    frame = as_frame(frame)
    offsets = [f"{{{text}}}" for text in model.offsets]
    effects = [bar.effects for bar in model.random]
    texts = [model.response, model.fixed, *effects, *offsets]
    variables = [name for text in texts for name in part(text).columns]
    related = check_relations(relations, [bar.group for bar in model.random])
    grouping = [name for bar in model.random for name in bar.factors]
    loads = [name for bar in model.random for name in bar.weights]
    needed = dict.fromkeys(variables + grouping + loads)
    columns = select(frame, needed, f"the formula {model.text!r}")
    columns |= select(frame, coordinates, "the residual structure")
    for name in grouping:
        check_groupable(columns[name])
    prior = side_column(weights, "weights", frame)
    shift = side_column(offset, "offset", frame)

    complete = {name: columns[name] for name in (*variables, *coordinates)}
    used = complete | required_columns(model.random, columns) | complete
    used |= dict(side for side in (prior, shift) if side)
    rows, dropped = keep_rows(used, frame.height, missing)
    n = frame.height if rows is None else len(rows)
    if rows is None:
        rows = np.arange(n, dtype=np.int32)
    else:
        columns = {name: series.gather(rows) for name, series in columns.items()}

    _check_response_kind(model, columns)
    encoder = Encoder({name: columns[name] for name in dict.fromkeys(variables)}, rows)
    y = _response(model, columns, rows, encoder)
    full = encoder.matrix(model.fixed)
    full_names = encoder.names(model.fixed)
    kept = independent_columns(full)
    X = full if len(kept) == full.shape[1] else adopt(full[:, kept])
    names = tuple(full_names[i] for i in kept)
    factors = find_factors(model.random, columns)
    unrelated = [
        RandomTerm(
            group=bar.group,
            Z=encoder.matrix(bar.effects),
            names=encoder.names(bar.effects),
            codes=factor.codes,
            levels=factor.levels.labels,
            loads=factor.loads,
            structure=bound_structure(bar.structure, encoder.names(bar.effects)),
        )
        for bar, factor in zip(model.random, factors, strict=True)
    ]
    prior_weights = None if prior is None else positive(kept_numbers(prior[1], rows), prior[0])
    total_offset = _sum(
        [encoder.column(text, "offset") for text in offsets],
        None if shift is None else kept_numbers(shift[1], rows),
    )
    check_response(y, total_offset, model.response)
    check_columns(X, names, "the column of the fixed effect")
    check_degrees(n, names)
    terms = relate(unrelated, related)
    check_terms(terms, X, prior_weights)
    offset_source = offset if isinstance(offset, str) else None if offset is None else ""
    return Design(
        y=y,
        X=X,
        x_names=names,
        terms=terms,
        rows=adopt(rows),
        weights=prior_weights,
        offset=total_offset,
        response=model.response,
        dropped=dropped,
        aliased=tuple(name for name in full_names if name not in names),
        x_terms=term_columns(encoder.specs[model.fixed], kept.tolist()),
        formula=model,
        coordinates=pl.DataFrame([columns[name] for name in coordinates]) if coordinates else None,
        encoding=Encoding(
            specs=encoder.specs,
            states=encoder.states,
            kinds=encoder.kinds,
            groups=tuple(
                factor.levels if term.relation is None else relabeled(factor.levels, term.levels)
                for factor, term in zip(factors, terms, strict=True)
            ),
            kept=tuple(kept.tolist()),
            offset=offset_source,
        ),
    )


def _check_response_kind(model: ModelFormula, columns: dict[str, pl.Series]) -> None:
    series = columns.get(model.response.strip("`"))
    if series is not None and kind_of(series.dtype) != "number":
        raise DataError(
            f"the response {series.name!r} is {series.dtype}; expected numbers; cast it, for "
            f"example pl.col({series.name!r}).cast(pl.Float64)"
        )


def _response(
    model: ModelFormula, columns: dict[str, pl.Series], rows: IntArray, encoder: Encoder
) -> FloatArray:
    series = columns.get(model.response.strip("`"))
    if series is not None:
        return kept_numbers(series, rows)
    return encoder.column(model.response, "response")


def _sum(parts: list[FloatArray], last: FloatArray | None) -> FloatArray | None:
    if last is not None:
        parts = [*parts, last]
    return adopt(np.sum(parts, axis=0)) if parts else None
