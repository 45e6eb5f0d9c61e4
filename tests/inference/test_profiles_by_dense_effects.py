"""Profiles of models with relations, memberships and several factors, by dense algebra."""

import numpy as np
import pytest

from lmmkit.fit import Fit
from lmmkit.inference import confidence_intervals, profile
from tests.dense_oracle import Array
from tests.inference.dense_effects import design_columns, prior
from tests.inference.models import model


def dense_profiled(fitted: Fit, psi: list[Array], sigma2: float) -> float:
    """The (restricted) log-likelihood at the best beta."""
    from scipy.linalg import block_diag

    design = fitted.design
    Z, X = design_columns(design), design.X
    G = block_diag(*(prior(t, p) for t, p in zip(design.terms, psi, strict=True)))
    V = Z @ G @ Z.T + sigma2 * np.eye(len(X))
    VX = np.linalg.solve(V, X)
    information = X.T @ VX
    r = design.y - X @ np.linalg.solve(information, VX.T @ design.y)
    m = len(r) - fitted.reml * X.shape[1]
    total = m * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    total += fitted.reml * np.linalg.slogdet(information)[1]
    return float(-0.5 * total)


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
            return -dense_profiled(fitted, psi, float(sigma2 * np.exp(x[-1])))

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
