"""Laws of every structure, and the likelihood that it gives, against plain definitions."""

import functools
import math

import numpy as np
import pytest

import lmmkit.residual
from lmmkit.design import build_design
from lmmkit.residual import Residual, ar1, per_stratum, power
from lmmkit.residual.bind import residual_model
from lmmkit.residual.contract import ClosedForm
from lmmkit.residual.model import ResidualModel
from tests.dense_oracle import numeric_gradient
from tests.residual.dense import (
    at_natural,
    dense_value,
    frame,
    random_part,
    residual_covariance,
)
from tests.residual.structures import CORRELATIONS, VARIANCES, CorrelationCase, Row, VarianceCase

FRAME = frame(groups=14)
PSI = np.array([[1.3, 0.2], [0.2, 0.4]])
_by_name = pytest.mark.parametrize("case", CORRELATIONS, ids=lambda case: case.name)
_functions = pytest.mark.parametrize("case", VARIANCES, ids=lambda case: case.name)


def bind(residual: Residual, formula: str = "y ~ x", weights: str | None = None) -> ResidualModel:
    design = build_design(formula, FRAME, weights=weights, coordinates=residual.columns)
    return residual_model(design, residual)


def thetas(model: ResidualModel) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    k = len(model.parameters)
    starts = model.starts()
    return [*starts, *(starts[0] + generator.normal(0.0, 0.8, size=(3, k)))]


@_by_name
@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize("random", ["", " + (1 + time | id)"])
def test_likelihood_is_that_of_the_dense_matrix(
    case: CorrelationCase, restricted: bool, random: str
) -> None:
    model = bind(Residual(case.structure), f"y ~ x{random}")
    y, X = FRAME["y"].to_numpy(), np.column_stack([np.ones(FRAME.height), FRAME["x"]])
    psi = PSI if random else None
    for theta in thetas(model):
        R = residual_covariance(FRAME, functools.partial(case.plain, model.values(theta)))
        V = 1.7 * R + random_part(FRAME, psi)
        own = at_natural(model.objective(theta, restricted=restricted), psi, 1.7)
        assert own == pytest.approx(dense_value(y, X, V, restricted=restricted), rel=1e-9)


def test_a_structure_is_written_as_the_call_that_makes_it() -> None:
    residual: object
    for case in (*CORRELATIONS, *VARIANCES):
        learned = bind(
            Residual(case.structure)
            if isinstance(case, CorrelationCase)
            else Residual(variance=case.structure)
        ).residual
        residual = learned.correlation or learned.variances[0]
        if case.name == "a user's":
            assert str(residual) == "damped('time', group='id')"
        else:
            assert eval(str(residual), vars(lmmkit.residual)) == case.structure
    assert str(Residual(ar1("visit"), (power(), per_stratum("kind")))) == (
        "ar1('visit'), power(), per_stratum('kind')"
    )


def _weighted(case: VarianceCase, values: np.ndarray, row: Row) -> float:
    return case.plain(values, row) / math.sqrt(row["w"])


@_functions
@pytest.mark.parametrize("random", ["", " + (1 | id)"])
def test_variances_times_a_correlation_and_weights(case: VarianceCase, random: str) -> None:
    correlation = CORRELATIONS[0]
    residual = Residual(correlation.structure, case.structure)
    model = bind(residual, f"y ~ x{random}", weights="w")
    y, X = FRAME["y"].to_numpy(), np.column_stack([np.ones(FRAME.height), FRAME["x"]])
    psi = PSI[:1, :1] if random else None
    for theta in thetas(model):
        values = model.values(theta)
        V = 1.7 * residual_covariance(
            FRAME,
            functools.partial(correlation.plain, values[:1]),
            functools.partial(_weighted, case, values[1:]),
        ) + random_part(FRAME, psi)
        own = at_natural(model.objective(theta, restricted=True), psi, 1.7)
        assert own == pytest.approx(dense_value(y, X, V, restricted=True), rel=1e-9)


@_by_name
def test_correlations_are_positive_definite_and_smooth(case: CorrelationCase) -> None:
    model = bind(Residual(case.structure))
    assert model.whitener is not None
    structure = model.whitener.correlation
    coordinates = model.whitener.blocks[-1].coordinates
    for theta in thetas(model):
        R = structure.correlation(theta, coordinates)
        assert np.linalg.eigvalsh(R).min() > 0
        assert np.abs(np.diagonal(R, axis1=-2, axis2=-1) - 1.0).max() < 1e-12
        assert np.isfinite(
            numeric_gradient(lambda t: structure.correlation(t, coordinates), theta)
        ).all()
        assert len(structure.values(theta)) == len(theta) == len(structure.parameters)


@_by_name
def test_values_lie_between_their_bounds(case: CorrelationCase) -> None:
    model = bind(Residual(case.structure))
    for theta in thetas(model):
        for parameter, value in zip(model.parameters, model.values(theta), strict=True):
            assert parameter.lower < value < parameter.upper
            assert parameter.value(parameter.theta(value)) == pytest.approx(value, rel=1e-12)
            slope = numeric_gradient(parameter.value, np.atleast_1d(parameter.theta(value)))
            assert parameter.slope(value) == pytest.approx(slope[0, 0], rel=1e-8)


@pytest.mark.parametrize(
    "case", [c for c in CORRELATIONS if isinstance(c.structure, ClosedForm)], ids=lambda c: c.name
)
def test_closed_forms_whiten_as_the_cholesky_factor_does(case: CorrelationCase) -> None:
    model = bind(Residual(case.structure))
    assert model.whitener is not None
    structure = model.whitener.correlation
    assert isinstance(structure, ClosedForm)
    columns = np.random.default_rng(0).normal(size=(3, FRAME.height))
    for block in model.whitener.blocks:
        stacked = columns[:, block.rows].reshape(3, *block.coordinates.shape[:2])
        for theta in thetas(model):
            L = np.linalg.cholesky(structure.correlation(theta, block.coordinates))
            white, log_det = structure.whiten(theta, block.coordinates, stacked)
            assert np.einsum("gij,cgj->cgi", L, white) == pytest.approx(stacked, abs=1e-9)
            assert log_det == pytest.approx(np.linalg.slogdet(L)[1].sum() * 2, abs=1e-9)


@_by_name
def test_sums_over_patterns_agree_with_rows(case: CorrelationCase) -> None:
    """Fifty copies of the groups: the same coordinates, other responses."""
    import polars as pl

    from lmmkit.records import evolve

    generator = np.random.default_rng(1)
    many = pl.concat(
        FRAME.with_columns(
            id=pl.col("id") + f"-{i}",
            x=pl.Series(generator.normal(size=FRAME.height)),
            y=pl.Series(generator.normal(size=FRAME.height)),
        )
        for i in range(20)
    )
    residual = Residual(case.structure, VARIANCES[0].structure)
    model = residual_model(build_design("y ~ x", many, coordinates=residual.columns), residual)
    assert model.sums
    by_rows = evolve(model, sums=())
    for theta in thetas(model):
        own = at_natural(model.objective(theta, restricted=True), None, 0.9)
        assert own == pytest.approx(
            at_natural(by_rows.objective(theta, restricted=True), None, 0.9), rel=1e-11
        )
