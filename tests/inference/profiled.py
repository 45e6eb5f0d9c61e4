"""Profile likelihoods by general optimizers, most of them on the dense oracle."""

from collections.abc import Iterator

import numpy as np

from lmmkit.design.design import Design
from lmmkit.fit import Fit
from lmmkit.parameters.natural import NaturalParams
from tests.dense_oracle import Array, dense_loglik, gls
from tests.helpers import dense_model


def dense_profile(fitted: Fit, kind: str, position: int, value: float) -> float:
    """The largest log-likelihood of a model with one random term of one or two effects.

    ``kind`` and ``position`` say which fixed effect, standard deviation or correlation, or sigma,
    is held at ``value``. Free are the logarithms of the standard deviations and of sigma, relative
    to their estimates, and atanh of the correlation; beta follows by generalized least squares.
    """
    from scipy.optimize import minimize

    model = dense_model(fitted.design)

    def loss(x: Array) -> float:
        psi, sigma2 = _covariance(fitted, kind, position, value, x)
        beta, covariance = gls(model, (psi,), sigma2)
        if kind == "fixed":
            column = covariance[:, position]
            beta = beta - column * ((beta[position] - value) / column[position])
        return -dense_loglik(model, beta, (psi,), sigma2, reml=fitted.reml)

    options = {"gtol": 1e-6, "maxiter": 200}
    starts = _starts(fitted.design)
    ends = [minimize(loss, start, method="BFGS", options=options).fun for start in starts]
    return -float(min(ends))


def _starts(design: Design) -> Iterator[Array]:
    n = design.terms[0].q + (design.terms[0].q == 2) + 1
    yield np.zeros(n)
    yield np.random.default_rng(0).normal(scale=0.7, size=n)


def _covariance(
    fitted: Fit, kind: str, position: int, value: float, x: Array
) -> tuple[Array, float]:
    (estimate,) = fitted.natural.psi
    q = len(estimate)
    start = np.sqrt(np.diag(estimate))
    scale = np.where(start > 0, start, np.sqrt(fitted.natural.sigma2))
    sd = scale * np.exp(np.clip(x[:q], -20.0, 20.0))
    sigma = float(np.sqrt(fitted.natural.sigma2) * np.exp(np.clip(x[-1], -20.0, 20.0)))
    correlation = float(np.tanh(x[2])) if q == 2 else 0.0
    if kind == "sd":
        sd[position] = value
    if kind == "sigma":
        sigma = value
    if kind == "cor":
        correlation = value
    psi = np.outer(sd, sd)
    psi[~np.eye(q, dtype=bool)] *= correlation
    return psi, sigma**2


def correlation_profile(fitted: Fit, pair: tuple[int, int], value: float) -> float:
    """The largest log-likelihood where two effects of the only random term have a correlation.

    By sequential quadratic programming over a factor of Psi and log sigma, beta profiled out.
    """
    from scipy.optimize import minimize

    (estimate,) = fitted.natural.psi
    q = len(estimate)
    scale = np.sqrt(np.diag(estimate))
    sigma = np.sqrt(fitted.natural.sigma2)
    entries = np.tril_indices(q)

    def psi(x: Array) -> Array:
        factor = np.zeros((q, q))
        factor[entries] = x[:-1]
        return scale[:, None] * (factor @ factor.T) * scale

    def loss(x: Array) -> float:
        sigma2 = float((sigma * np.exp(x[-1])) ** 2)
        return -float(fitted.objective.loglik(NaturalParams((psi(x),), sigma2)))

    def excess(x: Array) -> float:
        matrix, (i, j) = psi(x), pair
        return float(matrix[i, j] / np.sqrt(matrix[i, i] * matrix[j, j]) - value)

    start = np.append(np.linalg.cholesky(estimate / np.outer(scale, scale))[entries], 0.0)
    constraint = {"type": "eq", "fun": excess}
    options = {"ftol": 1e-12, "maxiter": 500}
    for _ in range(3):  # numeric gradients stop a run short now and then
        found = minimize(loss, start, method="SLSQP", constraints=constraint, options=options)
        start = found.x
    return -float(found.fun)
