"""New rows through the columns of a fitted design, for prediction."""

from typing import Any

import attrs
import numpy as np
import polars as pl

from lmmkit.design.design import Design, DroppedRows
from lmmkit.design.encoding import Encoder, Encoding
from lmmkit.design.factors import match_factor, required_columns, typed
from lmmkit.design.frames import as_frame, keep_rows, kept_numbers, kind_of, select, side_column
from lmmkit.errors import ArgumentError, DataError
from lmmkit.records import (
    FloatArray,
    IntArray,
    adopt,
    float_array,
    float_arrays,
    int_array,
    int_arrays,
    optional_float_array,
    optional_float_arrays,
    record,
)


@record
class DesignRows:
    """The columns of a fitted design for the n complete rows of a new frame.

    Attributes
    ----------
    n_rows : int
        Rows of the frame.
    X : ndarray (n, p)
    Z : tuple of ndarray (n, q_k)
        One a random term; empty for a population prediction.
    codes : tuple of ndarray (n,) of int32, or (n, r) with loads
        Positions in the fitted ``levels``; -1 for a level that the fit does not have.
    rows : ndarray (n,) of int32
        Positions of the complete rows in the frame.
    offset : ndarray (n,) or None
    dropped : DroppedRows
    loads : tuple of ndarray (n, r) or (n, r, q) or None
        The weights of the memberships, one entry a random term, None for a term whose rows have
        one level each; empty when no term has loads.
    """

    n_rows: int
    X: FloatArray = float_array(2)
    Z: tuple[FloatArray, ...] = float_arrays(2)
    codes: tuple[IntArray, ...] = int_arrays()
    rows: IntArray = int_array(1)
    offset: FloatArray | None = optional_float_array(1, default=None)
    dropped: DroppedRows = attrs.field(factory=DroppedRows)
    loads: tuple[FloatArray | None, ...] = optional_float_arrays(default=())


def design_rows(
    design: Design,
    frame: Any,
    *,
    random: bool = True,
    offset: Any = None,
    missing: str = "drop",
) -> DesignRows:
    """Build the fitted columns from a new frame, which needs no response.

    Transforms keep what they learned in the fit: the mean of ``center(x)``, the knots of
    ``bs(x)``, the levels of factors.

    Parameters
    ----------
    design : Design
        Built from a formula.
    frame : polars.DataFrame
    random : bool
        False leaves the random terms out; their columns may then be absent.
    offset : str or array (rows of the frame), optional
        By default the column that was given as ``offset=`` for the fit, if any.
    missing : {"drop", "raise"}
        Dropped rows are absent from ``rows`` and counted in ``dropped``.

    Returns
    -------
    DesignRows

    Raises
    ------
    ArgumentError
        For a design without a formula.
    ColumnNotFoundError, DataError
        When the frame does not fit the design: a column of another kind, a level of a fixed
        factor that was not in the fit.
    """
    from lmmkit.design.plan import part

    model, fitted = design.formula, design.encoding
    if model is None or not isinstance(fitted, Encoding):
        raise ArgumentError(
            "this design was built from arrays, so that nothing says how to make its columns from "
            "a frame; build it from a formula, or multiply your own arrays"
        )
    frame = as_frame(frame)
    offsets = [f"{{{text}}}" for text in model.offsets]
    bars = model.random if random else ()
    texts = [model.fixed, *(bar.effects for bar in bars), *offsets]
    variables = dict.fromkeys(name for text in texts for name in part(text).columns)
    groups = fitted.groups if random else ()
    grouping = {name: kind for g in groups for name, kind in zip(g.columns, g.kinds, strict=True)}
    needed = [*variables, *grouping, *(name for bar in bars for name in bar.weights)]
    found = select(frame, dict.fromkeys(needed), f"the fitted formula {model.text!r}")
    columns = typed(groups, found)
    for name in variables:
        _check_kind(columns[name], fitted.kinds[name], "a variable")
    for name, kind in grouping.items():
        _check_kind(columns[name], kind, "a grouping factor")
    shift = _offset(offset, fitted, frame)
    complete = {name: columns[name] for name in variables}
    used = complete | required_columns(bars, columns) | complete | dict([shift] if shift else [])
    rows, dropped = keep_rows(used, frame.height, missing, some=False)
    if frame.height == 0 or (rows is not None and not len(rows)):
        return _no_rows(design, frame.height, dropped, random)
    if rows is None:
        rows = np.arange(frame.height, dtype=np.int32)
    else:
        columns = {name: series.gather(rows) for name, series in columns.items()}

    encoder = Encoder({name: columns[name] for name in variables}, rows, fitted)
    X = encoder.matrix(model.fixed)
    parts = [encoder.column(text, "offset") for text in offsets]
    if shift is not None:
        parts.append(kept_numbers(shift[1], rows))
    factors = tuple(match_factor(levels, columns) for levels in groups)
    loads = tuple(factor.loads for factor in factors)
    return DesignRows(
        n_rows=frame.height,
        X=X if len(fitted.kept) == X.shape[1] else adopt(X[:, list(fitted.kept)]),
        Z=tuple(encoder.matrix(bar.effects) for bar in bars),
        codes=tuple(factor.codes for factor in factors),
        rows=adopt(rows),
        offset=adopt(np.sum(parts, axis=0)) if parts else None,
        dropped=dropped,
        loads=() if all(load is None for load in loads) else loads,
    )


def _check_kind(series: pl.Series, fitted: str, role: str) -> None:
    kind = kind_of(series.dtype)
    if kind != fitted:
        raise DataError(
            f"column {series.name!r}, {role}, was {fitted} in the fit, but here it is {kind} "
            f"({series.dtype}); cast it as in the fit"
        )


def _offset(offset: Any, fitted: Encoding, frame: pl.DataFrame) -> tuple[str, pl.Series] | None:
    if offset is None and fitted.offset == "":
        raise DataError(
            "the fit had an array as offset, which new rows do not have; give offset= for them "
            "(zeros leave it out)"
        )
    return side_column(fitted.offset if offset is None else offset, "offset", frame)


def _no_rows(design: Design, height: int, dropped: DroppedRows, random: bool) -> DesignRows:
    terms = design.terms if random else ()
    return DesignRows(
        n_rows=height,
        X=np.zeros((0, len(design.x_names))),
        Z=tuple(np.zeros((0, term.q)) for term in terms),
        codes=tuple(np.zeros((0, *term.codes.shape[1:]), dtype=np.int32) for term in terms),
        rows=np.zeros(0, dtype=np.int32),
        dropped=dropped,
        loads=(
            ()
            if all(term.loads is None for term in terms)
            else tuple(None if term.loads is None else term.loads[:0] for term in terms)
        ),
    )
