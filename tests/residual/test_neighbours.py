"""Predictions that use the residuals of correlated rows, against dense algebra."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import Fit, fit
from lmmkit.inference import predict
from lmmkit.residual import (
    Residual,
    antedependence,
    ar1,
    arma,
    by_stratum,
    car1,
    compound_symmetry,
    exponential,
    gaussian,
    matern,
    per_stratum,
    rational_quadratic,
    spherical,
    toeplitz,
    unstructured,
)
from lmmkit.residual.contract import Correlation
from tests.residual.dense import Array, frame, residual_covariance


def _data() -> pl.DataFrame:
    data = frame(seed=5, groups=40).sort("id", "visit")
    V = residual_covariance(data, lambda a, b: 0.7 ** abs(a["time"] - b["time"]))
    noise = np.random.default_rng(2).normal(size=data.height)
    return data.with_columns(y=2.0 + pl.Series(np.linalg.cholesky(V) @ noise))


DATA = _data()
OUT = (DATA["visit"] == 3) & (DATA["arm"] == "u")
OLD, NEW = DATA.filter(~OUT), DATA.filter(OUT)


@pytest.mark.parametrize("random", [True, False])
def test_the_mean_of_new_rows_given_all_of_the_data(random: bool) -> None:
    structure = Residual(car1("time", group="id"), per_stratum("kind"))
    found = fit("y ~ x" + " + (1 | id)" * random, OLD, residual=structure)
    assert found.residual is not None
    assert found.natural.beta is not None
    phi, *ratios = found.residual.estimates
    every = pl.concat([OLD, NEW])
    V = float(found.natural.sigma2) * residual_covariance(
        every,
        lambda a, b: phi ** abs(a["time"] - b["time"]),
        lambda row: (1.0, *ratios)["pqr".index(row["kind"])],
    )
    if random:
        ids = every["id"].to_numpy()
        V = V + float(found.natural.psi[0][0, 0]) * (ids[:, None] == ids)
    X = np.column_stack([np.ones(every.height), every["x"]])
    n = OLD.height
    r = OLD["y"].to_numpy() - X[:n] @ found.natural.beta
    expected = X[n:] @ found.natural.beta + V[n:, :n] @ np.linalg.solve(V[:n, :n], r)
    own = predict(found, NEW.drop("y"), kind="correlated")["estimate"].to_numpy()
    assert own == pytest.approx(expected, rel=1e-8)
    assert not np.allclose(own, predict(found, NEW)["estimate"].to_numpy())


def _chain(found: Fit, every: pl.DataFrame) -> Array:
    """Of the rows of the fit and of new ones: residuals of ``car1`` by ``per_stratum``."""
    assert found.residual is not None
    phi, *ratios = found.residual.estimates
    return float(found.natural.sigma2) * residual_covariance(
        every,
        lambda a, b: phi ** abs(a["time"] - b["time"]),
        lambda row: (1.0, *ratios)["pqr".index(row["kind"])],
    )


def _term(found: Fit, every: pl.DataFrame, k: int, Z: Array) -> Array:
    codes = every[found.design.terms[k].group].to_numpy()
    return np.where(codes[:, None] == codes, Z @ found.natural.psi[k] @ Z.T, 0.0)


def _error(X: Array, V: Array, n: int) -> Array:
    """Standard errors of the best linear unbiased predictions of the rows after n."""
    inverse = np.linalg.inv(V[:n, :n])
    a = X[n:] - V[n:, :n] @ inverse @ X[:n]
    C = np.linalg.inv(X[:n].T @ inverse @ X[:n])
    left = V[n:, n:] - V[n:, :n] @ inverse @ V[:n, n:] + a @ C @ a.T
    return np.asarray(np.sqrt(np.diagonal(left)))


@pytest.mark.parametrize("terms", ["", "(1 | id)", "(x | id)", "(1 | id) + (1 | label)"])
def test_errors_of_new_rows_given_all_of_the_data(terms: str) -> None:
    """Rows of known groups, of known groups with new levels of another factor, of new groups."""
    structure = Residual(car1("time", group="id"), per_stratum("kind"))
    formula = "y ~ x" + (f" + {terms}" if terms else "")
    found = fit(formula, OLD, residual=structure)
    new = pl.concat(
        [
            NEW,
            NEW.head(3).with_columns(id=pl.lit("nobody")),
            NEW.head(3).with_columns(label=pl.lit("z"), time=pl.col("time") + 0.1),
        ]
    )
    every = pl.concat([OLD, new])
    n, one = OLD.height, np.ones((every.height, 1))
    X = np.column_stack([one, every["x"]])
    V = _chain(found, every)
    for k, term in enumerate(found.design.terms):
        V = V + _term(found, every, k, X if term.q == 2 else one)
    table = predict(found, new.drop("y"), kind="correlated", std_error=True)
    fresh = np.array([i for i, name in enumerate(new["id"]) if name != "nobody"])
    errors = _error(X, V, n)
    assert table["std_error"].to_numpy()[fresh] == pytest.approx(errors[fresh], rel=1e-7)
    unknown = np.setdiff1d(np.arange(new.height), fresh)
    assert table["std_error"].to_numpy()[unknown] == pytest.approx(errors[unknown], rel=1e-7)
    assert found.natural.beta is not None
    r = np.linalg.solve(V[:n, :n], OLD["y"].to_numpy() - X[:n] @ found.natural.beta)
    expected = X[n:] @ found.natural.beta + V[n:, :n] @ r
    assert table["estimate"].to_numpy() == pytest.approx(expected, rel=1e-8)
    width = (table["conf_high"] - table["conf_low"]).to_numpy()
    assert width == pytest.approx(2.0 * 1.959963984540054 * errors, rel=1e-7)


@pytest.mark.parametrize("terms", ["", "(1 | id)", "(x | id)"])
def test_errors_of_new_observations_beside_independent_ones(terms: str) -> None:
    formula = "y ~ x" + (f" + {terms}" if terms else "")
    weighted = OLD.with_columns(w=1.0 + 0.1 * pl.col("v"))
    found = fit(formula, weighted, weights="w", residual=Residual(variance=per_stratum("kind")))
    assert found.residual is not None
    every = pl.concat([weighted, NEW.with_columns(w=1.0)])
    ratios = np.array([1.0, *found.residual.estimates])
    scale = ratios[["pqr".index(kind) for kind in every["kind"]]]
    V = np.diag(float(found.natural.sigma2) * scale**2 / every["w"].to_numpy())
    one = np.ones((every.height, 1))
    X = np.column_stack([one, every["x"]])
    for k, term in enumerate(found.design.terms):
        V = V + _term(found, every, k, X if term.q == 2 else one)
    errors = _error(X, V, OLD.height)
    table = predict(found, NEW, std_error=True, observation=True)
    assert table["std_error"].to_numpy() == pytest.approx(errors, rel=1e-7)
    of_mean = predict(found, NEW, std_error=True)["std_error"].to_numpy()
    noise = (errors**2 - of_mean**2) / float(found.natural.sigma2)
    assert noise == pytest.approx(scale[OLD.height :] ** 2, rel=1e-6)


def test_new_observations_at_the_rows_of_the_fit() -> None:
    weighted = OLD.with_columns(w=1.0 + 0.1 * pl.col("v"))
    for residual in (None, Residual(variance=per_stratum("kind"))):
        found = fit("y ~ x + (1 | id)", weighted, weights="w", residual=residual)
        mean, new = (
            predict(found, std_error=True, observation=each)["std_error"].to_numpy()
            for each in (False, True)
        )
        ratios = [1.0] if residual is None else [1.0, *_estimates(found)]
        scale = np.array([ratios["pqr".index(kind) % len(ratios)] for kind in OLD["kind"]])
        noise = float(found.natural.sigma2) * scale**2 / weighted["w"].to_numpy()
        assert new**2 - mean**2 == pytest.approx(noise, rel=1e-8)


def _estimates(found: Fit) -> list[float]:
    assert found.residual is not None
    values: list[float] = found.residual.estimates.tolist()
    return values


def test_rows_of_the_fit_are_predicted_as_they_were() -> None:
    found = fit("y ~ x", OLD, residual=Residual(exponential("time", group="id")))
    again = predict(found, OLD, kind="correlated", std_error=True)
    assert again["estimate"].to_numpy() == pytest.approx(OLD["y"].to_numpy(), abs=1e-8)
    assert again["std_error"].to_numpy() == pytest.approx(0.0, abs=1e-13)


def test_groups_that_are_not_in_the_fit_have_no_neighbours() -> None:
    found = fit("y ~ x", OLD, residual=Residual(ar1("visit", group="id")))
    strangers = NEW.with_columns(id=pl.lit("nobody"))
    own = predict(found, strangers, kind="correlated")
    assert own.equals(predict(found, strangers))


HALF = NEW.with_columns(visit=pl.col("visit") + 0.5)
STRATA = OLD.with_columns(arm=(pl.col("arm") == "v").cast(pl.Int64))


@pytest.mark.parametrize(
    ("correlation", "old", "new", "message"),
    [
        (ar1("visit", group="id"), OLD, HALF, "ar1: .*whole numbers in 'visit', got 3.5 in id 'g"),
        (arma("visit", p=1, group="id"), OLD, HALF, "arma: .*whole numbers in 'visit', got 3.5"),
        (
            arma("visit", p=1, group="id"),
            OLD,
            NEW.with_columns(visit=10**9),
            "arma: .*at most 1000000 apart in 'visit', got 1e\\+09",
        ),
        *(
            (make("visit", group="id"), OLD, HALF, f"{make.__name__}: 'visit' has 3.5, .*none of")
            for make in (toeplitz, antedependence, unstructured)
        ),
        (by_stratum(ar1("visit", group="id"), "arm"), OLD, HALF, "ar1: .*got 3.5 in id 'g"),
        (
            by_stratum(ar1("visit", group="id"), "arm"),
            OLD,
            NEW.with_columns(arm=pl.lit("v")),
            "id 'g.*' has rows of several strata of 'arm'",
        ),
        (
            by_stratum(ar1("visit", group="id"), "arm"),
            STRATA,
            NEW.with_columns(arm=2, id=pl.lit("nobody")),
            "'arm' has 2, a stratum that was not in the fit",
        ),
    ],
)
def test_coordinates_of_new_rows_are_checked_as_those_of_the_fit(
    correlation: Correlation, old: pl.DataFrame, new: pl.DataFrame, message: str
) -> None:
    found = fit("y ~ x", old, residual=Residual(correlation))
    with pytest.raises(DataError, match=message):
        predict(found, new, kind="correlated")


def test_a_forecast_beyond_the_longest_lag_of_the_fit() -> None:
    found = fit("y ~ x", OLD, residual=Residual(arma("visit", p=1, q=1, group="id")))
    assert found.residual is not None
    assert found.natural.beta is not None
    phi, theta = found.residual.estimates
    first = (1 + phi * theta) * (phi + theta) / (1 + 2 * phi * theta + theta**2)
    new = NEW.with_columns(visit=pl.lit(9, pl.Int64))
    V = residual_covariance(
        pl.concat([OLD, new]), lambda a, b: first * phi ** (abs(a["visit"] - b["visit"]) - 1)
    )
    X, n = np.column_stack([np.ones(V.shape[0]), [*OLD["x"], *new["x"]]]), OLD.height
    r = OLD["y"].to_numpy() - X[:n] @ found.natural.beta
    expected = X[n:] @ found.natural.beta + V[n:, :n] @ np.linalg.solve(V[:n, :n], r)
    own = predict(found, new, kind="correlated")["estimate"].to_numpy()
    assert own == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [gaussian, rational_quadratic, spherical, matern, exponential])
def test_rows_at_any_distance_have_no_neighbours(shape: Callable[..., Correlation]) -> None:
    found = fit("y ~ x", OLD, residual=Residual(shape("east", "north", group="id", nugget=True)))
    alone = predict(found, NEW)["estimate"].to_numpy()
    for far in (1e100, 1e300):
        own = predict(found, NEW.with_columns(east=far), kind="correlated")["estimate"]
        assert own.to_numpy() == pytest.approx(alone, rel=1e-14)


def test_what_cannot_be_predicted_is_said() -> None:
    steps = fit("y ~ x", OLD, residual=Residual(ar1("visit", group="id")))
    with pytest.raises(ArgumentError, match="for new rows"):
        predict(steps, kind="correlated")
    with pytest.raises(ArgumentError, match="expected kind='correlated'"):
        predict(steps, NEW, std_error=True, observation=True)
    with pytest.raises(ArgumentError, match="belongs to some group; expected kind='conditional'"):
        predict(fit("y ~ x + (1 | id)", OLD), NEW, kind="population", observation=True)
    with pytest.raises(ArgumentError, match="whose residuals are correlated"):
        predict(fit("y ~ x", OLD), NEW, kind="correlated")
    with pytest.raises(ArgumentError, match="name the coordinates"):
        predict(fit("y ~ x", OLD, residual=Residual(ar1(group="id"))), NEW, kind="correlated")
    gap = NEW.with_columns(visit=pl.lit(None, pl.Int64))
    with pytest.raises(DataError, match="'visit', a coordinate"):
        predict(steps, gap, kind="correlated")
    early = OLD.filter(pl.col("visit") != 3)
    pairs = fit("y ~ x", early, residual=Residual(unstructured("visit", group="id")))
    with pytest.raises(DataError, match="none of the visits of the fit: 0, 1, 2, 4"):
        predict(pairs, NEW, kind="correlated")
    kinds = fit("y ~ x", OLD, residual=Residual(ar1("visit", group="id"), per_stratum("kind")))
    with pytest.raises(DataError, match=r"'id', which tells the groups .* is missing"):
        predict(steps, NEW.with_columns(id=pl.lit(None, pl.String)), kind="correlated")
    with pytest.raises(DataError, match="values of 'id' are number, the levels text"):
        predict(steps, NEW.with_columns(id=1), kind="correlated")
    with pytest.raises(DataError, match="'kind' has 'z', which was not in the fit"):
        predict(kinds, NEW.with_columns(kind=pl.lit("z")), kind="correlated")


@pytest.mark.parametrize("terms", ["", " + (1 | label)"])
def test_rows_of_a_group_that_are_all_alike(terms: str) -> None:
    """Compound symmetry needs no coordinates; rows of new groups have no neighbours."""
    structure = Residual(compound_symmetry(group="id"), per_stratum("kind"))
    found = fit("y ~ x" + terms, OLD, residual=structure)
    assert found.residual is not None
    assert found.natural.beta is not None
    new = pl.concat([NEW, NEW.head(3).with_columns(id=pl.lit("nobody"))])
    every, n = pl.concat([OLD, new]), OLD.height
    rho, *ratios = found.residual.estimates
    V = float(found.natural.sigma2) * residual_covariance(
        every,
        lambda a, b: 1.0 if a is b else rho,
        lambda row: (1.0, *ratios)["pqr".index(row["kind"])],
    )
    one = np.ones((every.height, 1))
    if terms:
        V = V + _term(found, every, 0, one)
    X = np.column_stack([one, every["x"]])
    r = OLD["y"].to_numpy() - X[:n] @ found.natural.beta
    own = predict(found, new.drop("y"), kind="correlated", std_error=True)
    expected = X[n:] @ found.natural.beta + V[n:, :n] @ np.linalg.solve(V[:n, :n], r)
    alone = slice(0, NEW.height)  # rows of one new group stand by themselves in predict
    assert own["estimate"].to_numpy() == pytest.approx(expected, rel=1e-8)
    assert own["std_error"].to_numpy()[alone] == pytest.approx(_error(X, V, n)[alone], rel=1e-8)


def test_a_group_that_is_full() -> None:
    """With rho near -1 / (n - 1) there is no room for one more row in a group of n."""
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(40, 3))
    noise -= 0.99 * noise.mean(axis=1, keepdims=True)
    data = pl.DataFrame({"y": noise.ravel(), "id": np.repeat(np.arange(40), 3)})
    found = fit("y ~ 1", data, residual=Residual(compound_symmetry(group="id")))
    with pytest.raises(DataError, match=r"in 'id' 7, with 3 row\(s\) .* no correlations with one"):
        predict(found, pl.DataFrame({"id": [7]}), kind="correlated")
