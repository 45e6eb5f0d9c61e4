"""Value and derivatives of the log-likelihood in relative coordinates ``(beta, delta, sigma2)``.

delta is the packed lower triangle of each term's relative covariance D, in standard coordinates; E
and F are directions of D. With ``r = y - X beta``, ``C = X'V^-1X``, ``B = Z'V^-1X``,
``s = Z'V^-1 r`` and ``rss = r'V^-1 r``,

    -2 loglik = m log(2 pi sigma2) + sum log|V| + rss / sigma2 [+ log|C|] - sum log w,

m = N, or N - p under REML (in brackets; beta enters the restricted likelihood through rss alone).
    d/dE      = <G, E>,  G = sum W - sum s s' / sigma2 [- sum B C^-1 B']
    d2/dE dF  = -sum tr(W E W F) + 2/sigma2 sum s'E W F s
                [+ 2 tr(C^-1 sum B'E W F B) - tr(C^-1 sum B'E B C^-1 sum B'F B)]
    d2/dE dbeta = 2/sigma2 sum B'E s
and the expected information of E, F is half of
    sum tr(W E W F) [- 2 tr(C^-1 sum B'E W F B) + tr(C^-1 sum B'E B C^-1 sum B'F B)].
"""

from enum import Enum
from functools import cache

import numpy as np

from lmmkit.likelihood.coupled import inner_products, trace_products
from lmmkit.likelihood.terms import Terms
from lmmkit.linalg import duplication
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


