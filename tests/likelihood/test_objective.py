"""Value, score, Hessian and information of every parameterization against n x n algebra."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import group
from lmmkit.likelihood import Objective
from lmmkit.moments import cross_products
from lmmkit.parameters import NaturalParams
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import (
    dense_loglik,
    expected_information,
    gls,
    marginal_covariance,
    numeric_gradient,
)
from tests.helpers import dense_model
from tests.likelihood.cases import CRITERIA, DESIGNS, POINTS, design, objective, place
from tests.likelihood.dense import KINDS, Dense, Kind, Params, derivative, record

every_design = pytest.mark.parametrize("name", DESIGNS)
every_point = pytest.mark.parametrize("point", POINTS)
every_kind = pytest.mark.parametrize("kind", KINDS)
beta_or_not = pytest.mark.parametrize("beta", [True, False], ids=["beta given", "beta profiled"])
ml_and_reml = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])


def case(
    name: str, point: str, kind: Kind, beta: bool, reml: bool
) -> tuple[Objective, Params, Dense]:
    params = record(kind, place(design(name), point), beta=beta)
    return (
        objective(name, restricted=reml),
        params,
        Dense(dense_model(design(name)), kind, reml, beta),
    )


def close(actual: Any, expected: Any, tolerance: float) -> None:
    """Agreement relative to the largest entry."""
    largest = np.abs(expected).max(initial=1.0)
    assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


@every_design
@every_point
@every_kind
@beta_or_not
@ml_and_reml
def test_value_and_derivatives(name: str, point: str, kind: Kind, beta: bool, reml: bool) -> None:
    at, params, dense = case(name, point, kind, beta, reml)
    packed = params.pack()
    best_beta, psi, sigma2 = dense.natural(packed)
    loglik = dense_loglik(dense.model, best_beta, psi, sigma2, reml=reml)
    close(dense.loglik(packed), loglik, 1e-13)
    close(at.loglik(params), loglik, 1e-12)
    close(at.sigma2(params), sigma2, 1e-11)
    close(at.beta(params), best_beta, 1e-11)
    natural = NaturalParams(tuple(psi), sigma2, best_beta)
    close(at.natural(params).pack(), natural.pack(), 1e-11)
    score = derivative(dense.loglik, packed)
    close(dense.score(packed), score, 1e-10)
    close(at.score(params), score, 1e-10)
    hessian = derivative(dense.score, packed).reshape(len(packed), len(packed))
    close(at.hessian(params), hessian, 1e-10)
    assert np.array_equal(at.observed_information(params), -at.hessian(params))


@every_design
@every_point
@every_kind
@beta_or_not
@ml_and_reml
def test_expected_information(name: str, point: str, kind: Kind, beta: bool, reml: bool) -> None:
    at, params, dense = case(name, point, kind, beta, reml)
    packed = params.pack()
    _, psi, sigma2 = dense.natural(packed)
    by_covariance = expected_information(dense.model, psi, sigma2, reml=reml)
    if kind != "natural":
        across = covariance_jacobian(dense, packed, psi, sigma2)
        full = across.T @ by_covariance @ across
        by_covariance = full[:-1, :-1] - np.outer(full[:-1, -1], full[-1, :-1]) / full[-1, -1]
    p = dense.model.X.shape[1] if beta else 0
    expected = np.zeros((len(packed), len(packed)))
    if p:
        expected[:p, :p] = np.linalg.inv(gls(dense.model, psi, sigma2)[1])
    expected[p:, p:] = by_covariance
    close(at.expected_information(params), expected, 1e-10)


def covariance_jacobian(
    dense: Dense, packed: FloatArray, psi: list[FloatArray], sigma2: float
) -> FloatArray:
    """Of (vech psi, sigma2) by (the record's matrices, sigma2)."""
    p = dense.model.X.shape[1] if dense.beta else 0
    relative = Dense(dense.model, dense.kind, dense.reml, beta=False)

    def natural(x: FloatArray) -> FloatArray:
        matrices = relative.matrices(x[:-1])
        if dense.kind == "square root":
            matrices = [t @ t.T for t in matrices]
        triangles = [(x[-1] * matrix)[np.tril_indices(len(matrix))] for matrix in matrices]
        return np.concatenate([*triangles, x[-1:]])

    x = np.append(packed[p:], sigma2)
    assert_allclose(natural(x), NaturalParams(tuple(psi), sigma2).pack(), rtol=1e-12)
    return derivative(natural, x)


@every_design
@ml_and_reml
def test_the_oracle_score_by_differences(name: str, reml: bool) -> None:
    at, params, dense = case(name, "interior", "natural", True, reml)
    packed = params.pack()
    step = np.full(len(packed), 0.02)
    close(at.score(params), numeric_gradient(dense.loglik, packed, step), 1e-8)


@pytest.mark.parametrize(
    "name", ["unbalanced slope", "weights and offset", "balanced slope", "q = 3"]
)
@every_point
@ml_and_reml
def test_expected_information_is_the_mean_of_the_observed(
    name: str, point: str, reml: bool
) -> None:
    # The Hessian is linear in r and r r', whose means are 0 and V: the average over the 2 N
    # responses X beta +- sqrt(N) L[:, i], with V = L L', is exact. Under REML it is
    # with beta profiled.
    where = place(design(name), point)
    params = record("natural", where, beta=not reml)
    assert isinstance(params, NaturalParams)
    model = dense_model(design(name))
    root = np.linalg.cholesky(marginal_covariance(model, params.psi, where.sigma2))
    residuals = np.sqrt(len(root)) * np.concatenate([root.T, -root.T])
    responses = model.offset + model.X @ where.beta + residuals
    moments = cross_products(group(evolve(design(name), y=responses)))
    at = CRITERIA[reml](moments)
    mean = at.observed_information(params).mean(axis=0)
    close(mean, at.expected_information(params)[0], 1e-10)
