"""Everything that is computed from a fit, for crossed and nested factors, by the dense oracle."""

import functools

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import DataError
from lmmkit.fit import Fit, fit
from lmmkit.inference import (
    likelihood_ratio_test,
    parameter_covariance,
    predict,
    profile,
    random_effects,
    random_effects_covariance,
    residuals,
    simulate,
)
from tests.dense_oracle import (
    Array,
    DenseModel,
    conditional_modes,
    dense_loglik,
    gls,
    marginal_covariance,
    numeric_hessian,
    profiled_loglik,
    residual_direction,
)
from tests.helpers import dense_model

_DRAWS = 4000
FORMULAS = {
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + (x | g) + (1 | h)",
    "nested": "y ~ x + (x | g) + (1 | g:k)",
    "nested and crossed": "y ~ x + (1 | g) + (0 + x | g) + (1 | g:k) + (1 | h)",
    "no variance between h": "y ~ x + (x | g) + (1 | null)",
}
EVERY = pytest.mark.parametrize("name", FORMULAS)


@functools.cache
def frame() -> pl.DataFrame:
    """96 rows: eight g with three k in each, seven h by chance, ``null`` without an effect."""
    draw = np.random.default_rng(5)
    g = np.sort(draw.integers(0, 8, 96))
    k, h = draw.integers(0, 3, 96), draw.integers(0, 7, 96)
    x = draw.normal(size=96)
    y = 2.0 + 0.5 * x + 1.5 * draw.normal(size=7)[h] + 1.2 * draw.normal(size=(8, 3))[g, k]
    y += 1.4 * draw.normal(size=8)[g] + 0.9 * draw.normal(size=8)[g] * x + draw.normal(size=96)
    columns = {"y": y, "x": x, "g": g, "k": k, "h": h, "null": np.arange(96) % 4}
    table = pl.DataFrame(columns).with_columns(pl.col("g", "k", "h", "null").cast(pl.String))
    table = table.with_columns(w=draw.uniform(0.5, 2.0, 96), shift=draw.normal(size=96))
    return table.sample(fraction=1.0, shuffle=True, seed=1)


@functools.cache
def fitted(name: str) -> Fit:
    return fit(FORMULAS[name], frame(), weights="w", offset="shift")


def oracle(name: str) -> tuple[DenseModel, tuple[Array, ...], float]:
    natural = fitted(name).natural
    return dense_model(fitted(name).design), natural.psi, float(natural.sigma2)


def test_one_case_is_at_the_boundary() -> None:
    singular = {name: fitted(name).certificate.singular for name in FORMULAS}
    assert singular.pop("no variance between h") == (1,)
    assert all(terms == () for terms in singular.values())


@EVERY
def test_the_optimum(name: str) -> None:
    """No other parameters nearby are better, and the dense log-likelihood is the same."""
    model, psi, sigma2 = oracle(name)
    best = profiled_loglik(model, psi, sigma2, reml=True)
    assert fitted(name).loglik == pytest.approx(best, rel=1e-11)
    draw = np.random.default_rng(0)
    for _ in range(20):
        near = [p + 0.05 * (np.eye(len(p)) + p) * draw.uniform(-1, 1) for p in psi]
        if all(np.linalg.eigvalsh(p)[0] >= 0 for p in near):
            scale = sigma2 * draw.uniform(0.9, 1.1)
            assert profiled_loglik(model, near, scale, reml=True) <= best + 1e-9


@EVERY
def test_modes_and_their_covariances(name: str) -> None:
    result = fitted(name)
    flat = random_effects(result)["estimate"].to_numpy()
    sizes = [len(term.levels) * term.q for term in result.design.terms]
    ours = zip(
        np.split(flat, np.cumsum(sizes)[:-1]), random_effects_covariance(result), strict=True
    )
    for (modes, covariances), (theirs, their_covariances) in zip(
        ours, conditional_modes(*oracle(name)), strict=True
    ):
        np.testing.assert_allclose(modes, theirs.ravel(), atol=1e-8)
        np.testing.assert_allclose(covariances, their_covariances, atol=1e-8)


@EVERY
def test_residuals(name: str) -> None:
    model, psi, sigma2 = oracle(name)
    V = marginal_covariance(model, psi, sigma2)
    r = model.y - model.offset - model.X @ gls(model, psi, sigma2)[0]
    inverse_r = np.linalg.solve(V, r)
    marginal, conditional, normalized = (
        residuals(fitted(name), kind)["residual"].to_numpy()
        for kind in ("marginal", "conditional", "normalized")
    )
    np.testing.assert_allclose(marginal, r, atol=1e-8)
    np.testing.assert_allclose(
        conditional, sigma2 * residual_direction(model) @ inverse_r, atol=1e-8
    )
    assert (normalized**2).sum() == pytest.approx(r @ inverse_r, rel=1e-8)


def new_rows() -> pl.DataFrame:
    """Known levels; a new g; a new h; known ones in a new combination; everything new."""
    table = pl.DataFrame(
        {
            "x": [0.3, -1.0, 2.0, 0.0, 1.0],
            "g": ["1", "new", "2", "3", "new"],
            "k": ["0", "0", "1", "9", "new"],
            "h": ["2", "2", "new", "3", "new"],
            "null": ["0", "0", "new", "3", "new"],
        }
    )
    return table.with_columns(shift=pl.lit(0.25))


