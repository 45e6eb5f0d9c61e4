"""Curvature and profiles of models with relations, memberships and several factors."""

import numpy as np
import pytest

from lmmkit.inference import confidence_intervals, parameter_covariance, profile
from tests.dense_oracle import Array, vech_directions
from tests.inference.dense_effects import dense_effects, effects_loglik, prior
from tests.inference.models import MODELS, model

_BOUNDARY = ("nested",)


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("animals", ("a", "Intercept")),
        ("memberships", ("mm(a, b)", "Intercept")),
        ("nested and crossed", ("s:g", "Intercept")),
    ],
)
def test_a_standard_deviation_is_profiled(name: str, which: tuple[str, str]) -> None:
    from scipy.optimize import minimize

    fitted = model(name)
    terms = [term.group for term in fitted.design.terms]
    held = terms.index(which[0])
    sigma2 = float(fitted.natural.sigma2)
    for value, loglik in profile(fitted, which, n_points=1).select("value", "loglik").rows():

        def loss(x: Array, value: float = value) -> float:
            psi = [p * np.exp(v) for p, v in zip(fitted.natural.psi, x[:-1], strict=True)]
            psi[held] = np.array([[value**2]])
            scale = float(sigma2 * np.exp(x[-1]))
            return -effects_loglik(fitted.design, None, psi, scale, reml=True)

        found = minimize(loss, np.zeros(len(terms) + 1), method="BFGS", options={"gtol": 1e-6})
        assert loglik == pytest.approx(-found.fun, abs=1e-6)


def test_a_limit_on_the_boundary_and_one_inside() -> None:
    """The profile of a variance that might be zero ends there."""
    table = confidence_intervals(model("nested and crossed"), "profile")
    ((low, high),) = table.filter(group="s:g").select("conf_low", "conf_high").rows()
    assert low == 0.0
    assert high > 0.0
    assert (table["conf_low"] <= table["estimate"]).all()
    assert (table["conf_high"] >= table["estimate"]).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name not in _BOUNDARY])
def test_the_covariance_of_the_variances(name: str) -> None:
    """``I_ij = y'P V_i P V_j P y - tr(P V_i P V_j) / 2``: V is linear in the natural parameters.

    P takes out the fixed effects; under ML the trace is that of ``V^-1 V_i V^-1 V_j``.
    """
    fitted = model(name)
    dense, design = dense_effects(fitted), fitted.design
    weights = np.ones(design.n_obs) if design.weights is None else design.weights
    directions = []
    for k, term in enumerate(design.terms):
        Z = dense.Z[:, dense.of_term(k)]
        directions += [Z @ prior(term, E) @ Z.T for E in vech_directions(term.q)]
    directions.append(np.diag(1 / weights))
    inverse, X = np.linalg.inv(dense.V), design.X
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    offset = 0.0 if design.offset is None else design.offset
    Py = P @ (design.y - offset)
    p = X.shape[1]
    free = np.flatnonzero(fitted.objective.free[p:])
    some = [directions[i] for i in free]
    by_trace = P if fitted.reml else inverse
    products = [by_trace @ V for V in some]
    information = np.array(
        [
            [
                Py @ V @ P @ W @ Py - 0.5 * np.sum(a * b.T)
                for W, b in zip(some, products, strict=True)
            ]
            for V, a in zip(some, products, strict=True)
        ]
    )
    ours = parameter_covariance(fitted)[np.ix_(free + p, free + p)]
    expected = np.linalg.inv(information)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-6)
