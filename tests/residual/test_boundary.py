"""The scale of time does not matter; a parameter at the end of its values is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.datasets import load
from lmmkit.errors import DataError
from lmmkit.fit import fit
from lmmkit.inference import residual_parameters, summary
from lmmkit.residual import (
    Residual,
    ar1,
    arma,
    car1,
    compound_symmetry,
    exponential,
    per_stratum,
    power,
    toeplitz,
    unstructured,
)
from lmmkit.residual.maximize import boundary
from lmmkit.residual.profile import Curvature
from tests.residual.dense import frame

CHILDREN = load("Orthodont").with_columns(step=(pl.col("age") - 8) / 2)
FORMULA = "distance ~ age * Sex"
DECAY = fit(FORMULA, CHILDREN, residual=Residual(exponential("step", group="Subject")))
STRUCTURES: dict[str, Callable[[str], Any]] = {
    "ar1": lambda time: ar1(time, group="Subject"),
    "car1": lambda time: car1(time, group="Subject"),
    "arma": lambda time: arma(time, p=1, group="Subject"),
}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *[("car1", scale) for scale in (1 / 365.25, 1 / 52, 3.0, 365.0, 86400.0)],
        *[("ar1", scale) for scale in (4.0, 7.0, 365.0, 86400.0)],
        *[("arma", scale) for scale in (4.0, 100.0, 365.0)],
    ],
)
def test_the_unit_of_time_does_not_matter(name: str, scale: float) -> None:
    scaled = CHILDREN.with_columns(when=pl.col("step") * scale)
    found = fit(FORMULA, scaled, residual=Residual(STRUCTURES[name]("when")))
    assert found.loglik == pytest.approx(DECAY.loglik, rel=1e-8)
    assert found.certificate.converged
    assert not found.certificate.boundary
    assert found.residual is not None
    assert DECAY.residual is not None
    decay = -scale * np.log(found.residual.estimates[0])
    assert decay == pytest.approx(1.0 / DECAY.residual.estimates[0], rel=1e-3)


def test_times_in_far_too_large_units_are_refused() -> None:
    tiny = CHILDREN.with_columns(when=pl.col("step") * 1e-4)
    with pytest.raises(DataError, match=r"car1: rows next .* in 'when' are typically 0\.0001"):
        fit(FORMULA, tiny, residual=Residual(car1("when", group="Subject")))


def test_even_gaps_cannot_tell_the_sign() -> None:
    found = fit(FORMULA, CHILDREN, residual=Residual(ar1("age", group="Subject")))
    assert found.residual is not None
    assert found.residual.model.parameters[0].lower == 0.0


def test_odd_gaps_tell_the_sign() -> None:
    data = frame(seed=4, groups=30).with_columns(far=3 * pl.col("visit"))
    alternating = data.with_columns(y=pl.col("y") + 3.0 * (-1.0) ** pl.col("visit"))
    near = fit("y ~ x", alternating, residual=Residual(ar1("visit", group="id")))
    far = fit("y ~ x", alternating, residual=Residual(ar1("far", group="id")))
    assert near.residual is not None
    assert far.residual is not None
    assert near.residual.estimates[0] < -0.3
    assert far.loglik == pytest.approx(near.loglik, rel=1e-9)
    assert far.residual.estimates[0] ** 3 == pytest.approx(near.residual.estimates[0], rel=1e-3)


def test_a_likelihood_without_bound_is_not_converged() -> None:
    data = frame(groups=20)
    constant = data.with_columns(y=pl.col("y").mean().over("id"))
    found = fit("y ~ 1", constant, residual=Residual(car1("time", group="id")))
    assert not found.certificate.converged
    assert found.certificate.boundary == ("phi",)
    assert "boundary in phi" in str(summary(found))
    assert residual_parameters(found)["std_error"].to_list() == [None]


def test_a_maximum_at_the_boundary_names_the_parameter() -> None:
    data = frame(seed=4, groups=30)
    alternating = data.with_columns(y=pl.col("y") + 3.0 * (-1.0) ** pl.col("visit"))
    found = fit("y ~ 1", alternating, residual=Residual(car1("visit", group="id")))
    assert found.certificate.converged
    assert found.certificate.boundary == ("phi",)


def test_rounding_near_a_singular_correlation_does_not_hide_the_boundary() -> None:
    """As of a Toeplitz matrix whose last partial autocorrelation goes to -1."""
    local = Curvature(np.array([1e-5, -6e-6, 2e-6]), np.diag([-38.0, -4e-3, -4e-3]))
    assert boundary(np.array([0.6, -13.0, 2.0]), local) == (1,)


def test_correlations_very_near_one_are_reached() -> None:
    """A mean for each visit: the estimate is the sample covariance."""
    generator = np.random.default_rng(5)
    y = generator.standard_normal((50, 1)) + 3e-4 * generator.standard_normal((50, 3))
    data = pl.DataFrame(
        {"id": np.repeat(np.arange(50), 3), "visit": np.tile(["a", "b", "c"], 50), "y": y.ravel()}
    )
    structure = Residual(unstructured("visit", group="id"), per_stratum("visit"))
    found = fit("y ~ visit", data, residual=structure)
    assert found.certificate.converged
    assert not found.certificate.boundary
    assert found.residual is not None
    expected = np.asarray(np.corrcoef(y.T))[np.tril_indices(3, -1)]
    assert 1.0 - found.residual.estimates[:3] == pytest.approx(1.0 - expected, rel=1e-5)
    assert float(found.natural.sigma2) == pytest.approx(np.var(y[:, 0], ddof=1), rel=1e-5)


@pytest.mark.parametrize(
    "structure",
    [
        compound_symmetry(group="id"),
        ar1("visit", group="id"),
        toeplitz("visit", group="id"),
        unstructured("visit", group="id"),
    ],
)
@pytest.mark.parametrize("formula", ["y ~ 1", "y ~ x"])
def test_a_response_that_is_constant_in_groups_has_its_correlation_at_the_end(
    structure: Any, formula: str
) -> None:
    generator = np.random.default_rng(6)
    data = pl.DataFrame(
        {
            "id": np.repeat(np.arange(40), 4),
            "visit": np.tile(np.arange(4), 40),
            "x": generator.standard_normal(160),
            "y": np.repeat(generator.standard_normal(40), 4),
        }
    )
    found = fit(formula, data, residual=Residual(structure))
    assert not found.certificate.converged
    assert found.residual is not None
    assert set(found.certificate.boundary) & set(found.residual.names)


@pytest.mark.parametrize(
    ("formula", "correlation", "others", "weights"),
    [  # every pair of choices
        ("y ~ s * x", ar1("visit", group="id"), (power("w"),), None),
        ("y ~ s * x", None, (), "w"),
        ("y ~ s * x + (1 | id)", None, (), None),
        ("y ~ s * x + (1 | id)", ar1("visit", group="id"), (power("w"),), "w"),
        ("y ~ s * x + (x | id)", None, (power("w"),), "w"),
        ("y ~ s * x + (x | id)", ar1("visit", group="id"), (), None),
    ],
)
def test_a_stratum_that_its_effects_reproduce_is_named(
    formula: str, correlation: Any, others: tuple[Any, ...], weights: str | None
) -> None:
    """By maximum likelihood its standard deviation goes to 0, the log-likelihood to infinity."""
    generator = np.random.default_rng(0)
    data = pl.DataFrame(
        {
            "id": np.repeat(np.arange(10), 4),
            "visit": np.tile(np.arange(4), 10),
            "s": ["a"] * 38 + ["b"] * 2,
            "x": generator.standard_normal(40),
            "w": generator.uniform(0.5, 2.0, 40),
            "y": generator.standard_normal(40),
        }
    )
    structure = Residual(correlation, (per_stratum("s"), *others))
    found = fit(formula, data, residual=structure, reml=False, weights=weights)
    assert not found.certificate.converged
    assert "sd ratio s[b]" in found.certificate.boundary
    assert "sd ratio s[b]" in str(found.certificate)
