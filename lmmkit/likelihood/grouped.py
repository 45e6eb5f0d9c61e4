"""The one place that computes W, B and s: groups eliminated, sums over them taken.

With ``V = I + Z D Z'`` of one group and its ``F``, ``U`` (see :mod:`lmmkit.moments.collapse`),

    N = I + F'DF = L L',    log|V| = log|N|,    W = Z'V^-1 Z = Y'Y  with  Y = L^-1 F',
    Z'V^-1 [X y] = Y' L^-1 U,     [X y]'V^-1[X y] = outside + sum (L^-1 U)'(L^-1 U).

There is no subtraction, no inverse of D, and D may be singular or even (in a numeric derivative)
slightly indefinite. All quantities are relative to sigma2.
"""

import numpy as np

from lmmkit.linalg import cholesky, gram, solve_lower
from lmmkit.moments.collapse import Patterns, runs_of
from lmmkit.records import FloatArray, computed_array, record

_AT_A_TIME = 4_096


@record
class Elimination:
    """Groups eliminated at one value of D, shape (..., q, q).

    Attributes
    ----------
    log_det : ndarray (...)
        ``sum log|V|``; NaN where some V is not positive definite.
    products : ndarray (..., p + 1, p + 1)
        ``[X y]'V^-1[X y]`` summed over groups.
    root : ndarray (..., q, q, P)
        L of each pattern.
    inside : ndarray (..., q, p + 1, K)
        ``L^-1 U``.
    """

    log_det: FloatArray = computed_array()
    products: FloatArray = computed_array()
    root: FloatArray = computed_array()
    inside: FloatArray = computed_array()


@record
class GroupTerms:
    """Per-pattern W and per-group ``Z'V^-1[X y]``: what every derivative is made of.

    Attributes
    ----------
    W : ndarray (..., q, q, P)
    W_each : ndarray (..., q, q, K)
        W of the K groups or stand-ins.
    projected : ndarray (..., q, p + 1, K)
        ``Z'V^-1[X y]``: B and, in the last column, ``Z'V^-1 y``.
    count : ndarray (P,)
    """

    W: FloatArray = computed_array()
    W_each: FloatArray = computed_array()
    projected: FloatArray = computed_array()
    count: FloatArray = computed_array()


def eliminate(patterns: Patterns, D: FloatArray) -> Elimination:
    """Factor every pattern's N at ``D`` (..., q, q): O(P q^3 + K q^2 p)."""
    parts = _runs(patterns)
    if len(parts) == 1:
        only = eliminate_run(patterns, D, parts[0])
        return Elimination(only.log_det, patterns.outside + only.products, only.root, only.inside)
    lead = D.shape[:-2]
    root = np.empty((*lead, *patterns.factor.shape))
    inside = np.empty(
        (*np.broadcast_shapes(lead, patterns.inside.shape[:-3]), *patterns.inside.shape[-3:])
    )
    log_det: FloatArray = np.zeros(lead)
    products = patterns.outside
    for some in parts:
        run = eliminate_run(patterns, D, some)
        root[..., some], inside[..., some] = run.root, run.inside
        log_det, products = log_det + run.log_det, products + run.products
    return Elimination(log_det, products, root, inside)


def eliminate_run(patterns: Patterns, D: FloatArray, some: slice) -> Elimination:
    """:func:`eliminate` of a run; its products are without ``outside``."""
    F = patterns.factor[..., some]
    N = np.einsum("jip,...jlp->...ilp", F, np.einsum("...ij,jlp->...ilp", D, F))
    diagonal = np.arange(len(F))
    N[..., diagonal, diagonal, :] += 1.0
    root = cholesky(N)
    logs = np.log(root[..., diagonal, diagonal, :]).sum(axis=-2)
    if patterns.one_each:
        inside = solve_lower(root, patterns.inside[..., some])
    else:
        inside = solve_lower(root[..., patterns.pattern], patterns.inside)
    return Elimination(2.0 * (logs @ patterns.count[some]), gram(inside), root, inside)


def _runs(patterns: Patterns) -> list[slice]:
    """Runs of patterns that fit in the processor's cache, where each has one group."""
    n = len(patterns.count)
    return list(runs_of(n, _AT_A_TIME if patterns.one_each else n)) or [slice(0, 0)]


def group_terms(patterns: Patterns, elimination: Elimination) -> GroupTerms:
    """W and ``Z'V^-1[X y]`` after :func:`eliminate`."""
    root, inside = elimination.root, elimination.inside
    if len(_runs(patterns)) == 1:
        return run_terms(patterns, slice(None), root, inside)
    W, projected = np.empty_like(root), np.empty_like(inside)
    for some in _runs(patterns):
        part = run_terms(patterns, some, root[..., some], inside[..., some])
        W[..., some], projected[..., some] = part.W, part.projected
    return GroupTerms(W, W, projected, patterns.count)


def run_terms(patterns: Patterns, some: slice, root: FloatArray, inside: FloatArray) -> GroupTerms:
    """:func:`group_terms` of a run."""
    Y = solve_lower(root, np.swapaxes(patterns.factor[..., some], 0, 1))
    W = _transposed_product(Y, Y)
    each, W_each = Y, W
    if not patterns.one_each:
        each, W_each = Y[..., patterns.pattern], W[..., patterns.pattern]
    return GroupTerms(W, W_each, _transposed_product(each, inside), patterns.count[some])


def _transposed_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a' b`` of (..., k, i, P) and (..., k, j, P): shape (..., i, j, P)."""
    product: FloatArray = np.einsum("...kip,...kjp->...ijp", a, b)
    return product
