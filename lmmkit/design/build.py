"""From a formula and a frame to a design."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design.checks import check_response, check_size, check_terms, check_weights
from lmmkit.design.design import Design, RandomTerm
from lmmkit.design.encoding import Encoder, Encoding, term_columns
from lmmkit.design.frames import as_frame, keep_rows, kind_of, select, side_column
from lmmkit.design.groups import check_groupable, find_groups
from lmmkit.design.rank import independent_columns
from lmmkit.errors import DataError
from lmmkit.formula import ModelFormula, parse_formula
from lmmkit.records import FloatArray, adopt


def build_design(
    formula: ModelFormula | str,
    frame: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    missing: str = "drop",
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
        Or a LazyFrame, which is collected, or a mapping of columns.
    weights : str or array (rows of the frame), optional
        Prior weights, positive: the residual variance of a row is ``sigma2 / weight``.
    offset : str or array (rows of the frame), optional
        Added to the offsets of the formula.
    missing : {"drop", "raise"}

    Returns
    -------
    Design

    Raises
    ------
    FormulaError, ColumnNotFoundError, DataError
        When the formula or the data cannot carry the model.
    """
    from lmmkit.design.plan import part

    model = formula if isinstance(formula, ModelFormula) else parse_formula(formula)
    frame = as_frame(frame)
    offsets = [f"{{{text}}}" for text in model.offsets]
    effects = [bar.effects for bar in model.random]
    texts = [model.response, model.fixed, *effects, *offsets]
    variables = [name for text in texts for name in part(text).columns]
    grouping = [name for bar in model.random for name in bar.factors]
    columns = select(frame, dict.fromkeys(variables + grouping), f"the formula {model.text!r}")
    for name in grouping:
        check_groupable(columns[name])
    sides = {"weights": side_column(weights, "weights", frame)}
    sides["offset"] = side_column(offset, "offset", frame)

    used = columns | {name: series for name, series in sides.values() if name is not None}
    rows, dropped = keep_rows(used, frame.height, missing)
    n = frame.height if rows is None else len(rows)
    if rows is None:
        rows = np.arange(n, dtype=np.int32)
    else:
        columns = {name: series.gather(rows) for name, series in columns.items()}

    encoder = Encoder({name: columns[name] for name in dict.fromkeys(variables)}, n)
    y = _response(model, columns, encoder)
    full = adopt(encoder.matrix(model.fixed))
    kept = independent_columns(full)
    full_names = encoder.names(model.fixed)
    names = tuple(full_names[i] for i in kept)
    terms, groups = [], []
    for bar in model.random:
        group, codes = find_groups(bar.factors, columns)
        groups.append(group)
        Z = full if bar.effects == model.fixed else adopt(encoder.matrix(bar.effects))
        terms.append(
            RandomTerm(bar.group, encoder.names(bar.effects), Z, adopt(codes), group.labels)
        )
    side = {role: _side(*pair, rows, n) for role, pair in sides.items()}
    if side["weights"] is not None:
        check_weights(side["weights"], str(sides["weights"][0]))
    total_offset = _sum([encoder.matrix(text)[:, 0] for text in offsets], side["offset"])
    check_response(y, total_offset, model.response)
    check_size(n, names)
    check_terms(terms, n, side["weights"])
    offset_source = offset if isinstance(offset, str) else None if offset is None else ""
    return Design(
        y=y,
        X=full if len(kept) == full.shape[1] else adopt(full[:, kept]),
        x_names=names,
        terms=tuple(terms),
        rows=adopt(rows),
        weights=side["weights"],
        offset=total_offset,
        response=model.response,
        dropped=dropped,
        aliased=tuple(name for name in full_names if name not in names),
        x_terms=term_columns(encoder.specs[model.fixed], kept.tolist()),
        formula=model,
        encoding=Encoding(
            specs=encoder.specs,
            states=encoder.states,
            kinds=encoder.kinds,
            groups=tuple(groups),
            kept=tuple(kept.tolist()),
            offset=offset_source,
        ),
    )


def _response(model: ModelFormula, columns: dict[str, pl.Series], encoder: Encoder) -> FloatArray:
    series = columns.get(model.response)
    if series is not None and kind_of(series.dtype) != "number":
        raise DataError(
            f"the response {model.response!r} is {series.dtype}; expected numbers; cast it, for "
            f"example pl.col({model.response!r}).cast(pl.Float64)"
        )
    if series is not None:
        return adopt(series.cast(pl.Float64).to_numpy())
    matrix = encoder.matrix(model.response)
    if matrix.shape[1] != 1 or encoder.specs[model.response].factor_contrasts:
        raise DataError(
            f"the response {model.response!r} gives the columns "
            f"{', '.join(encoder.names(model.response))}; expected one column of numbers; fit "
            "several responses one by one"
        )
    return adopt(matrix[:, 0])


def _side(name: str | None, series: pl.Series | None, rows: Any, n: int) -> FloatArray | None:
    if series is None:
        return None
    values = series if len(series) == n else series.gather(rows)
    return adopt(values.cast(pl.Float64).to_numpy())


def _sum(parts: list[FloatArray], last: FloatArray | None) -> FloatArray | None:
    if last is not None:
        parts = [*parts, last]
    return adopt(np.sum(parts, axis=0)) if parts else None