def _direction_blocks(sizes: tuple[int, ...]) -> FloatArray:
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
    factors : tuple of FactorPieces
    terms : Terms
    total : ndarray (..., q, q)
        ``sum W [- sum B C^-1 B']``, block diagonal by factor.
    squares : ndarray (..., q, q)
        ``sum s s'``, block diagonal by factor.
    """

    factors: tuple[FactorPieces, ...]
    terms: Terms
    total: FloatArray = computed_array()
    squares: FloatArray = computed_array()

    @property
    def restricted(self) -> bool:
        """Whether the criterion is REML."""
        return self.factors[0].leverage is not None


@record
class Quadratic:
    """Blocks of a symmetric matrix over (beta, delta, sigma2)."""

    beta_beta: FloatArray = computed_array()
    beta_delta: FloatArray = computed_array()
    beta_sigma2: FloatArray = computed_array()
    delta_delta: FloatArray = computed_array()
    delta_sigma2: FloatArray = computed_array()
    sigma2_sigma2: FloatArray = computed_array()

    def assembled(self) -> FloatArray:
        """The matrix (..., p + n + 1, p + n + 1)."""
        p, n = self.beta_delta.shape[-2:]
        lead = np.broadcast_shapes(
            self.beta_beta.shape[:-2], self.delta_delta.shape[:-2], self.delta_sigma2.shape[:-1]
        )
        matrix = np.empty((*lead, p + n + 1, p + n + 1))
        matrix[..., :p, :p] = self.beta_beta
        matrix[..., :p, p:-1] = self.beta_delta
        matrix[..., p:-1, :p] = _t(self.beta_delta)
        matrix[..., :p, -1] = matrix[..., -1, :p] = self.beta_sigma2
        matrix[..., p:-1, p:-1] = self.delta_delta
        matrix[..., p:-1, -1] = matrix[..., -1, p:-1] = self.delta_sigma2
        matrix[..., -1, -1] = self.sigma2_sigma2
        return matrix


def pieces(point: Point, terms: Terms, criterion: Criterion) -> Pieces:
    """What :func:`gradient`, :func:`hessian` and :func:`information` are computed from."""
    factors: list[FactorPieces] = []
    totals: list[FloatArray] = []
    squares: list[FloatArray] = []
    for factor in terms.factors:
        projected, W = factor.terms.projected, factor.terms.W
        B = projected[..., :-1, :]
        s = projected[..., -1, :] - np.einsum("...apk,...p->...ak", B, point.beta)
        total, leverage = W @ factor.terms.count, None
        if criterion is Criterion.REML:
            leverage = _leverage(point.C, B)
            total = total - leverage.sum(axis=-1)
        factors.append(
            FactorPieces(factor.columns, W, factor.terms.W_each, factor.terms.count, B, s, leverage)
        )
        totals.append(total)
        squares.append(s @ _t(s))
    columns = [factor.columns for factor in factors]
    return Pieces(tuple(factors), terms, _placed(totals, columns), _placed(squares, columns))


def _placed(blocks: list[FloatArray], columns: list[IntArray]) -> FloatArray:
    """One matrix (..., q, q) of the factors' blocks."""
    if len(blocks) == 1:
        return blocks[0]
    q = sum(map(len, columns))
    matrix = np.zeros((q, q))
    for block, c in zip(blocks, columns, strict=True):
        matrix[c[:, None], c] = block
    return matrix


def gradient_matrix(point: Point, parts: Pieces) -> FloatArray:
    """G, the derivative of -2 loglik by D: shape (..., q, q), block diagonal by factor."""
    return parts.total - parts.squares / point.sigma2[..., None, None]


def gradient(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> FloatArray:
    """Derivative of loglik with respect to (beta, delta, sigma2): shape (..., p + n + 1)."""
    sigma2 = point.sigma2
    by_delta = -0.5 * (_vec(gradient_matrix(point, parts)) @ directions(sizes))
    by_sigma2 = 0.5 * (point.rss / sigma2 - m) / sigma2
    return np.concatenate([point.gap / sigma2[..., None], by_delta, by_sigma2[..., None]], axis=-1)


def hessian(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Second derivative of loglik with respect to (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    by_directions = _trace_part(parts, sizes) - 2.0 * _inner_part(point, parts, sizes, True)
    if parts.restricted:
        by_directions = by_directions + _determinant_part(point.C, parts, sizes)
    return Quadratic(
        beta_beta=-point.C / sigma2,
        beta_delta=-_beta_delta(parts, sizes) / sigma2,
        beta_sigma2=-point.gap / sigma2[..., 0] ** 2,
        delta_delta=0.5 * by_directions,
        delta_sigma2=-0.5 * (_vec(parts.squares) @ across) / sigma2[..., 0] ** 2,
        sigma2_sigma2=-0.5 * (2.0 * point.rss / point.sigma2 - m) / point.sigma2**2,
    )


def information(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Expected information of (beta, delta, sigma2)."""
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    by_directions = _trace_part(parts, sizes)
    if parts.restricted:
        by_directions = (
            by_directions
            - 2.0 * _inner_part(point, parts, sizes, False)
            + _determinant_part(point.C, parts, sizes)
        )
    return Quadratic(
        beta_beta=point.C / sigma2,
        beta_delta=np.zeros((*point.C.shape[:-1], across.shape[1])),
        beta_sigma2=np.zeros_like(point.gap),
        delta_delta=0.5 * by_directions,
        delta_sigma2=0.5 * (_vec(parts.total) @ across) / sigma2[..., 0],
        sigma2_sigma2=0.5 * m / point.sigma2**2,
    )


def average_information(point: Point, parts: Pieces, m: int, sizes: tuple[int, ...]) -> Quadratic:
    """Average of observed and expected information of (beta, delta, sigma2), at the best beta.

    ``r'V^-1 (ZEZ') P (ZFZ') V^-1 r / (2 sigma2)`` for directions E, F of D: no traces. Where the
    averaged terms agree only at an optimum, the observed ones are taken.
    """
    sigma2 = point.sigma2[..., None, None]
    across = directions(sizes)
    mixed = _beta_delta(parts, sizes)
    residual = _inner_part(point, parts, sizes, True, leverage=False)
    explained = _t(mixed) @ np.linalg.solve(point.C, mixed) / sigma2
    return Quadratic(
        beta_beta=point.C / sigma2,
        beta_delta=np.zeros_like(mixed),
        beta_sigma2=np.zeros_like(point.gap),
        delta_delta=0.5 * (residual - explained),
        delta_sigma2=0.5 * (_vec(parts.squares) @ across) / sigma2[..., 0] ** 2,
        sigma2_sigma2=0.5 * point.rss / point.sigma2**3,
    )


def _trace_part(parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(W E W F)`` over all pairs of levels, for all directions: shape (..., n, n)."""
    if parts.terms.coupling is None:
        (factor,) = parts.factors
        return _sandwich(factor.W * factor.count, factor.W, sizes)
    return trace_products(parts.terms, _direction_blocks(sizes))


def _inner_part(
    point: Point, parts: Pieces, sizes: tuple[int, ...], residual: bool, leverage: bool = True
) -> FloatArray:
    """``sum r'E W F r`` over the residuals' s / sigma and the columns of ``B C^-1/2``."""
    if parts.terms.coupling is not None:
        columns = _columns_of(point, parts, residual, leverage and parts.restricted)
        return inner_products(parts.terms, columns, _direction_blocks(sizes))
    (factor,) = parts.factors
    outer = np.zeros(()) if factor.leverage is None or not leverage else factor.leverage
    if residual:
        s = factor.s
        squares = s[..., :, None, :] * s[..., None, :, :]
        outer = outer + squares / point.sigma2[..., None, None, None]
    return _sandwich(outer, factor.W_each, sizes)


def _columns_of(point: Point, parts: Pieces, residual: bool, leverage: bool) -> list[FloatArray]:
    """Of each factor, ``s / sigma`` and ``B C^-1/2``: (q, r, m)."""
    found = []
    for factor in parts.factors:
        columns = [factor.B[:, :0]]
        if residual:
            columns.append(factor.s[:, None] / np.sqrt(point.sigma2))
        if leverage:
            root = np.linalg.cholesky(np.linalg.inv(point.C))
            columns.append(np.einsum("apk,pr->ark", factor.B, root))
        found.append(np.concatenate(columns, axis=1))
    return found


def _beta_delta(parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E s`` for all directions E: shape (..., p, n)."""
    q, across = sum(sizes), _direction_blocks(sizes)
    total: FloatArray = np.zeros(())
    for factor in parts.factors:
        B, c = factor.B, factor.columns
        own, p, groups = B.shape[-3:]
        Bs = B.reshape(*B.shape[:-3], own * p, groups) @ _t(factor.s)
        pairs = np.moveaxis(Bs.reshape(*Bs.shape[:-2], own, p, own), -2, -3)
        block = across if len(c) == q else across[c[:, None], c]
        flat = block.reshape(own * own, across.shape[-1])
        total = total + pairs.reshape(*Bs.shape[:-2], p, own * own) @ flat
    return total


def _leverage(C: FloatArray, B: FloatArray) -> FloatArray:
    """``B C^-1 B'`` of every group: shape (..., q, q, K)."""
    inverse = np.linalg.inv(C)[..., None, :, :]
    product: FloatArray = np.einsum("...apk,...pbk->...abk", B, np.swapaxes(inverse @ B, -2, -3))
    return product


def _sandwich(R: FloatArray, W: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(R E W F)`` over the last axis, for all directions E, F: shape (..., n, n).

    Directions lie inside terms, so that of R and W (..., q, q, K) only the block of E's term and
    F's is needed at a time.
    """
    blocks = _terms_of(sizes)
    lead = np.broadcast_shapes(R.shape[:-3], W.shape[:-3])
    n = blocks[-1][1].stop if blocks else 0
    result = np.empty((*lead, n, n))
    for rows_e, place_e in blocks:
        for rows_f, place_f in blocks:
            if place_f.start > place_e.start:
                break
            e, f = rows_e.stop - rows_e.start, rows_f.stop - rows_f.start
            left = R[..., rows_e, rows_f, :].reshape(*R.shape[:-3], e * f, R.shape[-1])
            right = W[..., rows_e, rows_f, :].reshape(*W.shape[:-3], e * f, W.shape[-1])
            products = (left @ _t(right)).reshape(*lead, e, f, e, f)
            pairs = np.einsum("...iljk->...ijkl", products).reshape(*lead, e * e, f * f)
            block = duplication(e).T @ pairs @ duplication(f)
            result[..., place_e, place_f] = block
            result[..., place_f, place_e] = _t(block)
    return result


def _determinant_part(C: FloatArray, parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``tr(C^-1 sum B'E B C^-1 sum B'F B)`` for all directions E, F: shape (..., n, n)."""
    p = C.shape[-1]
    sums = np.zeros((*C.shape[:-2], p, p, directions(sizes).shape[1]))
    for factor in parts.factors:
        B = factor.B
        lead = B.shape[:-3]
        for rows, place in _terms_among(sizes, tuple(factor.columns.tolist())):
            e = rows.stop - rows.start
            flat = B[..., rows, :, :].reshape(*lead, e * p, B.shape[-1])
            pairs = np.einsum("...iajb->...abij", (flat @ _t(flat)).reshape(*lead, e, p, e, p))
            sums[..., place] = pairs.reshape(*lead, p, p, e * e) @ duplication(e)
    solved = np.linalg.solve(C[..., None, :, :], np.moveaxis(sums, -1, -3))
    product: FloatArray = np.einsum("...iab,...jba->...ij", solved, solved)
    return product


@cache
def _terms_among(
    sizes: tuple[int, ...], columns: tuple[int, ...]
) -> tuple[tuple[slice, slice], ...]:
    """As :func:`_terms_of`, of the terms that have ``columns``, and the rows among these."""
    found = []
    for rows, place in _terms_of(sizes):
        if rows.start in columns:
            start = columns.index(rows.start)
            found.append((slice(start, start + rows.stop - rows.start), place))
    return tuple(found)


@cache
def _terms_of(sizes: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """Each term's rows of Z's columns, and its place among the directions."""
    found, row, place = [], 0, 0
    for size in sizes:
        end = place + triangle_size(size)
        found.append((slice(row, row + size), slice(place, end)))
        row, place = row + size, end
    return tuple(found)


def _t(a: FloatArray) -> FloatArray:
    return np.swapaxes(a, -1, -2)


def _vec(a: FloatArray) -> FloatArray:
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
