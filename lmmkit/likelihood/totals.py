"""Sums over many levels of the only grouping factor, in one pass that stores nothing of a level.

With W and ``P = Z'V^-1[X y]`` of a level, value and all derivatives are functions of

    sum log|V|,    sum U'N^-1 U,    sum W,    sum W x W,    sum P x P,    sum W x P x P,

whatever beta is. Where levels are many and effects few, taking these costs less than writing W and
P of each level to memory and reading them again.
"""

import numpy as np

from lmmkit.likelihood.directions import direction_blocks, directions
from lmmkit.likelihood.grouped import eliminate_run, run_terms
from lmmkit.likelihood.sums import LevelSums
from lmmkit.linalg import duplication, symmetric, triangle
from lmmkit.moments.collapse import Patterns, runs_of
from lmmkit.records import FloatArray, computed_array, record

_MANY_LEVELS = 2_000
_FEW_PRODUCTS = 100
_CACHED = 160_000
_LONGEST_RUN = 8_192


@record
class Totals:
    """The sums at one value of D; r is p + 1.

    Attributes
    ----------
    log_det : ndarray (...)
    products : ndarray (..., r, r)
        ``[X y]'V^-1[X y]``.
    W : ndarray (..., q, q)
    WW : ndarray (..., q, q, q, q)
    PP : ndarray (..., q, r, q, r)
    WPP : ndarray (..., q, q, q, r, q, r)
    """

    log_det: FloatArray = computed_array()
    products: FloatArray = computed_array()
    W: FloatArray = computed_array()
    WW: FloatArray = computed_array()
    PP: FloatArray = computed_array()
    WPP: FloatArray = computed_array()

    def leverage(self, C: FloatArray) -> FloatArray:
        """``sum B C^-1 B'``: (..., q, q)."""
        PP, inverse = self.PP[..., :-1, :, :-1], np.linalg.inv(C)
        return np.asarray(np.einsum("...aibj,...ij->...ab", PP, inverse))

    def squares(self, beta: FloatArray) -> FloatArray:
        """``sum s s'``: (..., q, q)."""
        v = _residual(beta)
        return np.asarray(np.einsum("...aibj,...i,...j->...ab", self.PP, v, v))

    def level_sums(
        self, C: FloatArray, beta: FloatArray, restricted: bool, sizes: tuple[int, ...]
    ) -> LevelSums:
        """What second derivatives are made of."""
        v, across = _residual(beta), direction_blocks(sizes)
        n, p = across.shape[-1], C.shape[-1]
        leverage: FloatArray = np.zeros((n, n))
        between: FloatArray = np.zeros((n, p, p))
        if restricted:
            WPP = self.WPP[..., :-1, :, :-1]
            products = np.einsum("...abcidj,...ij->...abcd", WPP, np.linalg.inv(C))
            leverage = _along(products, sizes)
            PP = self.PP[..., :-1, :, :-1]
            between = np.einsum("...aibj,abn->...nij", PP, across)
        products = np.einsum("...abcidj,...i,...j->...abcd", self.WPP, v, v)
        return LevelSums(
            trace=_along(self.WW, sizes),
            leverage=leverage,
            residual=_along(products, sizes),
            beta_delta=np.einsum("...aibj,...j,abn->...in", self.PP[..., :-1, :, :], v, across),
            between=between,
        )


def better_as_totals(patterns: Patterns) -> bool:
    """Whether the sums are cheaper than arrays over the levels."""
    q, r = patterns.inside.shape[-3:-1]
    few = 0 < q * r * (q * r + 1) // 2 <= _FEW_PRODUCTS
    return patterns.one_each and len(patterns.count) >= _MANY_LEVELS and few


def totals(patterns: Patterns, D: FloatArray) -> Totals:
    """The sums over all levels at ``D`` (..., q, q), a run in the processor's cache at a time."""
    q, r, n = patterns.inside.shape[-3:]
    lead = np.broadcast_shapes(D.shape[:-2], patterns.inside.shape[:-3])
    n_W, n_P = len(triangle(q)[0]), q * r
    width = n_W + len(triangle(n_P)[0])
    step = min(max(_CACHED // width, 1), _LONGEST_RUN, n)
    left, right = np.ones((*lead, 1 + n_W, step)), np.empty((*lead, width, step))
    log_det, products = np.zeros(D.shape[:-2]), patterns.outside
    sums: FloatArray = np.zeros((*lead, 1 + n_W, width))
    for some in runs_of(n, step):
        run = eliminate_run(patterns, D, some)
        terms = run_terms(patterns, some, run.root, run.inside)
        log_det, products = log_det + run.log_det, products + run.products
        own = slice(0, terms.W.shape[-1])
        _fill(terms.W, terms.projected, left[..., own], right[..., own])
        sums += np.vecdot(left[..., :, None, own], right[..., None, :, own])
    W, WW = sums[..., 0, :n_W], sums[..., 1:, :n_W]
    PP, WPP = sums[..., 0, n_W:], sums[..., 1:, n_W:]
    W_full, P_full = duplication(q).T, duplication(n_P).T
    return Totals(
        log_det=log_det,
        products=products,
        W=symmetric(W, q),
        WW=(W_full.T @ WW @ W_full).reshape(*lead, q, q, q, q),
        PP=symmetric(PP, n_P).reshape(*lead, q, r, q, r),
        WPP=(W_full.T @ WPP @ P_full).reshape(*lead, q, q, q, r, q, r),
    )


def _fill(W: FloatArray, P: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """``[1 vech W]`` and ``[vech W  vech vec(P) vec(P)']`` of each level."""
    rows, columns = triangle(W.shape[-2])
    start = len(rows)
    left[..., 1:, :] = right[..., :start, :] = W[..., rows, columns, :]
    vector = P.reshape(*P.shape[:-3], -1, P.shape[-1])
    for i in range(vector.shape[-2]):
        here = slice(start, start + i + 1)
        np.multiply(vector[..., i : i + 1, :], vector[..., : i + 1, :], out=right[..., here, :])
        start = here.stop


def _residual(beta: FloatArray) -> FloatArray:
    """The vector v of ``y - X beta = [X y] v``."""
    return np.concatenate([-beta, np.ones((*beta.shape[:-1], 1))], axis=-1)


def _along(products: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """``sum tr(R E W F)`` for all directions, from ``sum R x W`` (..., q, q, q, q)."""
    q, across = products.shape[-1], directions(sizes)
    pairs = np.einsum("...abcd->...bcad", products)
    return np.asarray(across.T @ pairs.reshape(*pairs.shape[:-4], q * q, q * q) @ across)
