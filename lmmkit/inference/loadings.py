"""What rows load on the levels of each grouping factor."""

from collections.abc import Iterator

import numpy as np

from lmmkit.design.design import Design
from lmmkit.design.group import grouping_factors
from lmmkit.design.rows import DesignRows
from lmmkit.fit import Fit
from lmmkit.records import (
    FloatArray,
    IntArray,
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
    Z : ndarray (n, q)
    codes : ndarray (n,) of int32, or (n, r) with loads
        -1 for a new level.
    loads : ndarray (n, r) or None
    """

    terms: tuple[int, ...]
    Z: FloatArray = float_array(2)
    codes: IntArray = int_array()
    loads: FloatArray | None = optional_float_array(2, default=None)

    def memberships(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """One level of every row, by its code, and what the row loads on its effects."""
        if self.loads is None:
            yield self.codes, self.Z
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
    return tuple(
        Loadings(
            terms=terms,
            Z=rows.Z[terms[0]]
            if len(terms) == 1
            else np.concatenate([rows.Z[k] for k in terms], axis=1),
            codes=rows.codes[terms[0]],
            loads=rows.loads[terms[0]] if rows.loads else None,
        )
        for terms in grouping_factors(design)
    )


def standard_rows(fit: Fit, rows: tuple[Loadings, ...]) -> tuple[Loadings, ...]:
    """The same rows in the standard coordinates of the fit."""
    z = fit.objective.moments.basis.z
    found = []
    for part in rows:
        ends = np.cumsum([len(z[k]) for k in part.terms])[:-1]
        pieces = np.split(part.Z, ends, axis=1)
        Z = [piece @ z[k] for piece, k in zip(pieces, part.terms, strict=True)]
        found.append(evolve(part, Z=np.concatenate(Z, axis=1)))
    return tuple(found)
