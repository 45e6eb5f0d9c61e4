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
from lmmkit.residual import Residual, ar1, arma, car1, exponential
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
