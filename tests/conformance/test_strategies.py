"""What every strategy in the registry must do, on every reference case."""

import copy
import itertools

import numpy as np
import pytest

from lmmkit.optimize import Report, Status, Step, maximize
from lmmkit.optimize.start import standard_start
from lmmkit.parameters import SquareRootParams, to_square_root
from tests.registries import CASES, STRATEGIES, case_objective

# The reference log-likelihoods are lme4's, good to about 1e-11 relative.
SAME_DEVIANCE = 1e-8
STARTS = {
    "standard": SquareRootParams((np.eye(2) / np.sqrt(2.0),)),
    "large": SquareRootParams((np.array([[30.0, 0.0], [3.0, 4.0]]),)),
    "small": SquareRootParams((np.array([[0.05, 0.0], [0.01, 0.02]]),)),
}


def pairs(*, quick: bool) -> list[tuple[str, str]]:
    return [
        (name, case)
        for (name, strategy), case in itertools.product(STRATEGIES.items(), CASES)
        if case not in strategy.never_on and (case not in strategy.slow_on) is quick
    ]


def check_optimum(name: str, case: str, iterations: int) -> None:
    optimum = maximize(case_objective(case), STRATEGIES[name].step, max_iterations=iterations)
    assert optimum.loglik == pytest.approx(CASES[case].loglik, rel=SAME_DEVIANCE)
    assert optimum.certificate.converged
    assert optimum.certificate.status is Status.CONVERGED
    assert optimum.certificate.inertia[2] == 0
    assert optimum.trace["loglik"][-1] == pytest.approx(optimum.loglik, rel=1e-10)


@pytest.mark.parametrize(("name", "case"), pairs(quick=True))
def test_the_optimum_is_reached(name: str, case: str) -> None:
    check_optimum(name, case, 500)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), pairs(quick=False))
def test_the_optimum_is_reached_in_the_end(name: str, case: str) -> None:
    check_optimum(name, case, 20_000)


@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s.slow_on or s.never_on])
def test_a_strategy_that_is_not_there_yet_says_so(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.why
    for case in strategy.slow_on + strategy.never_on:
        optimum = maximize(case_objective(case), strategy.step, max_iterations=15)
        assert optimum.certificate.status is Status.OUT_OF_ITERATIONS
        assert not optimum.certificate.converged
        assert optimum.trace.height == 15


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if not (s.slow_on or s.jams)])
def test_the_optimum_does_not_depend_on_the_start(name: str, start: str) -> None:
    optimum = maximize(
        case_objective("sleep_rs"), STRATEGIES[name].step, STARTS[start], max_iterations=1000
    )
    assert optimum.loglik == pytest.approx(CASES["sleep_rs"].loglik, rel=SAME_DEVIANCE)
    assert optimum.certificate.converged


@pytest.mark.parametrize("case", ["dietox_rs", "machines_vec", "dyestuff2_singular"])
@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s.monotone])
def test_the_loglik_never_decreases(name: str, case: str) -> None:
    objective = case_objective(case)
    trace = maximize(objective, STRATEGIES[name].step, max_iterations=60).trace
    start = float(objective.standardized().loglik(standard_start(objective)))
    values = np.r_[start, trace["loglik"].to_numpy()]
    # 1e-13 relative is the rounding of a sum over 861 rows
    assert (np.diff(values) >= -1e-13 * abs(values[-1])).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_changed_and_nothing_is_remembered(name: str) -> None:
    objective = case_objective("sleep_rs")
    before, start = copy.deepcopy(objective), copy.deepcopy(STARTS["large"])
    first = maximize(objective, STRATEGIES[name].step, start, max_iterations=10)
    maximize(case_objective("dietox_ri"), STRATEGIES[name].step, max_iterations=3)
    again = maximize(objective, STRATEGIES[name].step, start, max_iterations=10)
    assert again.natural == first.natural
    assert again.loglik == first.loglik
    assert again.certificate == first.certificate
    assert again.trace.equals(first.trace)
    assert objective == before
    assert start == STARTS["large"]


def walk(step: Step, count: int) -> list[Report]:
    """The first reports, checking at each update that it is a pure function."""
    objective = case_objective("sleep_rs").standardized()
    params = STARTS["large"]
    state = step.init(objective, params)
    reports = []
    for _ in range(count):
        at, kept = copy.deepcopy(params), copy.deepcopy(state)
        moved, after, report = step.update(objective, params, state)
        again = step.update(objective, params, state)
        assert again[0] == moved
        assert again[2].loglik == report.loglik
        assert params == at
        assert state == kept
        assert report.loglik == pytest.approx(objective.loglik(moved), rel=1e-12)
        reports.append(report)
        params, state = moved, after
        if report.status is not Status.RUNNING:
            break
    return reports


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_contract_of_a_step(name: str) -> None:
    step = STRATEGIES[name].step
    reports = walk(step, 6)
    assert all(isinstance(report, Report) for report in reports)
    assert all(report.step and report.score_norm >= 0 for report in reports)
    assert all(report.status is Status.RUNNING for report in reports[:-1])
    assert step.name


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_start_at_the_optimum_stays_there(name: str) -> None:
    objective = case_objective("sleep_rs")
    best = maximize(objective)
    start = to_square_root(best.natural)
    optimum = maximize(objective, STRATEGIES[name].step, start, max_iterations=50)
    assert optimum.certificate.converged
    assert optimum.loglik == pytest.approx(best.loglik, rel=1e-13)
    assert optimum.trace.height <= 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_zero_covariances_are_left_or_called_a_saddle(name: str) -> None:
    """They are a stationary point of the factors' likelihood, and no maximum."""
    zero = SquareRootParams((np.zeros((2, 2)),))
    optimum = maximize(case_objective("sleep_rs"), STRATEGIES[name].step, zero, max_iterations=50)
    if STRATEGIES[name].leaves_zero:
        assert optimum.certificate.converged
        assert optimum.loglik == pytest.approx(CASES["sleep_rs"].loglik, rel=SAME_DEVIANCE)
        return
    assert not optimum.certificate.converged
    assert optimum.certificate.inertia[2] > 0
    assert "saddle" in str(optimum.certificate)
