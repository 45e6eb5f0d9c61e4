"""Profile likelihoods beside a residual structure, against separate fits and dense algebra."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import datasets, tie
from lmmkit.fit import Fit, fit
from lmmkit.inference import confidence_intervals, profile
from lmmkit.likelihood.constraints import Hold
from lmmkit.optimize.climb import Climbed, climb
from lmmkit.optimize.constrained_problem import encode
from lmmkit.records import FloatArray
from lmmkit.residual import (
    Residual,
    ar1,
    by_stratum,
    car1,
    exponential,
    per_stratum,
    power,
    toeplitz,
    unstructured,
)
from lmmkit.residual.joint import joint_problem
from lmmkit.residual.model import ResidualModel
from tests.residual.dense import Array, frame

CHILDREN = datasets.load("Orthodont")
DROP = 1.959963984540054**2

CASES: dict[str, tuple[str, Residual, dict[str, Any]]] = {
    "random intercept": (
        "distance ~ age + (1 | Subject)",
        Residual(car1("age"), per_stratum("Sex")),
        {},
    ),
    "REML": (
        "distance ~ age + (1 | Subject)",
        Residual(ar1("age"), per_stratum("Sex")),
        {"reml": True},
    ),
    "no random effects": (
        "distance ~ age",
        Residual(exponential("age", group="Subject", nugget=True)),
        {},
    ),
    "structures on both sides": (
        "distance ~ Sex + diag(age | Subject)",
        Residual(variance=per_stratum("Sex")),
        {},
    ),
    "ties": (
        "distance ~ age",
        Residual(by_stratum(ar1("age", group="Subject"), "Sex"), per_stratum("age")),
        {
            "constraints": [
                tie(("Residual", "phi Sex[Female]"), ("Residual", "phi Sex[Male]")),
                tie(("Residual", "sd ratio age[10]"), ("Residual", "sd ratio age[12]")),
            ]
        },
    ),
    "beside held values": (
        "distance ~ age + (age | Subject)",
        Residual(variance=per_stratum("Sex")),
        {"fixed": {("Subject", "Intercept", "age"): 0.0, "age": 0.6}},
    ),
}


def _refitted(case: str, key: Any, value: float, frame: pl.DataFrame = CHILDREN) -> Fit:
    formula, residual, options = CASES[case]
    options = {"reml": False, **options}
    options["fixed"] = {**options.get("fixed", {}), key: value}
    return fit(formula, frame, residual=residual, **options)


def _key(row: dict[str, Any], value: float) -> tuple[Any, float]:
    """The name that ``fixed=`` has for a parameter, and what it is held at."""
    if row["kind"] == "fixed":
        return row["term"], value
    if row["kind"] == "sigma":
        return "sigma2", value**2
    squared = row["kind"] == "sd" and not row["term"].startswith("sd")
    return (row["group"], row["term"]), value**2 if squared else value


SLOW = ("REML", "structures on both sides", "beside held values")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES]
)
def test_limits_are_where_separate_fits_fall_enough(case: str) -> None:
    formula, residual, options = CASES[case]
    found = fit(formula, CHILDREN, residual=residual, **{"reml": False, **options})
    table = confidence_intervals(found, "profile")
    checked = 0
    for row in table.iter_rows(named=True):
        if found.reml and row["kind"] == "fixed":
            continue
        for side in ("conf_low", "conf_high"):
            if row[side] in (None, 0.0, 1.0) or np.isinf(row[side]):
                continue
            held = _refitted(case, *_key(row, row[side]))
            assert 2.0 * (found.loglik - held.loglik) == pytest.approx(DROP, abs=1e-4), row
            checked += 1
    assert checked >= 6


def test_held_and_tied_parameters() -> None:
    held = _refitted("random intercept", ("Residual", "phi"), 0.5)
    table = confidence_intervals(held, "profile")
    assert table.filter(term="phi").select("conf_low", "conf_high").row(0) == (None, None)
    formula, residual, options = CASES["ties"]
    tied = fit(formula, CHILDREN, reml=False, residual=residual, **options)
    names = [("Residual", f"phi Sex[{sex}]") for sex in ("Female", "Male")]
    limits = confidence_intervals(tied, "profile", which=names).select("conf_low", "conf_high")
    assert limits.row(0) == pytest.approx(limits.row(1), rel=1e-6)


@pytest.mark.parametrize(
    ("residual", "name"),
    [
        (toeplitz("age", group="Subject"), "rho2"),
        (unstructured("age", group="Subject"), "cor(8, 12)"),
    ],
)
def test_correlations_that_bound_each_other(residual: Any, name: str) -> None:
    model = Residual(residual, per_stratum("Sex"))
    found = fit("distance ~ age", CHILDREN, residual=model)
    table = confidence_intervals(found, "profile", which=[("Residual", name)])
    for value in table.select("conf_low", "conf_high").row(0):
        held = fit("distance ~ age", CHILDREN, residual=model, fixed={("Residual", name): value})
        assert 2.0 * (found.loglik - held.loglik) == pytest.approx(DROP, abs=1e-4)


def test_a_limit_at_the_bound() -> None:
    found = fit("distance ~ age * Sex + (1 | Subject)", CHILDREN, residual=Residual(car1("age")))
    table = confidence_intervals(found, "profile", which=[("Residual", "phi")])
    none = fit("distance ~ age * Sex + (1 | Subject)", CHILDREN)
    assert 2.0 * (found.loglik - none.loglik) < DROP
    assert table["conf_low"].item() == 0.0
    assert 0.0 < table["conf_high"].item() < 1.0


def test_the_curve_of_a_power() -> None:
    data = frame(seed=2, groups=40)
    model = Residual(variance=power("v"))
    found = fit("y ~ x + (1 | id)", data, reml=False, residual=model)
    curve = profile(found, [("Residual", "power")], n_points=3)
    assert curve["kind"].unique().to_list() == ["structure"]
    for value, loglik, zeta in curve.select("value", "loglik", "zeta").iter_rows():
        known = data.with_columns(w=pl.col("v") ** (-2.0 * value))
        weighted = fit("y ~ x + (1 | id)", known, reml=False, weights="w")
        assert loglik == pytest.approx(weighted.loglik, rel=1e-9)
        assert zeta**2 == pytest.approx(2.0 * (found.loglik - loglik), abs=1e-6)


DATA = frame(seed=2, groups=40)
LAG = np.abs(np.subtract.outer(DATA["visit"].to_numpy(), DATA["visit"].to_numpy()))
TOGETHER = DATA["id"].to_numpy()[:, None] == DATA["id"].to_numpy()
X = np.column_stack([np.ones(DATA.height), DATA["x"]])
Z = np.column_stack([np.ones(DATA.height), DATA["v"]])


def _response() -> Array:
    generator = np.random.default_rng(4)
    V = _covariance(np.array([1.2, 0.9, -0.4, 0.9, 0.3]))
    return 1.0 + 0.5 * X[:, 1] + np.linalg.cholesky(V) @ generator.normal(size=len(X))


def _covariance(x: Array) -> Array:
    """From two standard deviations, their correlation, sigma and phi."""
    a, b, rho, sigma, phi = x
    psi = np.array([[a**2, a * b * rho], [a * b * rho, b**2]])
    return np.where(TOGETHER, Z @ psi @ Z.T + sigma**2 * phi**LAG, 0.0)


Y = _response()


def _dense(x: Array, slope: float | None) -> float:
    """The restricted log-likelihood with the slope held, in the residuals alone."""
    V = _covariance(x)
    inverse = np.linalg.inv(V)
    C = X.T @ inverse @ X
    known = X[:, 1] * (0.0 if slope is None else slope)
    columns = X if slope is None else X[:, :1]
    r = Y - known
    r = r - columns @ np.linalg.solve(columns.T @ inverse @ columns, columns.T @ inverse @ r)
    total = np.linalg.slogdet(V)[1] + np.linalg.slogdet(C)[1] + r @ inverse @ r
    return float(-0.5 * (total + (len(Y) - 2) * np.log(2.0 * np.pi)))


@pytest.mark.parametrize("name", ["x", ("id", "Intercept", "v"), ("id", "v"), ("Residual", "phi")])
def test_limits_by_dense_algebra(name: Any) -> None:
    """Under REML a slope is held as in the library's other profiles; a correlation too."""
    from scipy.optimize import minimize

    data = DATA.with_columns(y=Y)
    found = fit("y ~ x + (v | id)", data, residual=Residual(ar1("visit")))
    table = confidence_intervals(found, "profile", which=[name])
    places = {("id", "v"): 1, ("id", "Intercept", "v"): 2, ("Residual", "phi"): 4}
    psi = found.natural.psi[0]
    sd = np.sqrt(np.diagonal(psi))
    assert found.residual is not None
    at = np.array(
        [*sd, psi[0, 1] / sd.prod(), np.sqrt(found.natural.sigma2), *found.residual.estimates]
    )
    assert _dense(at, None) == pytest.approx(found.loglik, rel=1e-9)
    place = places.get(name)

    def values(u: Array, limit: float) -> Array:
        x = np.concatenate([np.exp(u[:2]), np.tanh(u[2:3]), np.exp(u[3:4]), np.tanh(u[4:])])
        if place is not None:
            x[place] = limit
        return x

    start = np.concatenate([np.log(at[:2]), np.arctanh(at[2:3]), np.log(at[3:4]), [0.3]])
    for limit in table.select("conf_low", "conf_high").row(0):
        slope = limit if place is None else None
        best = minimize(
            lambda u, limit=limit, slope=slope: -_dense(values(u, limit), slope),
            start,
            method="BFGS",
            options={"gtol": 1e-4},
        )
        assert 2.0 * (found.loglik + best.fun) == pytest.approx(DROP, abs=1e-4)


