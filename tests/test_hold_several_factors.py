"""Holding parameters of models with several factors, against smaller models and algebra."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.inference import fixed_effects, parameter_covariance, variance_components
from tests.dense_oracle import Array, dense_loglik, numeric_hessian, profiled_loglik
from tests.helpers import dense_model
from tests.inference.models import crossed_frame, model


def held(formula: str, fixed: dict[Any, float], reml: bool = True) -> Fit:
    return fit(formula, crossed_frame(), reml=reml, fixed=fixed)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(
    ("formula", "zeros", "without"),
    [
        ("y ~ x + (1 | s) + (1 | d)", [("d", "Intercept")], "y ~ x + (1 | s)"),
        ("y ~ x + (1 | s) + (1 | d)", [("s", "Intercept")], "y ~ x + (1 | d)"),
        ("y ~ x + (x | s) + (1 | d)", [("s", "x")], "y ~ x + (1 | s) + (1 | d)"),
        ("y ~ x + (x | s) + (1 | d)", [("s", "x"), ("s", "Intercept")], "y ~ x + (1 | d)"),
        (
            "y ~ x + (1 | s/g) + (1 | d)",
            [("s", "Intercept"), ("d", "Intercept")],
            "y ~ x + (1 | s:g)",
        ),
        ("y ~ x + (1 | s) + (1 | d)", [("s", "Intercept"), ("d", "Intercept")], "y ~ x"),
    ],
)
def test_a_variance_held_at_zero_leaves_the_effect_out(
    formula: str, zeros: list[tuple[str, str]], without: str, reml: bool
) -> None:
    ours = held(formula, dict.fromkeys(zeros, 0.0), reml)
    theirs = fit(without, crossed_frame(), reml=reml)
    assert ours.certificate.converged
    assert ours.loglik == pytest.approx(theirs.loglik, abs=1e-8)
    for name in ("estimate", "std_error"):
        np.testing.assert_allclose(
            fixed_effects(ours)[name], fixed_effects(theirs)[name], rtol=1e-6
        )
    table = variance_components(ours).filter(pl.col("std_error").is_null())
    assert set(zeros) <= set(table.select("group", "term").rows())
    rest = variance_components(ours).drop_nulls("std_error")
    np.testing.assert_allclose(
        rest["estimate"], variance_components(theirs)["estimate"], rtol=1e-4, atol=1e-6
    )


def _unpacked(fitted: Fit, packed: Array) -> tuple[list[Array], float]:
    matrices: list[Array] = []
    start = 0
    for term in fitted.design.terms:
        lower = np.zeros((term.q, term.q))
        end = start + term.q * (term.q + 1) // 2
        lower[np.tril_indices(term.q)] = packed[start:end]
        matrices.append(lower + np.tril(lower, -1).T)
        start = end
    return matrices, float(packed[-1])


@pytest.mark.parametrize("reml", [False, True])
def test_held_entries_of_a_covariance_are_a_constrained_maximum(reml: bool) -> None:
    from scipy.optimize import minimize

    values = {("s", "Intercept"): 0.8, ("s", "Intercept", "x"): 0.1, ("d", "Intercept"): 0.3}
    ours = held("y ~ x + (x | s) + (1 | d)", values, reml)
    assert ours.certificate.converged
    packed = ours.natural.pack()[2:]
    np.testing.assert_allclose(packed[[0, 1, 3]], list(values.values()), rtol=1e-12)
    dense = dense_model(ours.design)

    def loss(free: Array) -> float:
        slope, sigma2 = np.exp(free)
        matrices, _ = _unpacked(ours, np.array([0.8, 0.1, slope, 0.3, sigma2]))
        return -profiled_loglik(dense, matrices, float(sigma2), reml=reml)

    found = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-7})
    assert ours.loglik == pytest.approx(-found.fun, abs=1e-7)
    np.testing.assert_allclose(packed[[2, 4]], np.exp(found.x), rtol=1e-4)


def test_standard_errors_beside_held_entries() -> None:
    """The inverse of minus the Hessian of the dense log-likelihood over what is free."""
    ours = model("held variances")
    free = ours.objective.free
    at, dense = ours.natural.pack(), dense_model(ours.design)

    def loglik(some: Array) -> float:
        packed = at.copy()
        packed[free] = some
        matrices, sigma2 = _unpacked(ours, packed[2:])
        return dense_loglik(dense, packed[:2], matrices, sigma2, reml=True)

    expected = np.linalg.inv(-numeric_hessian(loglik, at[free], 0.01))
    found = parameter_covariance(ours)
    np.testing.assert_allclose(found[np.ix_(free, free)], expected, rtol=1e-5, atol=1e-8)
    assert np.isnan(found[~free]).all()


def test_held_fixed_effects_and_sigma2() -> None:
    from scipy.optimize import minimize

    ours = held("y ~ x + (1 | s) + (1 | d)", {"x": 0.5, "sigma2": 2.0}, reml=False)
    dense = dense_model(ours.design)

    def loss(free: Array) -> float:
        psi = [np.exp(np.array([[v]])) for v in free[1:]]
        return -dense_loglik(dense, [free[0], 0.5], psi, 2.0, reml=False)

    found = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
    assert ours.loglik == pytest.approx(-found.fun, abs=1e-7)
    assert ours.natural.sigma2 == 2.0
    np.testing.assert_allclose(fixed_effects(ours)["estimate"], [found.x[0], 0.5], rtol=1e-5)
