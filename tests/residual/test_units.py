"""Variance functions follow the units of the response and of their covariates."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.inference import fixed_effects, residual_parameters
from lmmkit.residual import (
    Residual,
    constant_plus_power,
    exponential,
    exponential_variance,
    power,
)
from lmmkit.residual.variances import OfCovariate


def _data() -> pl.DataFrame:
    draw = np.random.default_rng(3)
    n = 120
    x, u = draw.uniform(1.0, 5.0, n), draw.uniform(1.0, 4.0, n)
    mean = 2.0 + 3.0 * x
    y = mean + 0.1 * mean**1.2 * u**0.5 * draw.normal(size=n)
    return pl.DataFrame({"y": y, "x": x, "u": u, "g": np.repeat(np.arange(20), 6)})


DATA = _data()
VARIANCES: dict[str, tuple[Callable[[str | None], OfCovariate], int]] = {
    "power": (power, 0),
    "rate": (exponential_variance, -1),
}


def _fit(variance: OfCovariate, formula: str, *, y: float = 1.0, u: float = 1.0) -> Fit:
    scaled = DATA.with_columns(pl.col("y") * y, pl.col("u") * u)
    return fit(formula, scaled, residual=Residual(variance=variance))


def _errors(found: Fit, c: float, unit: int) -> list[float]:
    """Of the fixed effects and of the parameter, in the units of the data."""
    own = residual_parameters(found)["std_error"].item() / c**unit
    return [*(fixed_effects(found)["std_error"] / c), own]


@pytest.mark.parametrize("c", [1e3, 1e-4, 1e16])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"])
@pytest.mark.parametrize("name", VARIANCES)
def test_variances_of_the_fitted_value_in_other_units(name: str, formula: str, c: float) -> None:
    variance, unit = VARIANCES[name]
    plain, scaled = _fit(variance(None), formula), _fit(variance(None), formula, y=c)
    assert plain.residual is not None
    assert scaled.residual is not None
    assert plain.natural.beta is not None
    assert scaled.natural.beta is not None
    assert scaled.certificate.converged
    shift = (DATA.height - 2) * np.log(c)
    assert scaled.loglik + shift == pytest.approx(plain.loglik, abs=1e-6)
    assert scaled.natural.beta / c == pytest.approx(plain.natural.beta, rel=1e-6)
    assert scaled.residual.estimates / c**unit == pytest.approx(plain.residual.estimates, rel=1e-6)
    for psi, other in zip(plain.natural.psi, scaled.natural.psi, strict=True):
        assert other / c**2 == pytest.approx(psi, rel=1e-4)
    assert _errors(scaled, c, unit) == pytest.approx(_errors(plain, 1.0, unit), rel=1e-4)


@pytest.mark.parametrize("c", [1e3, 1e-4])
def test_constant_plus_power_in_other_units_of_its_covariate(c: float) -> None:
    draw = np.random.default_rng(8)
    u, x = draw.uniform(0.1, 4.0, 400), draw.normal(size=400)
    data = pl.DataFrame({"y": x + (0.5 + u**1.5) * draw.normal(size=400), "x": x, "u": u})
    variance = Residual(variance=constant_plus_power("u"))
    plain = fit("y ~ x", data, residual=variance)
    scaled = fit("y ~ x", data.with_columns(pl.col("u") * c), residual=variance)
    assert plain.residual is not None
    assert scaled.residual is not None
    assert not plain.certificate.boundary
    assert scaled.loglik == pytest.approx(plain.loglik, abs=1e-6)
    (constant, exponent), (other, same) = plain.residual.estimates, scaled.residual.estimates
    assert same == pytest.approx(exponent, rel=1e-5)
    assert other == pytest.approx(constant * c**exponent, rel=1e-4)
    errors = [residual_parameters(each)["std_error"][1] for each in (plain, scaled)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


def test_the_standard_error_of_a_power_by_a_dense_profile() -> None:
    """Of REML, by differences in the power with all else at its best."""
    found = _fit(power("u"), "y ~ x", u=1e3)
    assert found.residual is not None
    at, u, step = float(found.residual.estimates[0]), 1e3 * DATA["u"].to_numpy(), 1e-2

    def profile(exponent: float) -> float:
        weights = (u / 1e3) ** (-2.0 * exponent)
        return fit("y ~ x", DATA.with_columns(w=weights), weights="w").loglik

    bend = (profile(at + step) - 2.0 * profile(at) + profile(at - step)) / step**2
    error = residual_parameters(found)["std_error"].item()
    assert error == pytest.approx(1.0 / np.sqrt(-bend), rel=1e-3)


@pytest.mark.parametrize("c", [1e3, 1e-4])
def test_a_climb_towards_a_bound_ends_in_one_place(c: float) -> None:
    """Rows next to one another repel each other: the range goes to 0 beside a random intercept."""
    draw = np.random.default_rng(1)
    effects = np.repeat(draw.normal(size=14), 5)
    drawn = draw.normal(size=(14, 6))
    noise = drawn[:, 1:] - 0.3 * drawn[:, :-1]
    data = pl.DataFrame(
        {
            "y": 12.0 + effects + noise.ravel(),
            "t": np.tile(np.arange(5), 14),
            "id": np.repeat(np.arange(14), 5),
        }
    )
    structure = Residual(exponential("t", group="id"))
    plain, scaled = (
        fit("y ~ 1 + (1 | id)", data.with_columns(pl.col("y") * k), residual=structure)
        for k in (1.0, c)
    )
    assert plain.certificate.boundary
    assert scaled.certificate.boundary == plain.certificate.boundary
    assert scaled.loglik + (data.height - 1) * np.log(c) == pytest.approx(plain.loglik, abs=1e-8)
