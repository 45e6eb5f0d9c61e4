"""Sums over levels for all directions E, F of the relative covariances.

With one grouping factor levels are independent, and a sum over them is all; with several, the
elimination ties them (:mod:`lmmkit.likelihood.coupled`, :mod:`lmmkit.likelihood.weighted`).
"""

from functools import cache

import numpy as np

from lmmkit.likelihood.coupled import trace_products
from lmmkit.likelihood.pieces import FactorPieces, Pieces, Point, direction_blocks, directions
from lmmkit.likelihood.weighted import inner_products
from lmmkit.linalg import duplication, transposed
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, computed_array, record


@record
class Directional:
    """Sums over levels, for n directions.

    Attributes
    ----------
    trace : ndarray (..., n, n)
        ``sum tr(W E W F)``.
    inner : ndarray (..., n, n)
        ``sum r'E W F r`` over the residuals' s / sigma and the columns of ``B C^-1/2``.
    beta_delta : ndarray (..., p, n)
        ``sum B'E s``.
    determinant : ndarray (..., n, n)
        ``tr(C^-1 sum B'E B C^-1 sum B'F B)``.
    """

    trace: FloatArray = computed_array()
    inner: FloatArray = computed_array()
    beta_delta: FloatArray = computed_array()
    determinant: FloatArray = computed_array()


def directional(
    parts: Pieces,
    sizes: tuple[int, ...],
    *,
    trace: bool = True,
    residual: bool = True,
    leverage: bool = True,
) -> Directional:
    """The sums in one pass over the levels.

    Parameters
    ----------
    parts : Pieces
    sizes : tuple of int
        Number of effects of each term.
    trace : bool
        Whether to compute the trace; else it is zero.
    residual, leverage : bool
        Whether ``inner`` has the residuals' part, and under REML that of B.
    """
    point = parts.point
    n, p = directions(sizes).shape[1], point.C.shape[-1]
    leverage = leverage and parts.restricted
    traces: FloatArray = np.zeros((n, n))
    inner: FloatArray = np.zeros((n, n))
    mixed: FloatArray = np.zeros((p, n))
    between: FloatArray = np.zeros((n, p, p))
    for factor in parts.factors:
        mixed = mixed + _beta_delta(factor, sizes)
        if leverage:
            between = between + _between(factor, sizes)
        if parts.terms is None:
            if residual or leverage:
                outer = _outer(point, factor, residual, leverage)
                inner = inner + _sandwich(outer, factor.W_each, sizes)
            if trace:
                traces = traces + _sandwich(factor.W * factor.count, factor.W, sizes)
    if parts.terms is not None:
        across = direction_blocks(sizes)
        inner = inner_products(parts.terms, _columns_of(parts, residual, leverage), across)
        if trace:
            traces = trace_products(parts.terms, across)
    solved = np.linalg.solve(point.C[..., None, :, :], between)
    determinant = np.einsum("...iab,...jba->...ij", solved, solved)
    return Directional(traces, inner, mixed, determinant)


def _outer(point: Point, factor: FactorPieces, residual: bool, leverage: bool) -> FloatArray:
    """``sum r r'`` of each level: (..., q, q, K)."""
    outer = factor.leverage if leverage and factor.leverage is not None else 0.0
    if residual:
        s = factor.s
        squares = s[..., :, None, :] * s[..., None, :, :]
        outer = outer + squares / point.sigma2[..., None, None, None]
    return np.asarray(outer)


def _columns_of(parts: Pieces, residual: bool, leverage: bool) -> list[FloatArray]:
    """Of each factor, ``s / sigma`` and ``B C^-1/2``: (q, r, m)."""
    root = _semidefinite_root(np.linalg.inv(parts.point.C)) if leverage else None
    found = []
    for factor in parts.factors:
        columns = [factor.B[:, :0]]
        if residual:
            columns.append(factor.s[:, None] / np.sqrt(parts.point.sigma2))
        if root is not None:
            columns.append(np.einsum("apk,pr->ark", factor.B, root))
        found.append(np.concatenate(columns, axis=1))
    return found


def _semidefinite_root(a: FloatArray) -> FloatArray:
    """R of ``a = R R'``; rounding can take an inverse past the edge of what Cholesky accepts."""
    values, vectors = np.linalg.eigh(a)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _beta_delta(factor: FactorPieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E s`` over a factor's levels, for all directions E: shape (..., p, n)."""
    q, across, c = sum(sizes), direction_blocks(sizes), factor.columns
    own, p, groups = factor.B.shape[-3:]
    Bs = factor.B.reshape(*factor.B.shape[:-3], own * p, groups) @ transposed(factor.s)
    pairs = np.moveaxis(Bs.reshape(*Bs.shape[:-2], own, p, own), -2, -3)
    block = across if len(c) == q else across[c[:, None], c]
    flat = block.reshape(own * own, across.shape[-1])
    return np.asarray(pairs.reshape(*Bs.shape[:-2], p, own * own) @ flat)


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
            products = (left @ transposed(right)).reshape(*lead, e, f, e, f)
            pairs = np.einsum("...iljk->...ijkl", products).reshape(*lead, e * e, f * f)
            block = duplication(e).T @ pairs @ duplication(f)
            result[..., place_e, place_f] = block
            result[..., place_f, place_e] = transposed(block)
    return result


def _between(factor: FactorPieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E B`` over a factor's levels, for all directions E: shape (..., n, p, p)."""
    B = factor.B
    *lead, _, p, groups = B.shape
    sums = np.zeros((*lead, p, p, directions(sizes).shape[1]))
    for rows, place in _terms_among(sizes, tuple(factor.columns.tolist())):
        e = rows.stop - rows.start
        flat = B[..., rows, :, :].reshape(*lead, e * p, groups)
        products = (flat @ transposed(flat)).reshape(*lead, e, p, e, p)
        pairs = np.einsum("...iajb->...abij", products)
        sums[..., place] = pairs.reshape(*lead, p, p, e * e) @ duplication(e)
    return np.moveaxis(sums, -1, -3)


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
