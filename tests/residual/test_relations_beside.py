"""Held and tied parameters of the random effects beside a residual structure, by dense algebra."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from attrs import frozen

from lmmkit import tie
from lmmkit.fit import fit
from lmmkit.inference import variance_components
from lmmkit.likelihood.relations import LinearConstraint, linear
from lmmkit.residual import Residual, ar1, per_stratum
from tests.dense_oracle import numeric_gradient, numeric_hessian
from tests.residual.dense import Array, dense_value, frame

RESIDUAL = Residual(ar1("visit"), per_stratum("kind"))


FRAME = frame(seed=2, groups=40)
LAG = np.abs(np.subtract.outer(FRAME["visit"].to_numpy(), FRAME["visit"].to_numpy()))
TOGETHER = FRAME["id"].to_numpy()[:, None] == FRAME["id"].to_numpy()
KIND = np.array(["pqr".index(kind) for kind in FRAME["kind"]])
Z = np.column_stack([np.ones(FRAME.height), FRAME["v"]])


def _residual(values: Array) -> Array:
    phi, *ratios = values
    scale = np.array([1.0, *ratios])[KIND]
    return np.where(TOGETHER, phi**LAG * np.outer(scale, scale), 0.0)


def _effects(psi: Array) -> Array:
    return np.where(TOGETHER, Z @ psi @ Z.T, 0.0)


def _data() -> pl.DataFrame:
    generator = np.random.default_rng(4)
    psi = np.array([[1.2, -0.3], [-0.3, 1.0]])
    V = 0.8 * _residual(np.array([0.4, 1.5, 0.8])) + _effects(psi)
    noise = np.linalg.cholesky(V) @ generator.normal(size=FRAME.height)
    return FRAME.with_columns(y=1.0 + 0.5 * pl.col("x") + pl.Series(noise))


DATA = _data()
X = np.column_stack([np.ones(DATA.height), DATA["x"]])
Y = DATA["y"].to_numpy()


@frozen
class Case:
    """``reported`` makes all variance parameters of the free ones; ``psi`` is made of them."""

    formula: str
    free: Callable[[Array], Array]
    reported: Callable[[Array], Array]
    psi: Callable[[Array], Array]
    constraints: tuple[LinearConstraint, ...] = ()
    fixed: dict[Any, float] | None = None


def _matrix(x: Array) -> Array:
    return np.array([[x[0], x[1]], [x[1], x[2]]])


def _of_sds(x: Array) -> Array:
    return np.diag(x[:2] ** 2)


PLAIN = "y ~ x + (v | id)"
DIAGONAL = "y ~ x + diag(v | id)"
CASES = {
    "equal variances": Case(
        PLAIN,
        lambda full: full[1:],
        lambda u: np.array([u[1], *u]),
        _matrix,
        (tie(("id", "Intercept"), ("id", "v")),),
    ),
    "half the variance": Case(
        PLAIN,
        lambda full: full[1:],
        lambda u: np.array([2.0 * u[1], *u]),
        _matrix,
        (linear({("id", "Intercept"): 1.0, ("id", "v"): -2.0}),),
    ),
    "held covariance": Case(
        PLAIN,
        lambda full: np.delete(full, 1),
        lambda u: np.array([u[0], -0.2, *u[1:]]),
        _matrix,
        (),
        {("id", "Intercept", "v"): -0.2},
    ),
    "equal standard deviations": Case(
        DIAGONAL,
        lambda full: full[1:],
        lambda u: np.array([u[0], *u]),
        _of_sds,
        (tie(("id", "sd_Intercept"), ("id", "sd_v")),),
    ),
    "held standard deviation": Case(
        DIAGONAL,
        lambda full: np.delete(full, 0),
        lambda u: np.array([1.1, *u]),
        _of_sds,
        (),
        {("id", "sd_Intercept"): 1.1},
    ),
    "held sigma2": Case(
        PLAIN,
        lambda full: np.delete(full, 3),
        lambda u: np.array([*u[:3], 0.7, *u[3:]]),
        _matrix,
        (),
        {"sigma2": 0.7},
    ),
    "held ratio": Case(
        PLAIN,
        lambda full: full[:-1],
        lambda u: np.array([*u, 0.9]),
        _matrix,
        (),
        {("Residual", "sd ratio kind[r]"): 0.9},
    ),
    "related on both sides": Case(
        PLAIN,
        lambda full: full[1:-1],
        lambda u: np.array([u[1], *u, 2.2 - u[-1]]),
        _matrix,
        (
            tie(("id", "Intercept"), ("id", "v")),
            linear({("Residual", f"sd ratio kind[{kind}]"): 1.0 for kind in "qr"}, 2.2),
        ),
    ),
}


QUICK = ("equal standard deviations", "held sigma2")


@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_standard_errors_of_what_is_held_or_tied(name: str, restricted: bool) -> None:
    case = CASES[name]
    found = fit(
        case.formula,
        DATA,
        reml=restricted,
        residual=RESIDUAL,
        fixed=case.fixed,
        constraints=case.constraints,
    )
    assert found.certificate.converged
    table = variance_components(found)
    estimates = table["estimate"].to_numpy()
    at = case.free(estimates)
    assert case.reported(at) == pytest.approx(estimates, rel=1e-8)

    def dense(u: Array) -> float:
        x = case.reported(u)
        n = len(x) - 4
        V = x[n] * _residual(x[n + 1 :]) + _effects(case.psi(x))
        return dense_value(Y, X, V, restricted=restricted)

    assert found.loglik == pytest.approx(dense(at), rel=1e-10)
    covariance = np.linalg.inv(-numeric_hessian(dense, at, 2e-2 * np.abs(at)))
    gradient = numeric_gradient(dense, at, 1e-2 * np.abs(at))
    assert np.abs(gradient * np.sqrt(np.diagonal(covariance))).max() < 1e-3
    across = np.array(
        [(case.reported(at + e) - case.reported(at - e)) / 2 for e in np.eye(len(at))]
    ).T
    expected = np.sqrt(np.diagonal(across @ covariance @ across.T))
    errors = table["std_error"].fill_null(0.0).to_numpy()
    assert errors == pytest.approx(expected, rel=1e-4)
