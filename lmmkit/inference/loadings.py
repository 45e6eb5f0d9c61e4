"""What rows load on the levels of each grouping factor."""

from collections.abc import Iterator

import numpy as np

from lmmkit.design.design import Design
from lmmkit.design.group import grouping_factors
from lmmkit.design.rows import DesignRows
from lmmkit.fit import Fit
from lmmkit.likelihood.sparse import Sparse
from lmmkit.records import (
    FloatArray,
    IntArray,
    adopt,
    evolve,
    float_array,
    int_array,
    optional_float_array,
    record,
)


@record
class Loadings:
    """Rows of one grouping factor; the columns of all terms on it side by side.

    Attributes
    ----------
    terms : tuple of int
        Positions of the random terms on the factor.
    Z : ndarray (n, q), or (n, r, q) where it differs between the levels of a row
    codes : ndarray (n,) of int32, or (n, r) with loads or such Z
        -1 for a new level.
    loads : ndarray (n, r) or None
    """

    terms: tuple[int, ...]
    Z: FloatArray = float_array()
    codes: IntArray = int_array()
    loads: FloatArray | None = optional_float_array(2, default=None)

    def memberships(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """One level of every row, by its code, and what the row loads on its effects."""
        if self.codes.ndim == 1:
            yield self.codes, self.Z
            return
        if self.loads is None:
            yield from zip(self.codes.T, np.moveaxis(self.Z, 1, 0), strict=True)
            return
        for codes, loads in zip(self.codes.T, self.loads.T, strict=True):
            yield codes, self.Z * loads[:, None]


def fitted_rows(design: Design) -> DesignRows:
    """The rows of a design as new ones."""
    return DesignRows(
        n_rows=design.n_obs,
        X=design.X,
        Z=tuple(term.Z for term in design.terms),
        codes=tuple(term.codes for term in design.terms),
        rows=design.rows,
        offset=design.offset,
        loads=tuple(term.loads for term in design.terms),
    )


def new_loadings(design: Design, rows: DesignRows) -> tuple[Loadings, ...]:
    """Rows of a design, or new ones, one record a grouping factor."""
    found = []
    for terms in grouping_factors(design):
        loads = rows.loads[terms[0]] if rows.loads else None
        Z = [rows.Z[k] for k in terms]
        if loads is not None and loads.ndim == 3:
            Z, loads = [loads * each[:, None] for each in Z], None
        columns = Z[0] if len(Z) == 1 else np.concatenate(Z, axis=-1)
        found.append(Loadings(terms, columns, rows.codes[terms[0]], loads))
    return tuple(found)


def loaded_columns(loadings: Loadings, n_levels: int) -> Sparse:
    """What the rows load on the effects of all levels, (n, m q), sparse."""
    from scipy.sparse import csr_array

    n, q = len(loadings.Z), loadings.Z.shape[-1]
    total = csr_array((n, n_levels * q))
    for codes, Z in loadings.memberships():
        columns = codes[:, None] * q + np.arange(q)
        starts = np.arange(0, n * q + 1, q)
        total = total + csr_array((Z.ravel(), columns.ravel(), starts), shape=total.shape)
    total.eliminate_zeros()
    return total


def standard_rows(fit: Fit, rows: tuple[Loadings, ...]) -> tuple[Loadings, ...]:
    """The same rows in the standard coordinates of the fit."""
    z = fit.objective.moments.basis.z
    found = []
    for part in rows:
        ends = np.cumsum([len(z[k]) for k in part.terms])[:-1]
        pieces = np.split(part.Z, ends, axis=-1)
        Z = [piece @ z[k] for piece, k in zip(pieces, part.terms, strict=True)]
        found.append(evolve(part, Z=np.concatenate(Z, axis=-1)))
    return tuple(found)


def less_neighbours(
    design: Design, rows: DesignRows, weights: list[tuple[IntArray, IntArray, FloatArray]]
) -> tuple[Loadings, ...]:
    """What new rows load on levels, less K times what rows of the fit do.

    ``weights`` has the positions of some new rows, of rows of the fit, and K between them.
    """
    ours, theirs = (new_loadings(design, each) for each in (rows, fitted_rows(design)))
    found = []
    for new, old in zip(ours, theirs, strict=True):
        parts = list(new.memberships())
        n, q = parts[0][1].shape
        taken = []
        for here, there, K in weights:
            for codes, Z in old.memberships():
                levels, where = np.unique(codes[there], return_inverse=True)
                sums = np.zeros((len(levels), len(here), q))
                np.add.at(sums, where, -K.T[:, :, None] * Z[there][:, None])
                taken.append((here, levels, sums))
        most = max((len(levels) for _, levels, _ in taken), default=0)
        extra = len(list(old.memberships())) * most
        codes = np.full((n, len(parts) + extra), -1, dtype=np.int32)
        Z = np.zeros((n, len(parts) + extra, q))
        for j, (own, loads) in enumerate(parts):
            codes[:, j], Z[:, j] = own, loads
        filled = np.full(n, len(parts))
        for here, levels, sums in taken:
            for level, loads in zip(levels, sums, strict=True):
                codes[here, filled[here]], Z[here, filled[here]] = level, loads
                filled[here] += 1
        found.append(Loadings(new.terms, adopt(Z), adopt(codes)))
    return tuple(found)
