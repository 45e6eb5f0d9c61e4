"""Covariance structures, held entries and relations of Psi beside residual structures."""

import numpy as np
import polars as pl
import pytest

from lmmkit import tie
from lmmkit.fit import fit
from lmmkit.inference import residual_parameters, variance_components
from lmmkit.residual import Residual, ar1, per_stratum
from tests.dense_oracle import numeric_hessian
from tests.residual.dense import dense_value, frame, residual_covariance

STEPS = Residual(ar1("visit", group="id"))


def _data() -> pl.DataFrame:
    data = frame(seed=3, groups=40)
    generator = np.random.default_rng(8)
    codes = data["id"].rank("dense").to_numpy().astype(int) - 1
    effects = generator.normal(size=(2, 40)) * np.array([[1.1], [0.7]])
    x = data["x"].to_numpy()
    e = np.linalg.cholesky(_steps(data, 0.5)) @ generator.normal(size=data.height)
    return data.with_columns(y=pl.Series(1.0 + effects[0][codes] + effects[1][codes] * x + e))


def _steps(data: pl.DataFrame, phi: float) -> np.ndarray:
    return residual_covariance(data, lambda a, b: phi ** abs(a["visit"] - b["visit"]))


DATA = _data()
X = np.column_stack([np.ones(DATA.height), DATA["x"]])
Y = DATA["y"].to_numpy()
SAME = DATA["id"].to_numpy()[:, None] == DATA["id"].to_numpy()
SLOPES = SAME * np.outer(DATA["x"], DATA["x"])


def _dense(values: np.ndarray) -> float:
    intercept, slope, sigma2, phi = values
    V = intercept * SAME + slope * SLOPES + sigma2 * _steps(DATA, phi)
    return dense_value(Y, X, V, restricted=True)


def test_a_diagonal_structure_is_that_of_two_terms() -> None:
    one = fit("y ~ x + diag(1 + x | id)", DATA, residual=STEPS)
    two = fit("y ~ x + (1 | id) + (0 + x | id)", DATA, residual=STEPS)
    assert one.certificate.converged
    assert two.certificate.converged
    assert one.residual is not None
    assert two.residual is not None
    assert one.loglik == pytest.approx(two.loglik, rel=1e-9)
    assert one.residual.estimates == pytest.approx(two.residual.estimates, rel=1e-4)
    psi = [float(part[0, 0]) for part in two.natural.psi]
    at = np.array([*psi, float(two.natural.sigma2), *two.residual.estimates])
    assert two.loglik == pytest.approx(_dense(at), rel=1e-10)
    errors = np.sqrt(np.diagonal(np.linalg.inv(-numeric_hessian(_dense, at, 2e-2 * at))))
    assert variance_components(two)["std_error"].to_numpy() == pytest.approx(errors, rel=1e-3)
    deviations = variance_components(one)["std_error"].to_numpy()
    assert deviations[:2] == pytest.approx(errors[:2] / (2.0 * np.sqrt(at[:2])), rel=1e-3)
    assert deviations[2:] == pytest.approx(errors[2:], rel=1e-3)


def test_held_variances_are_out_of_the_standard_errors() -> None:
    found = fit(
        "y ~ x + (1 | id) + (0 + x | id)", DATA, residual=STEPS, fixed={("id", "Intercept"): 1.0}
    )
    assert found.certificate.converged
    assert found.residual is not None
    assert found.natural.psi[0][0, 0] == 1.0
    slope = float(found.natural.psi[1][0, 0])
    at = np.array([slope, float(found.natural.sigma2), *found.residual.estimates])
    information = -numeric_hessian(lambda v: _dense(np.array([1.0, *v])), at, 2e-2 * at)
    errors = np.sqrt(np.diagonal(np.linalg.inv(information)))
    assert residual_parameters(found)["std_error"].item() == pytest.approx(errors[2], rel=1e-3)
    assert variance_components(found)["std_error"].to_list()[1:] == pytest.approx(errors, rel=1e-3)


def test_variances_tied_beside_a_residual_structure() -> None:
    found = fit(
        "y ~ x + (1 | id) + (0 + x | id)",
        DATA,
        residual=STEPS,
        constraints=[tie(("id", "Intercept"), ("id", "x"))],
    )
    assert found.certificate.converged
    assert found.residual is not None
    one, other = (float(psi[0, 0]) for psi in found.natural.psi)
    assert one == pytest.approx(other, rel=1e-8)
    at = np.array([one, float(found.natural.sigma2), *found.residual.estimates])
    information = -numeric_hessian(lambda v: _dense(np.array([v[0], *v])), at, 2e-2 * at)
    errors = np.sqrt(np.diagonal(np.linalg.inv(information)))
    assert residual_parameters(found)["std_error"].item() == pytest.approx(errors[2], rel=1e-3)


def test_an_intercept_that_dwarfs_the_residuals_is_as_one_of_each_group() -> None:
    """By restricted likelihood, random effects of any variance are fixed ones in the limit."""
    generator = np.random.default_rng(0)
    e = np.empty((40, 5))
    e[:, 0] = generator.standard_normal(40)
    for i in range(1, 5):
        e[:, i] = 0.6 * e[:, i - 1] + 0.8 * generator.standard_normal(40)
    y = 1e4 * generator.standard_normal((40, 1)) + np.linspace(1.0, 2.0, 5) * e
    data = pl.DataFrame(
        {"id": np.repeat(np.arange(40), 5), "t": np.tile(np.arange(5), 40), "y": y.ravel()}
    )
    structure = Residual(ar1("t", group="id"), per_stratum("t"))
    random = fit("y ~ t + (1 | id)", data, residual=structure)
    fixed = fit("y ~ t + C(id)", data, residual=structure)
    assert random.certificate.converged
    assert random.residual is not None
    assert fixed.residual is not None
    assert random.residual.estimates == pytest.approx(fixed.residual.estimates, rel=1e-4)
    assert float(random.natural.sigma2) == pytest.approx(float(fixed.natural.sigma2), rel=1e-4)
    errors = [residual_parameters(each)["std_error"].to_numpy() for each in (random, fixed)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
