"""Predictions that use the residuals of correlated rows, against dense algebra."""

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError, DataError
from lmmkit.fit import fit
from lmmkit.inference import predict
from lmmkit.residual import Residual, ar1, car1, exponential, per_stratum, unstructured
from tests.residual.dense import frame, residual_covariance


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


def test_rows_of_the_fit_are_predicted_as_they_were() -> None:
    found = fit("y ~ x", OLD, residual=Residual(exponential("time", group="id")))
    again = predict(found, OLD, kind="correlated")["estimate"].to_numpy()
    assert again == pytest.approx(OLD["y"].to_numpy(), abs=1e-8)


def test_groups_that_are_not_in_the_fit_have_no_neighbours() -> None:
    found = fit("y ~ x", OLD, residual=Residual(ar1("visit", group="id")))
    strangers = NEW.with_columns(id=pl.lit("nobody"))
    own = predict(found, strangers, kind="correlated")
    assert own.equals(predict(found, strangers))


def test_what_cannot_be_predicted_is_said() -> None:
    steps = fit("y ~ x", OLD, residual=Residual(ar1("visit", group="id")))
    with pytest.raises(ArgumentError, match="for new rows"):
        predict(steps, kind="correlated")
    with pytest.raises(ArgumentError, match="for new rows"):
        predict(steps, NEW, kind="correlated", std_error=True)
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
    with pytest.raises(DataError, match="'kind' has 'z', which was not in the fit"):
        predict(kinds, NEW.with_columns(kind=pl.lit("z")), kind="correlated")
