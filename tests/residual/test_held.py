"""Parameters of residual structures held at known values."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ParameterError
from lmmkit.fit import Fit, fit
from lmmkit.inference import (
    information_criteria,
    likelihood_ratio_test,
    residual_parameters,
    variance_components,
)
from lmmkit.residual import (
    Residual,
    ar1,
    car1,
    constant_plus_power,
    exponential_variance,
    per_stratum,
    power,
    toeplitz,
)
from tests.residual.dense import effects, frame

NOISE = frame(seed=2, groups=40)
DATA = NOISE.with_columns(y=pl.col("y") + effects(NOISE, "id", 1))


def _fit(residual: Residual, fixed: Any = None, formula: str = "y ~ x + (1 | id)") -> Fit:
    return fit(formula, DATA, reml=False, residual=residual, fixed=fixed)


def _values(found: Fit) -> dict[str, float]:
    assert found.residual is not None
    return dict(zip(found.residual.names, found.residual.estimates.tolist(), strict=True))


def test_a_held_power_is_a_weight() -> None:
    held = _fit(Residual(variance=power("v")), {("Residual", "power"): 0.7})
    known = DATA.with_columns(w=pl.col("v") ** -1.4)
    weighted = fit("y ~ x + (1 | id)", known, reml=False, weights="w")
    assert held.loglik == pytest.approx(weighted.loglik, rel=1e-10)
    assert _values(held)["power"] == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize(
    ("residual", "name", "value"),
    [
        (Residual(ar1("visit")), "phi", -0.3),
        (Residual(car1("time")), "phi", 0.3),
        (Residual(ar1("visit"), per_stratum("kind")), "sd ratio kind[q]", 1.0),
        (Residual(ar1("visit"), exponential_variance("x")), "rate", 0.4),
        (Residual(variance=constant_plus_power("v")), "constant", 0.5),
    ],
)
def test_the_rest_is_estimated(residual: Residual, name: str, value: float) -> None:
    held, free = _fit(residual, {("Residual", name): value}), _fit(residual)
    assert _values(held)[name] == pytest.approx(value, rel=1e-10)
    assert held.certificate.converged
    assert held.loglik < free.loglik
    table = residual_parameters(held)
    assert table.filter(term=name)["std_error"].to_list() == [None]
    others = table.filter(pl.col("term") != name)
    assert others["std_error"].is_not_null().all()
    test = likelihood_ratio_test(held, free)
    assert test["df"].item() == 1
    counts = [information_criteria(one)["n_parameters"].item() for one in (held, free)]
    assert counts[1] - counts[0] == 1
    assert variance_components(held).filter(term=name)["std_error"].to_list() == [None]


def test_beside_a_term_without_variance() -> None:
    residual, fixed = Residual(ar1("visit", group="id")), {("Residual", "phi"): 0.5}
    held = fit("y ~ x + (1 | id)", NOISE, residual=residual, fixed=fixed)
    without = fit("y ~ x", NOISE, residual=residual, fixed=fixed)
    assert held.certificate.converged
    assert held.natural.psi[0].item() == pytest.approx(0.0, abs=1e-8)
    assert held.loglik == pytest.approx(without.loglik, rel=1e-10)


def test_held_at_the_estimate_nothing_changes() -> None:
    residual = Residual(ar1("visit"), power("v"))
    free = _fit(residual)
    estimates = _values(free)
    held = _fit(residual, {("Residual", name): value for name, value in estimates.items()})
    assert held.loglik == pytest.approx(free.loglik, rel=1e-12)
    assert held.natural.beta == pytest.approx(free.natural.beta, rel=1e-6)
    known = {("Residual", "phi"): estimates["phi"], "sigma2": float(free.natural.sigma2)}
    assert _values(_fit(residual, known))["power"] == pytest.approx(estimates["power"], rel=1e-3)


def test_a_held_power_of_the_fitted_value() -> None:
    far = "I(y + 30) ~ x + (1 | id)"
    held = _fit(Residual(variance=power()), {("Residual", "power"): 0.5}, far)
    assert held.certificate.converged
    assert _values(held)["power"] == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("fixed", "error", "words"),
    [
        ({("Residual", "rho"): 0.5}, ParameterError, r"expected \('Residual', 'phi'\)"),
        ({("Residual",): 0.5}, ParameterError, "no parameter of the residual structure"),
        ({("Residual", "phi"): 1.0}, ParameterError, "between -1 and 1, bounds excluded, got 1"),
        ({("Residual", "phi"): "a"}, ParameterError, "expected a number between -1 and 1"),
        ({("Residual", "phi"): np.nan}, ParameterError, "got nan"),
        ([("Residual", "phi")], ParameterError, "expected a mapping"),
    ],
)
def test_errors(fixed: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        _fit(Residual(ar1("visit")), fixed)


def test_values_that_depend_on_others_can_be_held() -> None:
    lags = Residual(toeplitz("visit", group="id"))
    known = {("Residual", "rho2"): 0.2, ("Residual", "rho3"): 0.1}
    held = _fit(lags, known, "y ~ x")
    assert held.certificate.converged
    assert [_values(held)[name] for name in ("rho2", "rho3")] == pytest.approx([0.2, 0.1], 1e-12)
    table = residual_parameters(held)
    assert table["std_error"].is_null().to_list() == [False, True, True, False]
    theta = np.array(held.residual.theta) if held.residual else np.empty(0)
    assert (np.abs(theta) < 5.0).all()


def test_values_out_of_reach() -> None:
    lags = Residual(toeplitz("visit", group="id"))
    known = {("Residual", "rho1"): 0.9, ("Residual", "rho2"): 0.1}
    with pytest.raises(ParameterError, match=r"no parameters .* satisfy rho1 = 0.9, rho2 = 0.1"):
        _fit(lags, known, "y ~ x")
