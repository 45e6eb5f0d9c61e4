"""The model's likelihood by dense n x n algebra: slow, short, and independent of lmmkit.

A model is rows ``y = offset + X beta + sum_k Z_k b_k[code_k] + eps`` with ``b_k[level]`` from
``N(0, psi_k)`` and ``eps`` from ``N(0, sigma2 / weights)``. Hence ``Var(y) = V``, with
``V = sigma2 diag(1 / weights) + sum_k H_k``, where ``H_k[i, j] = z_i' psi_k z_j`` for two rows of
one level and 0 otherwise. Where rows load on several levels, with weights ``L (N, m)``, and levels
are correlated, ``Cov(b) = K (x) psi``, ``z_i' psi_k z_j`` is multiplied by ``(L K L')[i, j]``.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]


def _one_level_a_row(term: "DenseTerm") -> Array:
    loadings: Array = np.eye(int(term.codes.max()) + 1)[term.codes]
    return loadings


def _independent_levels(term: "DenseTerm") -> Array:
    return np.eye(term.loadings.shape[1])


@attrs.frozen(eq=False)
class DenseTerm:
    """Columns ``Z (N, q)`` and level codes ``(N,)`` of one random term.

    ``loadings (N, m)`` are a row's weights on the levels, by default 1 on its own; ``between (m,
    m)`` is the covariance between levels, by default the identity.
    """

    Z: Array
    codes: NDArray[np.integer]
    loadings: Array = attrs.field(default=attrs.Factory(_one_level_a_row, takes_self=True))
    between: Array = attrs.field(default=attrs.Factory(_independent_levels, takes_self=True))


@attrs.frozen(eq=False)
class DenseModel:
    """The data of one model, rows in any order."""

    y: Array
    X: Array
    terms: tuple[DenseTerm, ...]
    weights: Array | None = None
    offset: Array | float = 0.0


def spread(term: DenseTerm, matrix: ArrayLike) -> Array:
    """``Z matrix Z'`` by ``L K L'``, 1 within a level and 0 outside: what ``matrix`` adds to V."""
    by_level = term.loadings @ term.between @ term.loadings.T
    return np.asarray(by_level * (term.Z @ np.asarray(matrix) @ term.Z.T))


def residual_direction(model: DenseModel) -> Array:
    """``d V / d sigma2 = diag(1 / weights)``."""
    return np.diag(np.ones(len(model.y)) if model.weights is None else 1 / model.weights)


def marginal_covariance(model: DenseModel, psi: Sequence[ArrayLike], sigma2: float) -> Array:
    """``V``, N x N."""
    V = sigma2 * residual_direction(model)
    for term, matrix in zip(model.terms, psi, strict=True):
        V = V + spread(term, matrix)
    return V


def dense_loglik(
    model: DenseModel, beta: ArrayLike, psi: Sequence[ArrayLike], sigma2: float, *, reml: bool
) -> float:
    """``-1/2 (m log 2 pi + log|V| + r' V^-1 r [+ log|X' V^-1 X|])``, ``r = y - offset - X beta``.

    ``m`` is N, or N - p under REML, which also has the bracket. At the GLS estimate of beta the
    REML value is the restricted log-likelihood that lme4 reports.
    """
    V = marginal_covariance(model, psi, sigma2)
    n, p = model.X.shape
    r = model.y - model.offset - model.X @ np.asarray(beta)
    total = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    if reml:
        total += np.linalg.slogdet(model.X.T @ np.linalg.solve(V, model.X))[1]
    return float(-0.5 * ((n - p * reml) * np.log(2 * np.pi) + total))


def gls(model: DenseModel, psi: Sequence[ArrayLike], sigma2: float) -> tuple[Array, Array]:
    """The generalized least-squares beta and its covariance ``(X' V^-1 X)^-1``."""
    V = marginal_covariance(model, psi, sigma2)
    information = model.X.T @ np.linalg.solve(V, model.X)
    beta = np.linalg.solve(information, model.X.T @ np.linalg.solve(V, model.y - model.offset))
    return beta, np.linalg.inv(information)


def profiled_loglik(
    model: DenseModel, psi: Sequence[ArrayLike], sigma2: float, *, reml: bool
) -> float:
    """:func:`dense_loglik` at the GLS estimate of beta."""
    return dense_loglik(model, gls(model, psi, sigma2)[0], psi, sigma2, reml=reml)


def conditional_modes(
    model: DenseModel, psi: Sequence[ArrayLike], sigma2: float
) -> tuple[tuple[Array, Array], ...]:
    """For each term the modes ``b (m, q)`` and conditional covariances ``(m, q, q)``.

    ``b = C V^-1 r`` and ``psi - C V^-1 C'`` with ``C = Cov(b, y)`` and r at the GLS estimate; the
    covariance takes beta as known, as lme4's ``condVar`` does. One level at a time.
    """
    V = marginal_covariance(model, psi, sigma2)
    r = model.y - model.offset - model.X @ gls(model, psi, sigma2)[0]
    result = []
    for term, matrix in zip(model.terms, psi, strict=True):
        modes, covariances = [], []
        with_rows = term.between @ term.loadings.T
        for with_level, own in zip(with_rows, np.diag(term.between), strict=True):
            C = np.asarray(matrix) @ (with_level[:, None] * term.Z).T
            modes.append(C @ np.linalg.solve(V, r))
            covariances.append(own * matrix - C @ np.linalg.solve(V, C.T))
        result.append((np.array(modes), np.array(covariances)))
    return tuple(result)


def vech_directions(q: int) -> Iterator[Array]:
    """The derivative of a symmetric q x q matrix by each entry of its lower triangle, by row."""
    for i in range(q):
        for j in range(i + 1):
            E = np.zeros((q, q))
            E[i, j] = E[j, i] = 1.0
            yield E


def expected_information(
    model: DenseModel, psi: Sequence[ArrayLike], sigma2: float, *, reml: bool
) -> Array:
    """Information of (every term's vech psi by row, sigma2): ``1/2 tr(P V_i P V_j)``.

    ``P`` is ``V^-1``, less ``V^-1 X (X' V^-1 X)^-1 X' V^-1`` under REML.
    """
    P = np.linalg.inv(marginal_covariance(model, psi, sigma2))
    if reml:
        PX = P @ model.X
        P = P - PX @ np.linalg.solve(model.X.T @ PX, PX.T)
    directions = [spread(term, E) for term in model.terms for E in vech_directions(term.Z.shape[1])]
    directions.append(residual_direction(model))
    products = [P @ direction for direction in directions]
    return np.array([[0.5 * np.sum(a * b.T) for b in products] for a in products])


def numeric_gradient(
    function: Callable[[Array], ArrayLike], x: ArrayLike, step: ArrayLike | None = None
) -> Array:
    """Derivatives by central differences, Richardson-extrapolated as Ridders (1982) does.

    ``function`` may return an array; the last axis of the result runs over x. ``step``, absolute,
    one for all or one a coordinate, is the largest taken, ``max(|x|, 1) / 50`` by default: the
    function must be smooth that far. Errors are about 1e-11 of ``|function| / step``.
    """
    x, steps = _steps(x, step)

    def quotient(along: Array, t: float) -> Array:
        return np.subtract(function(x + t * along), function(x - t * along)) / (2 * t)

    directions = zip(np.diag(steps), steps, strict=True)
    columns = [_ridders(functools.partial(quotient, along)) / h for along, h in directions]
    return np.stack(columns, axis=-1)


def numeric_hessian(
    function: Callable[[Array], ArrayLike], x: ArrayLike, step: ArrayLike | None = None
) -> Array:
    """Second derivatives by mixed central differences, extrapolated likewise.

    The function must be smooth for twice ``step``. Errors are below 1e-12 of ``|function| /
    step^2``.
    """
    x, steps = _steps(x, step)

    def quotient(one: Array, other: Array, t: float) -> Array:
        same, opposite = t * (one + other), t * (one - other)
        ahead = np.subtract(function(x + same), function(x + opposite))
        behind = np.subtract(function(x - opposite), function(x - same))
        return (ahead - behind) / (4 * t**2)

    n, directions = len(steps), np.diag(steps)
    lower = {
        (i, j): _ridders(functools.partial(quotient, directions[i], directions[j]))
        for i in range(n)
        for j in range(i + 1)
    }
    entries = [lower[max(i, j), min(i, j)] for i in range(n) for j in range(n)]
    matrix = np.stack(entries, axis=-1) / np.outer(steps, steps).ravel()
    return matrix.reshape(*matrix.shape[:-1], n, n)


def _steps(x: ArrayLike, step: ArrayLike | None) -> tuple[Array, Array]:
    x = np.array(x, dtype=float)
    largest = np.maximum(np.abs(x), 1.0) / 50 if step is None else step
    return x, np.broadcast_to(largest, x.shape)


def _ridders(quotient: Callable[[float], Array], levels: int = 7) -> Array:
    """The limit of a quotient at 0; of each entry, the extrapolation that changed least."""
    previous: list[Array] = []
    best = error = np.array(np.inf)
    for level in range(levels):
        row = [quotient(0.5**level)]
        for k, coarser in enumerate(previous):
            row.append(row[k] + (row[k] - coarser) / (4.0 ** (k + 1) - 1))
            change = np.maximum(np.abs(row[k + 1] - row[k]), np.abs(row[k + 1] - coarser))
            best = np.where(change < error, row[k + 1], best)
            error = np.minimum(change, error)
        previous = row
    return best
