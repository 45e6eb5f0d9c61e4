"""Single steps against their formulas, computed here from the dense oracle."""

from typing import Any

import numpy as np
import pytest

from lmmkit.errors import StrategyError
from lmmkit.likelihood import Objective
from lmmkit.optimize import (
    Report,
    Status,
    Step,
    armijo,
    conjugate_gradient,
    em,
    fisher,
    fixed,
    line_search,
    maximize,
    metrics,
    scipy_step,
    steepest_descent,
    strong_wolfe,
)
from lmmkit.optimize.directions import (
    Slope,
    dai_yuan,
    fletcher_reeves,
    hestenes_stiefel,
    polak_ribiere,
    zero,
)
from lmmkit.optimize.evaluate import Score, Value, differentiate, evaluate, pack
from lmmkit.optimize.line_search import LineSearch
from lmmkit.optimize.metrics import absolute
from lmmkit.parameters import NaturalParams, SquareRootParams, to_square_root
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import gls, marginal_covariance
from tests.helpers import dense_model
from tests.registries import case_design, case_objective

REML = "sleep_rs"
ML = "sleep_rs_ml"
SLOPE = ("score", "previous_score", "ascent", "previous_ascent", "previous_direction")
FAR = SquareRootParams((np.array([[2.0, 0.0], [-0.3, 1.0]]),))


def second_moment(case: str, psi: FloatArray, sigma2: float) -> FloatArray:
    """``E[b b' | y]``, summed over the levels, sigma2 and (REML: integrated) beta given."""
    model = dense_model(case_design(case))
    V = marginal_covariance(model, [psi], sigma2)
    inverse = np.linalg.inv(V)
    r = model.y - model.X @ gls(model, [psi], sigma2)[0]
    P = inverse
    if case == REML:
        solved = inverse @ model.X
        P = inverse - solved @ np.linalg.solve(model.X.T @ solved, solved.T)
    term, total = model.terms[0], np.zeros((2, 2))
    for level in range(int(term.codes.max()) + 1):
        C = psi @ np.where(term.codes[:, None] == level, term.Z, 0.0).T
        mode = C @ (inverse @ r)
        total += np.outer(mode, mode) + psi - C @ P @ C.T
    return total


