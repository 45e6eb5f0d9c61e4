"""Sums over a grouping factor's levels for all directions E, F of the relative covariances."""

import numpy as np

from lmmkit.likelihood.directions import direction_blocks, directions, terms_among, terms_of
from lmmkit.linalg import duplication, transposed
from lmmkit.records import FloatArray, IntArray, computed_array, record


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
class LevelSums:
    """What second derivatives are made of where levels are independent.

    Attributes
    ----------
    trace : ndarray (..., n, n)
        ``sum tr(W E W F)``.
    leverage : ndarray (..., n, n)
        ``sum tr(C^-1 B'E W F B)``; zero under ML.
    residual : ndarray (..., n, n)
        ``sum s'E W F s``.
    beta_delta : ndarray (..., p, n)
        ``sum B'E s``.
    between : ndarray (..., n, p, p)
        ``sum B'E B``; zero under ML.
    """

    trace: FloatArray = computed_array()
    leverage: FloatArray = computed_array()
    residual: FloatArray = computed_array()
    beta_delta: FloatArray = computed_array()
    between: FloatArray = computed_array()


def level_sums(factor: FactorPieces, sizes: tuple[int, ...], *, residual: bool = True) -> LevelSums:
    """The sums over the levels of ``factor``; those with s are zero unless ``residual``."""
    s, n, p = factor.s, directions(sizes).shape[1], factor.B.shape[-2]
    nothing: FloatArray = np.zeros((n, n))
    leverage = factor.leverage
    return LevelSums(
        trace=_sandwich(factor.W * factor.count, factor.W, sizes),
        leverage=nothing if leverage is None else _sandwich(leverage, factor.W_each, sizes),
        residual=_sandwich(s[..., :, None, :] * s[..., None, :, :], factor.W_each, sizes)
        if residual
        else nothing,
        beta_delta=beta_delta(factor, sizes) if residual else np.zeros((p, n)),
        between=np.zeros((n, p, p)) if leverage is None else between(factor, sizes),
    )


def beta_delta(factor: FactorPieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E s`` over a factor's levels, for all directions E: shape (..., p, n)."""
    q, across, c = sum(sizes), direction_blocks(sizes), factor.columns
    own, p, groups = factor.B.shape[-3:]
    Bs = factor.B.reshape(*factor.B.shape[:-3], own * p, groups) @ transposed(factor.s)
    pairs = np.swapaxes(Bs.reshape(*Bs.shape[:-2], own, p, own), -2, -3)
    block = across if len(c) == q else across[c[:, None], c]
    flat = block.reshape(own * own, across.shape[-1])
    return np.asarray(pairs.reshape(*Bs.shape[:-2], p, own * own) @ flat)


def between(factor: FactorPieces, sizes: tuple[int, ...]) -> FloatArray:
    """``sum B'E B`` over a factor's levels, for all directions E: shape (..., n, p, p)."""
    B = factor.B
    *lead, _, p, groups = B.shape
    sums = np.zeros((*lead, directions(sizes).shape[1], p, p))
    for rows, place in terms_among(sizes, tuple(factor.columns.tolist())):
        e = rows.stop - rows.start
        flat = B[..., rows, :, :].reshape(*lead, e * p, groups)
        products = np.swapaxes((flat @ transposed(flat)).reshape(*lead, e, p, e, p), -3, -2)
        packed = duplication(e).T @ products.reshape(*lead, e * e, p * p)
        sums[..., place, :, :] = packed.reshape(*packed.shape[:-1], p, p)
    return sums


def _sandwich(R: FloatArray, W: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(R E W F)`` over the last axis, for all directions E, F: shape (..., n, n).

    Directions lie inside terms, so that of R and W (..., q, q, K) only the block of E's term and
    F's is needed at a time.
    """
    blocks = terms_of(sizes)
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
