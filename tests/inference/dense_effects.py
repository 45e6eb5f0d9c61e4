"""All random effects of a model side by side, by dense algebra: any factors, relations and loads.

Rows are ``y = offset + X beta + Z b + eps`` with one column of Z an effect of a level, and
``b ~ N(0, G)``, ``eps ~ N(0, sigma2 / weights)``.
"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike

from lmmkit.design.design import Design, RandomTerm
from lmmkit.fit import Fit
from lmmkit.records import IntArray
from tests.dense_oracle import Array


def columns(term: RandomTerm, Z: Array, codes: IntArray, loads: Array | None) -> Array:
    """One row a row, one column an effect of a level, the levels' effects side by side."""
    n, q = Z.shape
    codes = codes.reshape(n, -1)
    weights = np.ones(codes.shape) if loads is None else loads
    full = np.zeros((n, len(term.levels), q))
    for row in range(n):
        for code, weight in zip(codes[row], weights[row], strict=True):
            full[row, code] += weight * Z[row]
    return full.reshape(n, -1)


def prior(term: RandomTerm, psi: ArrayLike) -> Array:
    """Covariance of all effects of a term: ``K x Psi``."""
    m = len(term.levels)
    K = np.eye(m) if term.relation is None else term.relation.root @ term.relation.root.T
    return np.kron(K, np.asarray(psi))


@attrs.frozen(eq=False)
class DenseEffects:
    """Effects of all terms, and what the data say of them.

    ``covariance`` is Cov(b | y, beta); ``joint`` that of ``(beta_hat - beta, b_hat - b)``.
    """

    Z: Array
    G: Array
    V: Array
    beta: Array
    modes: Array
    covariance: Array
    joint: Array
    ends: tuple[int, ...]

    def of_term(self, k: int) -> slice:
        """Where a term's effects are."""
        return slice((0, *self.ends)[k], self.ends[k])


def design_columns(design: Design) -> Array:
    """Z of all terms side by side."""
    parts = [columns(t, t.Z, t.codes, t.loads) for t in design.terms]
    return np.concatenate([np.zeros((design.n_obs, 0)), *parts], axis=1)


def dense_effects(fitted: Fit) -> DenseEffects:
    """At the estimates of a fit."""
    psi = [np.asarray(p) for p in fitted.natural.psi]
    return effects_at(fitted.design, psi, float(fitted.natural.sigma2))


def effects_at(design: Design, psi: Sequence[Array], sigma2: float) -> DenseEffects:
    """At any variances."""
    from scipy.linalg import block_diag

    Z = design_columns(design)
    blocks = [prior(t, p) for t, p in zip(design.terms, psi, strict=True)]
    G = block_diag(*blocks)
    weights = np.ones(design.n_obs) if design.weights is None else design.weights
    V = Z @ G @ Z.T + sigma2 * np.diag(1 / weights)
    X, y = design.X, design.y - (0.0 if design.offset is None else design.offset)
    VX = np.linalg.solve(V, X)
    information = X.T @ VX
    beta = np.linalg.solve(information, VX.T @ y)
    ZG = Z @ G
    modes = ZG.T @ np.linalg.solve(V, y - X @ beta)
    covariance = G - ZG.T @ np.linalg.solve(V, ZG)
    inverse = np.linalg.inv(information)
    pull = ZG.T @ VX
    across = -pull @ inverse
    joint = np.block([[inverse, across.T], [across, covariance + pull @ inverse @ pull.T]])
    ends = np.cumsum([len(b) for b in blocks]).tolist()
    return DenseEffects(Z, G, V, beta, modes, covariance, joint, tuple(ends))


def effects_loglik(
    design: Design, beta: Array | None, psi: Sequence[Array], sigma2: float, *, reml: bool
) -> float:
    """The (restricted) log-likelihood, at the best beta where it is None."""
    from scipy.linalg import block_diag

    Z, X = design_columns(design), design.X
    G = block_diag(*(prior(t, p) for t, p in zip(design.terms, psi, strict=True)))
    weights = np.ones(design.n_obs) if design.weights is None else design.weights
    V = Z @ G @ Z.T + sigma2 * np.diag(1 / weights)
    y = design.y - (0.0 if design.offset is None else design.offset)
    VX = np.linalg.solve(V, X)
    information = X.T @ VX
    r = y - X @ (np.linalg.solve(information, VX.T @ y) if beta is None else beta)
    m = len(r) - reml * X.shape[1]
    total = m * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    total += reml * np.linalg.slogdet(information)[1]
    return float(-0.5 * total)
