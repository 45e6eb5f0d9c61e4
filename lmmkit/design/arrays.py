"""From arrays to a design, without a formula."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lmmkit.design.checks import (
    check_columns,
    check_degrees,
    check_response,
    check_terms,
    check_unmasked,
    positive,
)
from lmmkit.design.design import Design, RandomTerm
from lmmkit.design.groups import levels_and_codes
from lmmkit.design.labels import label_series
from lmmkit.design.memberships import Memberships
from lmmkit.design.rank import independent_columns
from lmmkit.design.relate import check_relations, relate
from lmmkit.design.relation import LevelCovariance
from lmmkit.errors import DataError, ShapeError
from lmmkit.records import FloatArray, adopt, frozen_array


def build_design_from_arrays(
    y: ArrayLike,
    X: ArrayLike,
    terms: Sequence[RandomTerm | tuple[Any, ...]],
    *,
    x_names: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    relations: Mapping[str, LevelCovariance] | None = None,
) -> Design:
    """Build a design from arrays, with any random-effects matrices.

    Parameters
    ----------
    y : array (..., N)
        Leading axes hold several responses.
    X : array (N, p)
        Without an implicit intercept; (N,) for one column.
    terms : sequence of RandomTerm or tuple
        A tuple is ``(group name, Z, labels)`` or ``(group name, Z, labels, names)``: Z (N, q) or
        (N,), labels (N,) the level of each row, names of the q effects. For rows that load on
        several levels the labels are :func:`~lmmkit.design.memberships.memberships` of labels, or
        :func:`~lmmkit.design.memberships.incidence` of a matrix. Several terms over one factor
        are legal.
    x_names : sequence of str, optional
        ``x0``, ``x1``, ... by default; a column of ones is called ``Intercept``.
    weights, offset : array (N,), optional
    relations : mapping of str to LevelCovariance, optional
        As for :func:`~lmmkit.design.build.build_design`.

    Returns
    -------
    Design
        With ``formula`` and ``encoding`` None. Columns of X that depend linearly on earlier ones
        are left out and named in ``aliased``.

    Raises
    ------
    ShapeError, DataError
        When an array's shape or values cannot carry the model.
    ArgumentError
        When a relation is none, or belongs to no term.
    """
    response = _numbers("y", y)
    if response.ndim == 0 or response.shape[-1] == 0:
        raise ShapeError(f"y: expected (..., N) values with N > 0, got shape {response.shape}")
    n = response.shape[-1]
    matrix = _numbers("X", X)
    _check_rows_last(response, matrix)
    full = _columns("X", matrix, n)
    full_names = _names("x_names", x_names, _default_names(full, "x"))
    if not isinstance(terms, Sequence):
        raise ShapeError(
            f"terms: expected a list of random terms, an empty one for none, got {terms!r}"
        )
    kept = independent_columns(full)
    fixed = full if len(kept) == full.shape[1] else adopt(full[:, kept])
    names = tuple(full_names[i] for i in kept)
    unrelated = [_term(position, term, n) for position, term in enumerate(terms)]
    known = check_relations(relations, [term.group for term in unrelated])
    records = relate(unrelated, known)
    prior = None if weights is None else positive(_vector("weights", weights, n), "weights")
    shift = None if offset is None else _vector("offset", offset, n)
    check_response(response, shift, "y")
    check_columns(fixed, names, "the column of the fixed effect")
    check_degrees(n, names)
    check_terms(records, fixed, prior)
    return Design(
        y=response,
        X=fixed,
        x_names=names,
        terms=records,
        rows=adopt(np.arange(n, dtype=np.int32)),
        weights=prior,
        offset=shift,
        aliased=tuple(name for name in full_names if name not in names),
        x_terms=tuple((name, (position,)) for position, name in enumerate(names)),
    )


def _term(position: int, term: Any, n: int) -> RandomTerm:
    if isinstance(term, RandomTerm):
        if len(term.Z) != n:
            raise ShapeError(
                f"terms[{position}] on {term.group!r}: expected {n} rows as in y, got {len(term.Z)}"
            )
        return term
    if not isinstance(term, tuple | list) or len(term) not in (3, 4):
        raise ShapeError(
            f"terms[{position}]: expected a RandomTerm or (group name, Z, labels[, names]), "
            f"got {type(term).__name__}"
        )
    group, matrix, labels, *given = term
    if not isinstance(group, str):
        raise ShapeError(
            f"terms[{position}]: expected the group's name first, as text, got {group!r}"
        )
    where = f"terms[{position}] on {group!r}"
    Z = _columns(f"{where}: Z", matrix, n)
    if Z.shape[1] == 0:
        raise ShapeError(f"{where}: Z has no columns; a random term needs at least one")
    names = _names(f"{where}: names", given[0] if given else None, _default_names(Z, "z"))
    if isinstance(labels, Memberships):
        if len(labels.codes) != n:
            raise ShapeError(
                f"{where}: expected memberships of {n} rows as in y, got {len(labels.codes)}"
            )
        return RandomTerm(group, names, Z, labels.codes, labels.levels, loads=labels.loads)
    series = label_series(f"{where}: labels", group, labels)
    if len(series) != n:
        raise ShapeError(f"{where}: expected {n} labels, one a row of y, got {len(series)}")
    if series.null_count():
        raise DataError(f"{where}: {series.null_count()} labels are missing; leave these rows out")
    levels, codes = levels_and_codes(series)
    return RandomTerm(group, names, Z, adopt(codes), levels)


def _check_rows_last(y: FloatArray, X: FloatArray) -> None:
    """Refuse a response whose rows are not along its last axis."""
    if y.ndim == 1 or X.ndim == 0 or y.shape[-1] == len(X) or len(X) not in y.shape:
        return
    advice = "y.ravel()" if y.size == len(X) else "numpy.moveaxis"
    raise ShapeError(
        f"y: expected (..., N) with N = {len(X)}, the rows of X; got {y.shape}; use {advice}"
    )


def _numbers(name: str, value: Any) -> FloatArray:
    check_unmasked(name, value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        raise ShapeError(f"{name}: expected real numbers, got {value.dtype}; take its .real part")
    try:
        array = frozen_array(value)
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from error
    if not np.isfinite(array.sum()):
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            raise DataError(
                f"{name}: {len(wrong)} values are missing or infinite, the first at {place}; "
                "leave these rows out of every array"
            )
    return array


def _columns(name: str, value: Any, n: int) -> FloatArray:
    array = _numbers(name, value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != n:
        raise ShapeError(
            f"{name}: expected one row for each of the {n} values of y, got shape {array.shape}"
        )
    return array


def _vector(name: str, value: Any, n: int) -> FloatArray:
    array = _numbers(name, value)
    if array.shape != (n,):
        raise ShapeError(
            f"{name}: expected one number for each of the {n} values of y, got shape {array.shape}"
        )
    return array


def _default_names(columns: FloatArray, letter: str) -> list[str]:
    ones = (columns == 1.0).all(axis=0)
    return ["Intercept" if one else f"{letter}{i}" for i, one in enumerate(ones)]


def _names(what: str, given: Any, default: list[str]) -> tuple[str, ...]:
    names = default if given is None else [given] if isinstance(given, str) else list(given)
    if len(names) != len(default):
        raise ShapeError(f"{what}: expected {len(default)} names, one a column, got {len(names)}")
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ShapeError(f"{what}: expected distinct texts, got {names}")
    return tuple(names)
