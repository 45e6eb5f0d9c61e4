"""What every parameterization must do: round trips, one likelihood, exact derivatives."""

import numpy as np
import pytest

from lmmkit.likelihood import Objective, ml, reml
from lmmkit.optimize import maximize
from lmmkit.parameters import Layout, NaturalParams
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import dense_loglik, gls, numeric_gradient
from tests.helpers import dense_model
from tests.registries import CASES, PARAMETERIZATIONS, Params, case_design, case_objective

SMALL = ("sleep_rs", "sleep_dbl", "machines_vec", "ergostool", "cake")
BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
ALL = pytest.mark.parametrize("name", PARAMETERIZATIONS)


def objective_of(case: str, restricted: bool) -> Objective:
    moments = case_objective(case).moments
    return reml(moments) if restricted else ml(moments)


def somewhere(objective: Objective, seed: int = 0) -> NaturalParams:
    """Natural parameters near the optimum but not there, beta at its best."""
    rng = np.random.default_rng(seed)
    best = maximize(objective).natural
    bump = [(m + m.T) * (1 + 0.1 * np.eye(len(m))) * rng.uniform(0.3, 0.7) for m in best.psi]
    natural = NaturalParams(tuple(bump), 1.3 * float(best.sigma2))
    return evolve(natural, beta=objective.beta(natural))


def layout_of(params: Params, objective: Objective) -> Layout:
    return Layout(None if params.beta is None else params.beta.shape[-1], objective.sizes)


@ALL
@pytest.mark.parametrize("case", CASES)
def test_pack_and_unpack_are_inverse(name: str, case: str) -> None:
    objective = case_objective(case)
    params = PARAMETERIZATIONS[name](somewhere(objective))
    packed = params.pack()
    again = type(params).unpack(packed, layout_of(params, objective))
    assert again == params
    np.testing.assert_array_equal(again.pack(), packed)


@ALL
@BOTH
@pytest.mark.parametrize("case", SMALL)
def test_the_loglik_is_the_dense_one(name: str, restricted: bool, case: str) -> None:
    objective, dense = objective_of(case, restricted), dense_model(case_design(case))
    params = PARAMETERIZATIONS[name](somewhere(objective))
    natural = objective.natural(params)
    beta = gls(dense, natural.psi, float(natural.sigma2))[0]
    expected = dense_loglik(dense, beta, natural.psi, float(natural.sigma2), reml=restricted)
    assert objective.loglik(params) == pytest.approx(expected, rel=1e-10)


@ALL
@BOTH
@pytest.mark.parametrize("case", ["sleep_rs", "ergostool"])
def test_derivatives_are_exact(name: str, restricted: bool, case: str) -> None:
    objective = objective_of(case, restricted)
    params = PARAMETERIZATIONS[name](somewhere(objective))
    layout = layout_of(params, objective)

    def value(x: FloatArray) -> float:
        return float(objective.loglik(type(params).unpack(x, layout)))

    def gradient(x: FloatArray) -> FloatArray:
        return objective.score(type(params).unpack(x, layout))

    at = params.pack()
    step = 0.02 * np.maximum(np.abs(at), 0.1 * np.abs(at).min())
    score, hessian = objective.score(params), objective.hessian(params)
    # each entry in the units of its own parameter
    np.testing.assert_allclose(score * at, numeric_gradient(value, at, step) * at, atol=1e-6)
    scale = np.outer(at, at)
    numeric = numeric_gradient(gradient, at, step) * scale
    np.testing.assert_allclose(hessian * scale, numeric, atol=1e-8 * np.abs(numeric).max())
    np.testing.assert_array_equal(objective.observed_information(params), -hessian)


@ALL
@pytest.mark.parametrize("case", [c for c in CASES if not CASES[c].singular])
def test_the_score_vanishes_at_the_optimum(name: str, case: str) -> None:
    objective = case_objective(case)
    params = PARAMETERIZATIONS[name](maximize(objective).natural)
    score = objective.score(params)
    information = objective.expected_information(params)
    distance = np.sqrt(score @ np.linalg.solve(information, score))
    assert distance < 2e-6  # standard errors; the strategies stop below 1e-6 of them
