"""What the data must be for the model to be estimable."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lmmkit.design.design import RandomTerm
from lmmkit.design.rank import independent_columns
from lmmkit.errors import DataError
from lmmkit.records import FloatArray

_LEAST = 1e-35
_MOST = 1e35


def check_unmasked(name: str, values: Any) -> None:
    """Refuse masked entries of a numpy masked array; numpy would read the values behind them."""
    masked = int(np.ma.getmaskarray(values).sum()) if isinstance(values, np.ma.MaskedArray) else 0
    if masked:
        raise DataError(
            f"{name}: {masked} entries of the masked array are masked; leave these rows out of "
            "every array, or fill them"
        )


def check_size(values: FloatArray, what: str) -> None:
    """Refuse values whose squares, or the variance of a variance, would be no number."""
    if values.ndim == 1:
        with np.errstate(over="ignore"):
            squares = values @ values
        if len(values) * _LEAST**2 <= squares <= _MOST**2:
            return
    sizes = np.maximum(values.max(axis=-1), -values.min(axis=-1))
    wrong = (sizes > 0.0) & ((sizes < _LEAST) | (sizes > _MOST))
    if wrong.any():
        raise DataError(
            f"{what}: the largest value is {sizes[wrong].flat[0]:.3g} in size; expected between "
            f"{_LEAST:g} and {_MOST:g}, beyond which the variance of a variance is no number; "
            "measure it in another unit"
        )


def check_columns(columns: FloatArray, names: Sequence[str], where: str) -> None:
    """Refuse columns (N, k) of values too large or too small, see :func:`check_size`."""
    for name, column in zip(names, columns.T, strict=True):
        check_size(column, f"{where} {name!r}")


def check_response(y: FloatArray, offset: FloatArray | None, name: str) -> None:
    """Refuse a constant response: an exact fit, whose likelihood has no maximum."""
    if offset is not None:
        check_size(offset, "the offset")
    check_size(y, f"the response {name!r}")
    values = y if offset is None else y - offset
    for position in np.ndindex(values.shape[:-1]):
        row = values[position]
        if row[0] == row[-1] and (row == row[0]).all():
            which = f"{name!r}" + (f" (number {position})" if position else "")
            raise DataError(
                f"the response {which} is constant ({row[0]:g} in all {len(row)} rows), so that "
                "there is no variance to estimate; check the column"
            )


def check_terms(terms: Sequence[RandomTerm], X: FloatArray, weights: FloatArray | None) -> None:
    """Refuse random terms whose variance the data cannot tell from the residual variance.

    X has full column rank, as Z has then if it is X.
    """
    n_rows = len(X)
    varying_weights = weights is not None and bool((weights != weights[0]).any())
    for term in terms:
        used = None if term.relation is None else np.unique(term.codes)
        m = len(term.levels) if used is None else len(used)
        where = f"random term ({' + '.join(term.names)} | {term.group})"
        if m < 2:
            only = term.levels[int(term.codes.flat[0])]
            raise DataError(
                f"{where}: the grouping factor has one level, {only!r}; at least two are needed to "
                "estimate a variance; leave the term out"
            )
        if term.Z is not X:
            check_columns(term.Z, term.names, f"{where}: the column of")
            _check_dependent(term, where)
        if term.loads is not None:
            check_size(term.loads.reshape(-1), f"{where}: loads")
            if not term.loads.any():
                raise DataError(f"{where}: all loads are zero; give others, or leave the term out")
        known = varying_weights or term.structure is not None
        if term.q * m < n_rows or known or _differs_from_noise(term):
            continue
        if term.names == ("Intercept",):
            raise DataError(
                f"{where}: every one of the {n_rows} rows has a level of its own, so that its "
                "variance cannot be told from the residual variance; leave the term out, or give "
                "weights if the residual variances are known"
            )
        raise DataError(
            f"{where}: the number of observations ({n_rows}) is not larger than the number of "
            f"random effects ({term.q} x {m} levels = {term.q * m}), so that their variances "
            "cannot be told from the residual variance; use fewer effects, such as "
            f"(1 | {term.group})"
        )


def _differs_from_noise(term: RandomTerm) -> bool:
    """Whether loads or a relation tell a term from the residuals with few rows a level."""
    if term.relation is None:
        return term.loads is not None
    root = term.relation.root
    return term.loads is not None or not np.array_equal(root, root[0, 0] * np.eye(len(root)))


def _check_dependent(term: RandomTerm, where: str) -> None:
    """Refuse columns of Z that depend on earlier ones: their variances are not identified.

    A structure may identify them.
    """
    kept = set(independent_columns(term.Z))
    dependent = [name for i, name in enumerate(term.names) if i not in kept]
    if term.structure is not None:
        dependent = [name for name, z in zip(term.names, term.Z.T, strict=True) if not z.any()]
    if dependent:
        zero = not term.Z[:, term.names.index(dependent[0])].any()
        why = "is zero in every row" if zero else "depends linearly on the effects before it"
        raise DataError(
            f"{where}: the column of {dependent[0]!r} {why}, so that its variance is not "
            "identified; leave the effect out of the random term"
        )


def check_degrees(n_rows: int, names: Sequence[str]) -> None:
    """Refuse fixed effects that leave no degree of freedom for the residual variance."""
    if len(names) >= n_rows:
        raise DataError(
            f"{len(names)} fixed-effects columns for {n_rows} rows leave nothing to estimate a "
            f"variance from; use fewer terms (columns: {', '.join(names[:20])})"
        )


def positive(weights: FloatArray, name: str) -> FloatArray:
    """The weights, which must be positive: a row of weight zero carries no information."""
    wrong = np.flatnonzero(~(weights > 0))
    if wrong.size:
        raise DataError(
            f"the weights {name!r} must be positive; {wrong.size} are not, the first of them "
            f"{weights[wrong[0]]:g}; drop the rows whose weight is zero"
        )
    check_size(weights, f"the weights {name!r}")
    return weights
