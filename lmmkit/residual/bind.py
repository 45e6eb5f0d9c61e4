"""From a design and a residual structure to the model of both."""

import numpy as np
import polars as pl

from lmmkit.design.design import Design
from lmmkit.design.group import group
from lmmkit.errors import DataError
from lmmkit.moments.basis import standard_basis
from lmmkit.records import FloatArray, IntArray, adopt, evolve
from lmmkit.residual.contract import ClosedForm, Coordinates
from lmmkit.residual.crossed import crossed_terms
from lmmkit.residual.layout import cut_blocks, group_rows, read_values, side_columns, sort_design
from lmmkit.residual.model import ResidualModel, parts
from lmmkit.residual.residual import Residual, checked_residual
from lmmkit.residual.sums import PatternSums, pattern_sums
from lmmkit.residual.whiten import whitener


def residual_model(design: Design, residual: Residual) -> ResidualModel:
    """Bind a residual structure to a design that kept the structure's columns.

    Raises
    ------
    DataError, ColumnNotFoundError
        Where the coordinates do not fit the structure, or leave it without parameters.
    UnsupportedModelError
        Where rows of large residual groups would load on too many levels of a random term.
    """
    residual = checked_residual(residual)
    n = design.n_obs
    correlation, white = residual.correlation, None
    order = np.arange(n, dtype=np.int32)
    rows = _every_row_alone(np.empty((n, 0)), (), ())
    if correlation is not None:
        rows, order = group_rows(design, correlation)
        correlation = correlation.learn(rows)
        white = whitener(correlation, cut_blocks(rows))
    seen = tuple(_covariates(design, part.columns, order) for part in residual.variances)
    learned = [part.learn(own) for part, own in zip(residual.variances, seen, strict=True)]
    covariates = [
        np.where([name is None for name in part.columns], 1.0, own.values)
        for part, own in zip(residual.variances, seen, strict=True)
    ]
    inner = sort_design(design, order)
    weights = None if design.weights is None else adopt(design.weights[order])
    log_scale = np.zeros(n) if weights is None else 0.5 * np.log(weights)
    basis = standard_basis(group(evolve(inner, weights=weights)))
    learned_residual = Residual(correlation, tuple(learned))
    sizes = tuple(len(part.parameters) for part in parts(learned_residual))
    if not sum(sizes):
        raise DataError(
            f"residual: the structure of {', '.join(map(repr, residual.columns))} has no parameter "
            "here; a variance by stratum needs two strata, a correlation by visits two visits; "
            "leave residual= out, or give variances that are known as weights="
        )
    sums: tuple[PatternSums, ...] = ()
    if _effects_are_of_groups(inner, rows) and not learned_residual.uses_fitted:
        root = np.exp(log_scale)[:, None]
        loads = [term.Z @ c for term, c in zip(inner.terms, basis.z, strict=True)]
        columns = np.column_stack([inner.X @ basis.x, inner.y - inner.X @ basis.origin])
        blocks = cut_blocks(rows)
        sums = pattern_sums(
            blocks,
            tuple(covariates),
            root * columns,
            root * np.concatenate([np.empty((n, 0)), *loads], axis=1),
            parameters=sum(sizes),
            closed=correlation is None or isinstance(correlation, ClosedForm),
        )
    return ResidualModel(
        residual=learned_residual,
        sizes=sizes,
        design=inner,
        rows=rows,
        seen=seen,
        whitener=white,
        basis=basis,
        sums=sums,
        crossed=crossed_terms(inner, rows, white),
        order=order,
        log_scale=log_scale,
        covariates=tuple(covariates),
    )


def _effects_are_of_groups(design: Design, rows: Coordinates) -> bool:
    """Whether each residual group has one level of every random term, and no other has it."""
    first = np.flatnonzero(np.diff(rows.codes, prepend=-1))
    return all(
        term.loads is None
        and term.relation is None
        and np.array_equal(term.codes[first][rows.codes], term.codes)
        and len(np.unique(term.codes[first])) == len(first)
        for term in design.terms
    )


def _covariates(design: Design, names: tuple[str | None, ...], order: IntArray) -> Coordinates:
    """What a variance function sees of the sorted rows; the response for the fitted value."""
    known = [name for name in names if name is not None]
    columns = side_columns(design, known)
    read, levels = read_values([columns[name] for name in known], design.n_obs)
    values = np.repeat(design.y[order, None], len(names), axis=1)
    values[:, [name is not None for name in names]] = read[order]
    found = iter(levels)
    return _every_row_alone(
        values,
        tuple(name or "the fitted value" for name in names),
        tuple(None if name is None else next(found) for name in names),
    )


def _every_row_alone(
    values: FloatArray, columns: tuple[str, ...], levels: tuple[pl.Series | None, ...]
) -> Coordinates:
    return Coordinates(
        columns=columns,
        levels=levels,
        group="",
        values=values,
        codes=np.arange(len(values), dtype=np.int32),
        labels=pl.Series([], dtype=pl.String),
    )
