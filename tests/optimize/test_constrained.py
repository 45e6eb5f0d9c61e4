"""Maxima subject to equalities, against the dense oracle's likelihood."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lmmkit import fit_design
from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Hold, HoldCorrelation, Relation, gap
from lmmkit.optimize import maximize
from lmmkit.optimize.constrained import maximize_subject_to
from lmmkit.records import evolve
from tests.dense_oracle import dense_loglik, profiled_loglik
from tests.helpers import dense_model
from tests.registries import case_design, case_objective

SETS: dict[str, tuple[Hold, ...]] = {
    "beta": (Hold(1, 8.0),),
    "variance": (Hold(2, 200.0),),
    "covariance": (Hold(3, -100.0),),
    "sigma2": (Hold(5, 500.0),),
    "covariance and sigma2": (Hold(3, 100.0), Hold(5, 800.0)),
    "all variances": (Hold(2, 700.0), Hold(4, 20.0), Hold(5, 600.0)),
}


@pytest.mark.parametrize("case", ["sleep_rs", "sleep_rs_ml"])
@pytest.mark.parametrize("constraints", SETS.values(), ids=list(SETS))
def test_the_constraints_hold_and_the_free_score_is_zero(
    constraints: tuple[Hold, ...], case: str
) -> None:
    objective = case_objective(case)
    found = maximize_subject_to(objective, constraints, maximize(objective).natural)
    packed, free = found.natural.pack(), np.ones(6, dtype=bool)
    for constraint in constraints:
        assert packed[constraint.index] == constraint.value
        free[constraint.index] = False
    assert found.inertia == (free.sum(), 0, 0)
    assert found.loglik == pytest.approx(float(objective.loglik(found.natural)), rel=1e-12)
    score = objective.score(found.natural)
    information = objective.expected_information(found.natural)
    distance = (score / np.sqrt(np.diagonal(information)))[free]
    assert np.abs(distance).max() < 1e-6  # standard errors


@pytest.mark.parametrize(("case", "sigma2"), [("dyestuff", 1500.0), ("ergostool", 2.0)])
def test_one_free_variance_against_the_dense_likelihood(case: str, sigma2: float) -> None:
    design, objective = case_design(case), case_objective(case)
    index = design.X.shape[1] + 1
    start = maximize(objective).natural
    found = maximize_subject_to(objective, (Hold(index, sigma2),), start)
    model = dense_model(design)

    def minus(log_variance: float) -> float:
        return -profiled_loglik(model, [[[np.exp(log_variance)]]], sigma2, reml=True)

    best = minimize_scalar(minus, bracket=(-5.0, np.log(2 * sigma2)), tol=1e-10)
    assert found.loglik == pytest.approx(-best.fun, rel=1e-11)
    assert found.natural.psi[0].item() == pytest.approx(np.exp(best.x), rel=1e-5)


def test_a_fixed_effect_held_under_reml_keeps_its_column() -> None:
    design, objective = case_design("dyestuff"), case_objective("dyestuff")
    best = maximize(objective).natural
    found = maximize_subject_to(objective, (Hold(0, 1500.0),), best)
    psi, sigma2 = found.natural.psi, float(found.natural.sigma2)
    value = dense_loglik(dense_model(design), [1500.0], psi, sigma2, reml=True)
    assert found.loglik == pytest.approx(value, rel=1e-12)
    held = fit_design(design, fixed={"Intercept": 1500.0})
    assert abs(held.loglik - found.loglik) > 0.1  # the other model, without the column


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_equation_moved_by_its_gap_holds(share: float) -> None:
    """On the way from where it does not hold its value moves in its own unit."""
    values = np.array([250.0, 10.0, 600.0, 40.0, 35.0, 650.0])
    rho = 40.0 / np.sqrt(600.0 * 35.0)
    for equation, unit in (
        (HoldCorrelation(3, (2, 4), -0.9), rho),
        (Hold(3, -100.0), 40.0),
        (Relation(((2, 1.0), (4, -2.0)), 100.0), 530.0),
    ):
        moved = evolve(equation, value=equation.value + share * gap(equation, values))
        assert moved.value == pytest.approx(equation.value + share * (unit - equation.value))
        assert gap(moved, values) == pytest.approx((1.0 - share) * (unit - equation.value))
    assert HoldCorrelation(3, (2, 4), rho).local(values)[0] == pytest.approx(0.0, abs=1e-13)


def test_constraints_that_contradict_one_another() -> None:
    objective = case_objective("sleep_rs")
    start = maximize(objective).natural
    with pytest.raises(ParameterError, match="contradict one another"):
        maximize_subject_to(objective, (Hold(2, 1.0), Hold(2, 2.0)), start)
