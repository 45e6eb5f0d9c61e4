"""What an optimizer's x means: for each term the packed factor T, or a structure's theta."""

import numpy as np

from lmmkit.likelihood.charts import factor_curvature, factors_jacobian
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import block_diagonal, lower, psd_factor, vech
from lmmkit.parameters.packing import split_matrices, triangle_size
from lmmkit.records import FloatArray

Slopes = tuple[tuple[FloatArray, FloatArray] | None, ...]


def split(objective: Objective, x: FloatArray) -> tuple[FloatArray, ...]:
    """Each term's part of x."""
    counts = [
        triangle_size(q) if term is None else term.n
        for term, q in zip(objective.terms, objective.sizes, strict=True)
    ]
    return tuple(np.split(x, np.cumsum(counts)[:-1])) if counts else ()


def units(objective: Objective) -> FloatArray:
    """How large a change of each element of x counts."""
    return np.concatenate(
        [
            np.ones(triangle_size(q)) if term is None else term.unit()
            for term, q in zip(objective.terms, objective.sizes, strict=True)
        ]
        or [np.empty(0)]
    )


def covariances(
    objective: Objective, x: FloatArray
) -> tuple[tuple[FloatArray, ...], list[FloatArray]]:
    """Each term's factor T, and ``D = T T'``."""
    if not objective.structures:
        factors = split_matrices(x, objective.sizes, triangular=True)
        return factors, [t @ t.T for t in factors]
    found, products = [], []
    for term, part, q in zip(
        objective.structures, split(objective, x), objective.sizes, strict=True
    ):
        T = lower(part, q) if term is None else None
        D = term.standard(part) if term is not None else None
        if T is None:
            assert D is not None
            T = psd_factor(D)
        found.append(T)
        products.append(T @ T.T if D is None else D)
    return tuple(found), products


def slopes_at(objective: Objective, x: FloatArray) -> Slopes:
    """The derivatives of each structured term's packed D by its theta."""
    if not objective.structures:
        return ()
    return tuple(
        None if term is None else term.derivatives(part)
        for term, part in zip(objective.structures, split(objective, x), strict=True)
    )


def score_of(
    factors: tuple[FloatArray, ...], G: tuple[FloatArray, ...], slopes: Slopes
) -> list[FloatArray]:
    """Each term's part of the gradient of -loglik by x; G is that of -2 loglik by D."""
    if not slopes:
        return [vech(g @ t) for g, t in zip(G, factors, strict=True)]
    return [
        vech(g @ t) if slope is None else vech(g - 0.5 * np.diag(np.diagonal(g))) @ slope[0]
        for g, t, slope in zip(G, factors, slopes, strict=True)
    ]


def jacobian_of(factors: tuple[FloatArray, ...], slopes: Slopes) -> FloatArray:
    """``d packed D / d x``, block diagonal."""
    if not slopes:
        return factors_jacobian(factors)
    return block_diagonal(
        [
            factors_jacobian((t,)) if slope is None else slope[0]
            for t, slope in zip(factors, slopes, strict=True)
        ]
    )


def curvature_of(sizes: tuple[int, ...], gradient: FloatArray, slopes: Slopes) -> FloatArray:
    """``sum_i gradient_i d2 (packed D)_i`` by x; ``gradient`` is by packed D."""
    if not slopes:
        return factor_curvature(sizes, gradient)
    parts = np.split(gradient, np.cumsum([triangle_size(q) for q in sizes])[:-1])
    return block_diagonal(
        [
            factor_curvature((q,), part) if slope is None else np.tensordot(part, slope[1], 1)
            for q, part, slope in zip(sizes, parts, slopes, strict=True)
        ]
    )
