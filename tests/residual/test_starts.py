"""A variance function whose likelihood has several maxima is fitted at the highest."""

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.optimize import maximize
from lmmkit.records import evolve
from lmmkit.residual import (
    Residual,
    ar1,
    car1,
    constant_plus_power,
    exponential_variance,
    per_stratum,
    power,
    toeplitz,
    unstructured,
)
from lmmkit.residual.starts import further_starts
from tests.residual.dense import dense_value, frame, random_part, residual_covariance


def _best(data: pl.DataFrame, powers: np.ndarray) -> float:
    """The highest of the log-likelihoods with the powers known, as weights."""
    fits = [
        fit("y ~ x", data.with_columns(w=pl.col("v") ** (-2.0 * p)), weights="w") for p in powers
    ]
    return max(found.loglik for found in fits)


def _two_maxima() -> pl.DataFrame:
    """Most rows lie near a line, where v is small; the others, where it is large, on another."""
    generator = np.random.default_rng(3)
    data = frame(groups=60)
    large = generator.random(data.height) < 0.4
    x = generator.standard_normal(data.height)
    noise = np.where(large, 0.001, 0.1) * generator.standard_normal(data.height)
    return data.with_columns(x=x, v=np.where(large, 2.0, 0.5), y=np.where(large, -x, x) + noise)


def _power(found: Fit) -> float:
    assert found.residual is not None
    return float(found.residual.estimates[-1])


def test_a_negative_power_is_found_beyond_a_positive_one() -> None:
    data = _two_maxima()
    found = fit("y ~ x", data, residual=Residual(variance=power("v")))
    assert found.certificate.converged
    assert found.loglik >= _best(data, np.linspace(-8.0, 8.0, 17))
    assert _power(found) < 0


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_starts_do_not_depend_on_the_unit_of_the_covariate(scale: float) -> None:
    data = _two_maxima().with_columns(far=scale * pl.col("v"))
    structures = (power, exponential_variance)
    for structure in structures:
        near = fit("y ~ x", data, residual=Residual(variance=structure("v")))
        far = fit("y ~ x", data, residual=Residual(variance=structure("far")))
        assert far.loglik == pytest.approx(near.loglik, rel=1e-7)


def test_beside_a_correlation_and_another_function() -> None:
    data = _two_maxima()
    both = (power("v"), constant_plus_power("v"))
    found = fit("y ~ x", data, residual=Residual(ar1("visit", group="id"), power("v")))
    larger = fit("y ~ x", data, residual=Residual(variance=both))
    alone = fit("y ~ x", data, residual=Residual(variance=power("v")))
    assert found.loglik >= alone.loglik
    assert larger.loglik >= alone.loglik - 1e-6


def test_a_correlation_that_competes_with_a_random_slope_is_searched_further() -> None:
    """A place far from every start of the structure is higher than the maximum beside it."""
    structure = Residual(toeplitz("visit", group="id"))
    found = fit("y ~ x + (v | id)", _noise(1), reml=False, residual=structure)
    assert found.residual is not None
    start = found.residual.model.starts()
    far = evolve(found.residual, theta=np.array([1.0, 0.1, 1.4, -8.0]))
    objective = far.objective(far.theta)
    assert objective is not None
    assert found.loglik >= maximize(objective).loglik
    beside = evolve(found.residual, theta=start[0]).objective(start[0])
    assert beside is not None
    assert found.loglik > maximize(beside).loglik + 5.0


def test_the_search_does_not_go_where_the_likelihood_is_rounding() -> None:
    """Beside random slopes an R that is nearly singular cancels the digits of all sums."""
    data = _noise(1)
    structure = Residual(unstructured("visit", group="id"), per_stratum("visit"))
    found = fit("y ~ x + (time | id)", data, residual=structure)
    assert found.residual is not None
    model = found.residual.model
    own, scale = model.split(found.residual.theta)[0], np.exp(-model.log_root(found.residual.theta))
    assert model.residual.correlation is not None
    visits = np.unique(data["visit"].to_numpy()).astype(np.float64)
    R = model.residual.correlation.correlation(own, visits[:, None])
    place = {visit: i for i, visit in enumerate(visits)}
    V = residual_covariance(data, lambda a, b: float(R[place[a["visit"]], place[b["visit"]]]))
    deviation = np.empty(data.height)
    deviation[model.order] = scale
    V = float(found.natural.sigma2) * V * np.outer(deviation, deviation)
    V += random_part(data, np.asarray(found.natural.psi[0]))
    X = np.column_stack([np.ones(data.height), data["x"].to_numpy()])
    dense = dense_value(data["y"].to_numpy(), X, V, restricted=True)
    assert found.loglik == pytest.approx(dense, abs=1e-3)


def _noise(seed: int) -> pl.DataFrame:
    """Unequal groups with an intercept of their own and nothing else."""
    data = frame(seed=seed, groups=40)
    names = data["id"].unique(maintain_order=True).to_list()
    own = dict(zip(names, np.random.default_rng(seed).standard_normal(len(names)), strict=True))
    return data.with_columns(y=20.0 + pl.col("y") + pl.Series([own[i] for i in data["id"]]))


@pytest.mark.slow
def test_information_that_rounding_made_negative_ends_a_climb_not_the_fit() -> None:
    structure = Residual(unstructured("visit", group="id"), per_stratum("visit"))
    found = fit("y ~ x + diag(v | id)", _noise(1), reml=False, residual=structure)
    assert np.isfinite(found.loglik)
    assert found.loglik >= fit("y ~ x", _noise(1), reml=False, residual=structure).loglik


def test_further_starts_are_the_same_every_time_and_fewer_of_many_rows() -> None:
    starts = np.array([[0.4, 0.0], [-0.4, 0.0]])
    few = further_starts(starts, 100)
    np.testing.assert_array_equal(few, further_starts(starts, 100))
    assert len(np.unique(few, axis=0)) == len(few) > len(further_starts(starts, 20_000)) > 0
    assert not len(further_starts(starts, 1_000_000))
    assert not len(further_starts(starts[:, :1], 100))


@pytest.mark.parametrize("seed", [0, 3, 8])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | id)"])
def test_car1_over_uneven_gaps_is_not_below_the_model_without_it(formula: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    gaps = 10.0 ** draw.uniform(-4.0, 4.0, size=(12, 5))
    data = pl.DataFrame(
        {
            "id": np.repeat(np.arange(12), 5),
            "time": gaps.cumsum(axis=1).ravel(),
            "x": draw.normal(size=60),
            "y": draw.normal(size=60),
        }
    )
    found = fit(formula, data, residual=Residual(car1("time", group="id")))
    assert found.loglik >= fit(formula, data).loglik - 1e-6
