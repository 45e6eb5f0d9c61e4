"""The one place that computes W, B and s: groups eliminated, sums over them taken.

With ``V = I + Z D Z'`` of one group and its ``F``, ``U`` (see :mod:`lmmkit.moments.collapse`),

    N = I + F'DF = L L',    log|V| = log|N|,    W = Z'V^-1 Z = Y'Y  with  Y = L^-1 F',
    Z'V^-1 [X y] = Y' L^-1 U,     [X y]'V^-1[X y] = outside + sum (L^-1 U)'(L^-1 U).

There is no subtraction, no inverse of D, and D may be singular or even (in a numeric derivative)
slightly indefinite. All quantities are relative to sigma2.
"""

import numpy as np

from lmmkit.linalg import cholesky, gram, solve_lower
from lmmkit.moments.collapse import Patterns
from lmmkit.records import FloatArray, computed_array, record


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
    F = patterns.factor
    q, _, P = F.shape
    DF = (D @ F.reshape(q, q * P)).reshape(*D.shape[:-2], *F.shape)
    N = np.einsum("jip,...jlp->...ilp", F, DF)
    diagonal = np.arange(q)
    N[..., diagonal, diagonal, :] += 1.0
    root = cholesky(N)
    log_det = 2.0 * (np.log(root[..., diagonal, diagonal, :]).sum(axis=-2) @ patterns.count)
    each = root if patterns.one_each else root[..., patterns.pattern]
    inside = solve_lower(each, patterns.inside)
    return Elimination(
        log_det=log_det, products=patterns.outside + gram(inside, inside), root=root, inside=inside
    )


def group_terms(patterns: Patterns, elimination: Elimination) -> GroupTerms:
    """W and ``Z'V^-1[X y]`` after :func:`eliminate`."""
    Y = solve_lower(elimination.root, np.swapaxes(patterns.factor, 0, 1))
    W = _transposed_product(Y, Y)
    if patterns.one_each:
        return GroupTerms(W, W, _transposed_product(Y, elimination.inside), patterns.count)
    each = Y[..., patterns.pattern]
    return GroupTerms(
        W,
        W[..., patterns.pattern],
        _transposed_product(each, elimination.inside),
        patterns.count,
    )


def _transposed_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a' b`` of (..., k, i, P) and (..., k, j, P): shape (..., i, j, P)."""
    product: FloatArray = np.einsum("...kip,...kjp->...ijp", a, b)
    return product
