"""Whether the columns and the random effects of one model are among those of another."""

import numpy as np

from lmmkit.design.design import RandomTerm
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.records import FloatArray, record

_OUTSIDE = 1e-7
_SAME_COVARIANCE = 1e-8


@record
class FactorColumns:
    """The random effects of one grouping factor.

    Attributes
    ----------
    example : RandomTerm
        A term on the factor.
    terms : tuple of int
        The positions of those of its terms that have effects.
    columns : tuple of ndarray (N, q_k)
        Z of each of them, without effects whose variance is held at zero.
    """

    example: RandomTerm
    terms: tuple[int, ...]
    columns: tuple[FloatArray, ...]

    @property
    def n_effects(self) -> int:
        """Of a level, over all terms."""
        return sum(int(z.shape[1]) for z in self.columns)


def extra_effects(small: Fit, large: Fit, pair: str) -> int:
    """How many random effects the larger model has beyond those of the smaller one.

    Raises
    ------
    ArgumentError
        Where the smaller model has effects that the larger one lacks. The effects of a term are
        correlated, so that they have to be among those of one term.
    """
    inner, outer = effects_by_factor(small), effects_by_factor(large)
    apart = bool(small.objective.held)
    for mine in inner:
        match = [theirs for theirs in outer if same_factor(mine.example, theirs.example)]
        homes = match[0].columns if match else ()
        if apart and match:
            homes = (np.column_stack(homes),)
        if not all(any(spans(home, z) for home in homes) for z in mine.columns):
            raise ArgumentError(
                f"{pair} are not nested: the first has random effects that the second lacks, or "
                f"covariances between them, on {mine.example.group!r}"
            )
    return sum(f.n_effects for f in outer) - sum(f.n_effects for f in inner)


def effects_by_factor(fit: Fit) -> tuple[FactorColumns, ...]:
    """The factors that have effects."""
    found: list[FactorColumns] = []
    parts = zip(fit.design.terms, fit.objective.moments.basis.z, strict=True)
    for number, (term, c) in enumerate(parts):
        columns = term.Z[:, (c != 0).any(axis=1)]
        if not columns.shape[1]:
            continue
        for k, known in enumerate(found):
            if same_factor(known.example, term):
                terms, all_columns = (*known.terms, number), (*known.columns, columns)
                found[k] = FactorColumns(term, terms, all_columns)
                break
        else:
            found.append(FactorColumns(term, (number,), (columns,)))
    return tuple(found)


def same_factor(a: RandomTerm, b: RandomTerm) -> bool:
    """Whether rows share levels in the same way, whatever the levels are called."""
    if a.codes.shape != b.codes.shape or not _same_loads(a, b):
        return False
    codes, others = a.codes.ravel(), b.codes.ravel()
    levels, first = np.unique(codes, return_index=True)
    matched = others[first]
    if not np.array_equal(matched[np.searchsorted(levels, codes)], others):
        return False
    if len(np.unique(matched)) < len(matched):
        return False
    if a.relation is None or b.relation is None:
        return a.relation is b.relation
    ours, theirs = a.relation.root[levels], b.relation.root[matched]
    return bool(np.allclose(ours @ ours.T, theirs @ theirs.T, atol=_SAME_COVARIANCE))


def _same_loads(a: RandomTerm, b: RandomTerm) -> bool:
    if a.loads is None or b.loads is None:
        return a.loads is b.loads
    return np.array_equal(a.loads, b.loads)


def spans(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether each column of ``inner`` is a combination of those of ``outer``."""
    columns, basis = _unit(inner), _unit(outer)
    left = columns - basis @ np.linalg.lstsq(basis, columns, rcond=None)[0]
    return bool((np.linalg.norm(left, axis=0) < _OUTSIDE).all())


def _unit(columns: FloatArray) -> FloatArray:
    norms = np.linalg.norm(columns, axis=0)
    unit: FloatArray = columns[:, norms > 0] / norms[norms > 0]
    return unit