@pytest.mark.parametrize("case", [REML, ML])
def test_an_em_step_is_the_expected_second_moment(case: str) -> None:
    objective = case_objective(case)
    before = objective.natural(FAR)
    sigma2 = float(before.sigma2)
    n_levels = len(case_design(case).terms[0].levels)
    psi = second_moment(case, before.psi[0], sigma2) / n_levels
    after = maximize(objective, em(1), FAR).natural
    # the relative covariance moves, sigma2 is then the best one for it
    expected = objective.natural(to_square_root(NaturalParams((psi,), sigma2)))
    np.testing.assert_allclose(after.psi[0], expected.psi[0], rtol=1e-8)
    assert after.sigma2 == pytest.approx(float(expected.sigma2), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("make", [em, steepest_descent, conjugate_gradient])
def test_a_number_of_iterations_is_kept(make: object, n: int) -> None:
    optimum = maximize(case_objective("machines_vec"), make(n))  # type: ignore[operator]
    assert optimum.trace.height == n
    assert optimum.certificate.status is Status.FINISHED
    assert not optimum.certificate.converged


def test_steepest_ascent_goes_along_the_score() -> None:
    objective = case_objective(REML).standardized()
    step = steepest_descent(line_search=fixed(0.01))
    moved, _, _ = step.update(objective, FAR, step.init(objective, FAR))
    score = objective.score(FAR)
    expected = pack(FAR) + 0.01 * score / objective.degrees_of_freedom
    np.testing.assert_allclose(pack(moved), expected, rtol=1e-12)


def test_scoring_goes_along_the_solution_by_the_information() -> None:
    """Near the optimum, where the curvature that the factor brings in is small."""
    objective = case_objective(REML).standardized()
    best = to_square_root(maximize(objective).natural)
    near = SquareRootParams(tuple(1.001 * t for t in best.factor))
    step = steepest_descent(metric=fisher, line_search=fixed(1.0))
    moved, _, _ = step.update(objective, near, step.init(objective, near))
    information = objective.expected_information(near)
    expected = pack(near) + np.linalg.solve(information, objective.score(near))
    np.testing.assert_allclose(pack(moved), expected, atol=2e-2 * 1e-3)


def slope(seed: int = 1) -> Slope:
    rng = np.random.default_rng(seed)
    return Slope(*(rng.normal(size=4) for _ in range(5)))


def test_the_beta_formulas() -> None:
    g, g0, z, z0, d = (getattr(slope(), name) for name in SLOPE)
    y = g - g0
    assert zero(slope()) == 0.0
    assert fletcher_reeves(slope()) == pytest.approx(g @ z / (g0 @ z0))
    assert polak_ribiere(slope()) == pytest.approx(max(0.0, y @ z / (g0 @ z0)))
    along = y @ d
    assert hestenes_stiefel(slope()) == pytest.approx(max(0.0, y @ z / -along) if along < 0 else 0)
    assert dai_yuan(slope()) == pytest.approx(g @ z / -along if along < 0 else 0)


def test_the_formulas_agree_on_a_quadratic_with_exact_steps() -> None:
    """There they all are the linear conjugate gradient method's (Nocedal & Wright, 5.2)."""
    A = np.diag([1.0, 3.0, 9.0])
    x0 = np.array([1.0, -2.0, 0.5])
    g0 = -A @ x0
    length = g0 @ g0 / (g0 @ A @ g0)
    g = -A @ (x0 + length * g0)
    at = Slope(g, g0, g, g0, g0)
    values = [f(at) for f in (fletcher_reeves, polak_ribiere, hestenes_stiefel, dai_yuan)]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
    assert values[0] > 0


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("search", [armijo(), strong_wolfe()], ids=["armijo", "wolfe"])
def test_a_line_search_rises_enough(search: LineSearch, scale: float) -> None:
    objective = case_objective(REML).standardized()
    score = differentiate(objective, evaluate(objective, pack(FAR)))
    direction = scale * score.score / objective.degrees_of_freedom
    move = search(objective, score, direction)
    assert move.score is not None
    gain = move.score.value.loglik - score.value.loglik
    assert gain >= 1e-4 * move.length * (score.score @ direction) > 0
    np.testing.assert_allclose(move.score.value.x, pack(FAR) + move.length * direction)


def test_strong_wolfe_flattens_the_slope() -> None:
    objective = case_objective(REML).standardized()
    score = differentiate(objective, evaluate(objective, pack(FAR)))
    direction = score.score / objective.degrees_of_freedom
    move = strong_wolfe()(objective, score, direction)
    assert move.score is not None
    assert abs(move.score.score @ direction) <= 0.9 * abs(score.score @ direction)


@pytest.mark.parametrize("search", [armijo(), strong_wolfe()], ids=["armijo", "wolfe"])
def test_a_step_to_a_score_that_is_not_finite_is_shortened(
    search: LineSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = case_objective(REML).standardized()
    score = differentiate(objective, evaluate(objective, pack(FAR)))
    direction = score.score / objective.degrees_of_freedom
    whole = search(objective, score, direction).length

    def rounded(objective: Objective, value: Value) -> Score:
        there = differentiate(objective, value)
        far = np.linalg.norm(value.x - pack(FAR)) > 0.5 * whole * np.linalg.norm(direction)
        return evolve(there, score=there.score * np.nan) if far else there

    monkeypatch.setattr(line_search, "differentiate", rounded)
    move = search(objective, score, direction)
    assert move.score is not None
    assert 0.0 < move.length < whole
    assert np.isfinite(move.score.score).all()


def test_information_that_rounding_made_negative_leaves_a_metric_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = case_objective(REML).standardized()
    score = differentiate(objective, evaluate(objective, pack(FAR)))
    n = len(score.score)
    rounded = np.diag(np.append(-1e-12, np.ones(n - 1)))
    monkeypatch.setattr(metrics, "fisher_information", lambda *_: rounded)
    ascent = np.linalg.solve(absolute(objective, score), score.score)
    assert np.isfinite(ascent).all()
    assert ascent @ score.score > 0


def test_a_metric_that_is_not_finite_stalls() -> None:
    def lost(objective: Objective, score: Score) -> FloatArray:
        return np.full((len(score.score),) * 2, np.nan)

    certificate = maximize(case_objective(REML), steepest_descent(metric=lost)).certificate
    assert certificate.status is Status.STALLED


def test_no_step_length_is_found_downhill() -> None:
    objective = case_objective(REML).standardized()
    score = differentiate(objective, evaluate(objective, pack(FAR)))
    assert armijo(most=0)(objective, score, score.score).score is None


def test_a_step_that_cannot_move_stalls_and_says_so() -> None:
    optimum = maximize(
        case_objective(REML), steepest_descent(line_search=armijo(most=0)), max_iterations=9
    )
    assert optimum.certificate.status is Status.STALLED
    assert optimum.trace.height == 1
    assert not optimum.certificate.converged


def test_scipy_s_options_are_passed_on() -> None:
    objective = case_objective("machines_vec")
    trace = maximize(objective, scipy_step("BFGS", maxiter=2)).trace
    assert trace.height > 1


@pytest.mark.parametrize("method", ["Powell", "Nelder-Mead", "Newton-CG", "trust-exact", ""])
def test_scipy_methods_without_the_contract_are_refused(method: str) -> None:
    with pytest.raises(StrategyError, match="L-BFGS-B"):
        scipy_step(method)


def test_a_state_that_is_elsewhere_does_not_stand_for_the_parameters() -> None:
    """A step that wraps another and moves the parameters itself is taken at its word."""
    inner = em(1)

    def update(
        objective: Objective, params: SquareRootParams, state: Any
    ) -> tuple[SquareRootParams, Any, Report]:
        _, state, report = inner.update(objective, params, state)
        return SquareRootParams((np.eye(2),)), state, report

    objective = case_objective("sleep_rs")
    optimum = maximize(objective, Step("elsewhere", inner.init, update), max_iterations=1)
    standard = objective.standardized()
    assert optimum.loglik == pytest.approx(standard.loglik(SquareRootParams((np.eye(2),))))