@EVERY
def test_predictions_of_new_rows(name: str) -> None:
    """``Var(x'beta_hat + z'b_hat - z'b)``: what V leaves of the prior, and beta's part."""
    result, new = fitted(name), new_rows()
    model, psi, sigma2 = oracle(name)
    V = marginal_covariance(model, psi, sigma2)
    beta, beta_cov = gls(model, psi, sigma2)
    r = model.y - model.offset - model.X @ beta
    X = np.column_stack([np.ones(new.height), new["x"]])
    across, prior = np.zeros((new.height, len(r))), np.zeros(new.height)
    for term, matrix in zip(result.design.terms, psi, strict=True):
        labels = new.select(pl.concat_str(term.group.split(":"), separator=":")).to_series()
        Z = np.column_stack([X[:, ["Intercept", "x"].index(effect)] for effect in term.names])
        same = labels.to_numpy()[:, None] == term.levels.to_numpy()[term.codes]
        across += np.where(same, Z @ matrix @ term.Z.T, 0.0)
        prior += np.einsum("na,ab,nb->n", Z, matrix, Z)
    table = predict(result, new, std_error=True)
    weights = np.linalg.solve(V, across.T).T
    np.testing.assert_allclose(table["estimate"], 0.25 + X @ beta + weights @ r, atol=1e-8)
    left = X - weights @ model.X
    variance = prior - (weights * across).sum(axis=1)
    variance += np.einsum("na,ab,nb->n", left, beta_cov, left)
    np.testing.assert_allclose(table["std_error"], np.sqrt(variance), atol=1e-8)
    with pytest.raises(DataError, match="have a level of"):
        predict(result, new, new_levels="raise")


@EVERY
def test_predictions_of_the_rows_of_the_fit(name: str) -> None:
    result = fitted(name)
    table = predict(result, std_error=True)
    again = predict(result, frame(), std_error=True)
    np.testing.assert_allclose(table["estimate"], residuals(result)["fitted"], atol=1e-10)
    np.testing.assert_allclose(again["estimate"], table["estimate"], atol=1e-10)
    np.testing.assert_allclose(again["std_error"], table["std_error"], atol=1e-10)


@EVERY
def test_simulated_responses_have_the_marginal_moments(name: str) -> None:
    model, psi, sigma2 = oracle(name)
    V = marginal_covariance(model, psi, sigma2)
    draws = simulate(fitted(name), _DRAWS, seed=3).drop("row").to_numpy().T
    mean = residuals(fitted(name), "marginal")["fitted"].to_numpy()
    variance = np.diag(V)
    assert np.abs((draws.mean(axis=0) - mean) / np.sqrt(variance / _DRAWS)).max() < 5.0
    centred = draws - mean
    error = np.sqrt((np.outer(variance, variance) + V**2) / _DRAWS)
    assert np.abs((centred.T @ centred / _DRAWS - V) / error).max() < 5.0


@pytest.mark.parametrize("name", list(FORMULAS)[:4])
def test_the_covariance_of_the_estimates(name: str) -> None:
    """The inverse of minus the Hessian of the dense log-likelihood at the natural parameters."""
    model, psi, _ = oracle(name)
    natural = fitted(name).natural
    sizes = [len(matrix) for matrix in psi]

    def loglik(packed: Array) -> float:
        matrices, start = [], 2
        for q in sizes:
            lower = np.zeros((q, q))
            end = start + q * (q + 1) // 2
            lower[np.tril_indices(q)] = packed[start:end]
            matrices.append(lower + np.tril(lower, -1).T)
            start = end
        return dense_loglik(model, packed[:2], matrices, packed[-1], reml=True)

    at = natural.pack()
    step = np.maximum(np.abs(at), 1e-3 * at[-1]) / 50
    expected = np.linalg.inv(-numeric_hessian(loglik, at, step))
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    ours = parameter_covariance(fitted(name))
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-5)


def test_a_profile_is_the_constrained_maximum() -> None:
    from scipy.optimize import minimize

    result = fitted("crossed")
    model, psi, sigma2 = oracle("crossed")
    curve = profile(result, ("h", "Intercept"), n_points=2)
    for value, loglik in curve.select("value", "loglik").rows():

        def loss(x: Array, value: float = value) -> float:
            other = np.array([[np.exp(x[0]) * psi[0].item()]])
            held = np.array([[value**2]])
            return -profiled_loglik(model, [other, held], np.exp(x[1]) * sigma2, reml=True)

        found = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-7})
        assert loglik == pytest.approx(-found.fun, abs=1e-6)


def test_a_crossed_factor_is_tested_against_the_mixture() -> None:
    smaller = fit("y ~ x + (1 | g)", frame(), weights="w", offset="shift")
    table = likelihood_ratio_test(smaller, fitted("crossed"))
    statistic = 2.0 * (fitted("crossed").loglik - smaller.loglik)
    assert table["statistic"].item() == pytest.approx(statistic, rel=1e-9)
    assert table["df"].item() == 1
    from scipy.stats import chi2

    assert table["p_value"].item() == pytest.approx(0.5 * chi2.sf(statistic, 1), rel=1e-8)
