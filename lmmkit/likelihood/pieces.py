"""What the derivatives of the log-likelihood at one point are computed from."""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache

import numpy as np

from lmmkit.likelihood.elimination import Elimination
from lmmkit.likelihood.grouped import GroupTerms, run_terms, runs
from lmmkit.likelihood.terms import Terms, all_terms
from lmmkit.linalg import duplication, transposed
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, IntArray, adopt, computed_array, record


class Criterion(Enum):
    """Maximum likelihood, or restricted maximum likelihood."""

    ML = "ML"
    REML = "REML"


@cache
def directions(sizes: tuple[int, ...]) -> FloatArray:
    """The matrix (q*q, n) from packed delta to ``vec(D)``, D block diagonal by term."""
    q = sum(sizes)
    matrix = np.zeros((q, q, sum(map(triangle_size, sizes))))
    row = column = 0
    for size in sizes:
        end = column + triangle_size(size)
        block = slice(row, row + size)
        matrix[block, block, column:end] = duplication(size).reshape(size, size, end - column)
        row, column = row + size, end
    return adopt(matrix.reshape(q * q, column))


def direction_blocks(sizes: tuple[int, ...]) -> FloatArray:
    """The directions as matrices (q, q, n)."""
    q, matrix = sum(sizes), directions(sizes)
    return matrix.reshape(q, q, matrix.shape[1])


@record
class Point:
    """The marginal quantities at one value of (beta, D, sigma2).

    Attributes
    ----------
    beta : ndarray (..., p)
        In standard coordinates.
    sigma2 : ndarray (...)
    rss : ndarray (...)
        ``(y - X beta)'V^-1(y - X beta)``.
    gap : ndarray (..., p)
        ``X'V^-1(y - X beta)``; zero at the best beta.
    C : ndarray (..., p, p)
        ``X'V^-1X``.
    """

    beta: FloatArray = computed_array()
    sigma2: FloatArray = computed_array()
    rss: FloatArray = computed_array()
    gap: FloatArray = computed_array()
    C: FloatArray = computed_array()


@record
class FactorPieces:
    """What the derivatives share of one grouping factor; the last axis runs over its levels.

    Attributes
    ----------
    columns : ndarray (q,)
        Which columns of D are the factor's effects.
    W : ndarray (..., q, q, P)
        Of each level, or of each pattern.
    W_each : ndarray (..., q, q, K)
        Of each level or stand-in.
    count : ndarray (P,)
    B : ndarray (..., q, p, K)
        ``Z'V^-1X``.
    s : ndarray (..., q, K)
        ``Z'V^-1(y - X beta)``.
    leverage : ndarray (..., q, q, K) or None
        ``B C^-1 B'``; None under ML.
    """

    columns: IntArray
    W: FloatArray = computed_array()
    W_each: FloatArray = computed_array()
    count: FloatArray = computed_array()
    B: FloatArray = computed_array()
    s: FloatArray = computed_array()
    leverage: FloatArray | None


@record
class Pieces:
    """What the derivatives at one point share.

    Attributes
    ----------
    point : Point
    elimination : Elimination
    restricted : bool
        Whether the criterion is REML.
    total : ndarray (..., q, q)
        ``sum W [- sum B C^-1 B']``, block diagonal by factor.
    squares : ndarray (..., q, q)
        ``sum s s'``, block diagonal by factor.
    terms : Terms or None
        Of several factors; None where there is one.
    kept : tuple of FactorPieces
        One a factor; () where the only factor has too many levels to keep.
    """

    point: Point
    elimination: Elimination
    restricted: bool
    total: FloatArray = computed_array()
    squares: FloatArray = computed_array()
    terms: Terms | None
    kept: tuple[FactorPieces, ...]

    @property
    def factors(self) -> Iterable[FactorPieces]:
        """Of each factor; of the only one run by run, where it has many levels.

        In the processor's cache, runs are faster computed again than kept and read.
        """
        return self.kept or _by_run(self.point, self.elimination, self.restricted)


def pieces(point: Point, elimination: Elimination, criterion: Criterion) -> Pieces:
    """What :func:`gradient`, :func:`hessian` and :func:`information` are computed from."""
    restricted = criterion is Criterion.REML
    if elimination.system.one_factor:
        terms, factors = None, _by_run(point, elimination, restricted)
    else:
        terms = all_terms(elimination)
        factors = (_of_factor(point, f.columns, f.terms, restricted) for f in terms.factors)
    kept: list[FactorPieces] = []
    q = elimination.D.shape[-1]
    total, squares = np.zeros((q, q)), np.zeros((q, q))
    for factor in factors:
        kept = [*kept, factor] if terms else [factor]
        W = factor.W @ factor.count
        if factor.leverage is not None:
            W = W - factor.leverage.sum(axis=-1)
        total = total + _placed(W, factor.columns, q)
        squares = squares + _placed(factor.s @ transposed(factor.s), factor.columns, q)
    if terms is None and len(runs(elimination.stages[0].patterns)) > 1:
        kept = []
    return Pieces(point, elimination, restricted, total, squares, terms, tuple(kept))


def _by_run(point: Point, elimination: Elimination, restricted: bool) -> Iterator[FactorPieces]:
    """The pieces of the only factor, of the levels of one run at a time."""
    node, stage = elimination.system.nodes[0], elimination.stages[0]
    columns = node.columns[0] if node.columns else np.zeros(0, dtype=np.int32)
    for some in runs(stage.patterns):
        terms = run_terms(stage.patterns, stage.done, some)
        yield _of_factor(point, columns, terms, restricted)


def _of_factor(
    point: Point, columns: IntArray, terms: GroupTerms, restricted: bool
) -> FactorPieces:
    B = terms.projected[..., :-1, :]
    s = terms.projected[..., -1, :] - np.einsum("...apk,...p->...ak", B, point.beta)
    leverage = _leverage(point.C, B) if restricted else None
    return FactorPieces(columns, terms.W, terms.W_each, terms.count, B, s, leverage)


def _placed(block: FloatArray, columns: IntArray, q: int) -> FloatArray:
    """A factor's block among all columns of D."""
    if len(columns) == q:
        return block
    matrix = np.zeros((q, q))
    matrix[columns[:, None], columns] = block
    return matrix


def gradient_matrix(parts: Pieces) -> FloatArray:
    """G, the derivative of -2 loglik by D: shape (..., q, q), block diagonal by factor."""
    return parts.total - parts.squares / parts.point.sigma2[..., None, None]


def _leverage(C: FloatArray, B: FloatArray) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    inverse = np.linalg.inv(C)[..., None, :, :]
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, np.swapaxes(inverse @ B, -2, -3))
    return product
