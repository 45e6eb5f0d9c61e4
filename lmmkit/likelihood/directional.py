"""Sums over levels for all directions E, F of the relative covariances.

With one grouping factor levels are independent, and a sum over them is all; with several, the
elimination ties them (:mod:`lmmkit.likelihood.coupled`, :mod:`lmmkit.likelihood.weighted`).
"""

from functools import cache

import numpy as np

from lmmkit.likelihood.coupled import trace_products
from lmmkit.likelihood.pieces import Pieces, Point, direction_blocks, directions
from lmmkit.likelihood.weighted import inner_products
from lmmkit.linalg import duplication, transposed
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray


def trace_part(parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(W E W F)`` over all pairs of levels, for all directions: shape (..., n, n)."""
    if parts.terms.coupling is None:
        (factor,) = parts.factors
        return _sandwich(factor.W * factor.count, factor.W, sizes)
    return trace_products(parts.terms, direction_blocks(sizes))


def inner_part(
    point: Point, parts: Pieces, sizes: tuple[int, ...], residual: bool, leverage: bool = True
) -> FloatArray:
    """``sum r'E W F r`` over the residuals' s / sigma and the columns of ``B C^-1/2``."""
    if parts.terms.coupling is not None:
        columns = _columns_of(point, parts, residual, leverage and parts.restricted)
        return inner_products(parts.terms, columns, direction_blocks(sizes))
    (factor,) = parts.factors
    outer = np.zeros(()) if factor.leverage is None or not leverage else factor.leverage
    if residual:
        s = factor.s
        squares = s[..., :, None, :] * s[..., None, :, :]
        outer = outer + squares / point.sigma2[..., None, None, None]
    return _sandwich(outer, factor.W_each, sizes)


def _columns_of(point: Point, parts: Pieces, residual: bool, leverage: bool) -> list[FloatArray]:
    """Of each factor, ``s / sigma`` and ``B C^-1/2``: (q, r, m)."""
    root = _semidefinite_root(np.linalg.inv(point.C)) if leverage else None
    found = []
    for factor in parts.factors:
        columns = [factor.B[:, :0]]
        if residual:
            columns.append(factor.s[:, None] / np.sqrt(point.sigma2))
        if root is not None:
            columns.append(np.einsum("apk,pr->ark", factor.B, root))
        found.append(np.concatenate(columns, axis=1))
    return found


def _semidefinite_root(a: FloatArray) -> FloatArray:
    """R of ``a = R R'``; rounding can take an inverse past the edge of what Cholesky accepts."""
    values, vectors = np.linalg.eigh(a)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def beta_delta(parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E s`` for all directions E: shape (..., p, n)."""
    q, across = sum(sizes), direction_blocks(sizes)
    total: FloatArray = np.zeros(())
    for factor in parts.factors:
        B, c = factor.B, factor.columns
        own, p, groups = B.shape[-3:]
        Bs = B.reshape(*B.shape[:-3], own * p, groups) @ transposed(factor.s)
        pairs = np.moveaxis(Bs.reshape(*Bs.shape[:-2], own, p, own), -2, -3)
        block = across if len(c) == q else across[c[:, None], c]
        flat = block.reshape(own * own, across.shape[-1])
        total = total + pairs.reshape(*Bs.shape[:-2], p, own * own) @ flat
    return total


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


def determinant_part(C: FloatArray, parts: Pieces, sizes: tuple[int, ...]) -> FloatArray:
    """``tr(C^-1 sum B'E B C^-1 sum B'F B)`` for all directions E, F: shape (..., n, n)."""
    p = C.shape[-1]
    sums = np.zeros((*C.shape[:-2], p, p, directions(sizes).shape[1]))
    for factor in parts.factors:
        B = factor.B
        lead = B.shape[:-3]
        for rows, place in _terms_among(sizes, tuple(factor.columns.tolist())):
            e = rows.stop - rows.start
            flat = B[..., rows, :, :].reshape(*lead, e * p, B.shape[-1])
            products = (flat @ transposed(flat)).reshape(*lead, e, p, e, p)
            pairs = np.einsum("...iajb->...abij", products)
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