@pytest.mark.slow
def test_a_held_correlation_that_others_hardly_allow() -> None:
    """The equality folds: no one element of theta can be solved for all along the way."""
    data = frame(seed=1, groups=40)
    model = Residual(unstructured("visit", group="id"), per_stratum("visit"))
    found = fit("y ~ x", data, reml=False, residual=model)
    key = ("Residual", "cor(3, 4)")
    curve = profile(found, [key], n_points=3).sort("value")
    for value, loglik in (curve.row(0)[3:5], curve.row(-1)[3:5]):
        held = fit("y ~ x", data, reml=False, residual=model, fixed={key: value})
        assert held.certificate.converged
        assert held.loglik == pytest.approx(loglik, rel=1e-7)


@pytest.mark.parametrize(
    "residual", [Residual(car1("age"), per_stratum("Sex")), Residual(variance=per_stratum("Sex"))]
)
def test_every_place_is_whitened_once(residual: Residual, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit("distance ~ age + (age | Subject)", CHILDREN, residual=residual)
    assert found.residual is not None
    problem = joint_problem(found.residual, (Hold(1, 0.5),))
    start = np.append(encode(problem.inside, found.natural, ()), found.residual.theta)
    places: list[bytes] = []
    objective = ResidualModel.objective

    def counted(self: ResidualModel, theta: FloatArray, **options: Any) -> Any:
        places.append(theta.tobytes())
        return objective(self, theta, **options)

    monkeypatch.setattr(ResidualModel, "objective", counted)
    assert len(climb(problem, start).reports) > 2
    assert len(set(places)) == len(places) > 3


@pytest.mark.slow
def test_a_climb_that_creeps_along_vanishing_variances_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best of a held correlation is where a variance vanishes, and steps cannot cross zero."""
    generator, rows = np.random.default_rng(2), []
    for group in range(22):
        noise = 0.0
        for time in range(5):
            noise = 0.4 * noise + generator.normal()
            x, v = generator.normal(), np.exp(0.4 * generator.normal())
            y = 1.0 + 0.5 * x + 0.1 * generator.normal() + noise * v**0.3
            rows.append((group, time, x, v, y))
    data = pl.DataFrame(rows, schema=["id", "time", "x", "v", "y"], orient="row")
    model = Residual(ar1("time"), power("v"))
    found = fit("y ~ x + (v | id)", data, residual=model)
    lengths: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Climbed:
        climbed = climb(*arguments, **options)
        lengths.append(len(climbed.reports))
        return climbed

    monkeypatch.setattr("lmmkit.inference.refits.climb", counted)
    curve = profile(found, [("id", "Intercept", "v")], n_points=3)
    assert max(lengths) < 60
    without = fit("y ~ x + (0 + v | id)", data, residual=model)
    assert curve["loglik"].to_numpy().min() >= without.loglik - 1e-6
