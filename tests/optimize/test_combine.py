"""Combinators on steps that follow a script, so that every status can be had."""

from typing import Any

import numpy as np
import pytest

from lmmkit.likelihood import Objective
from lmmkit.optimize import Report, Status, Step, best_so_far, chain, fallback, repeat, until
from lmmkit.parameters import SquareRootParams
from tests.registries import case_objective

R, F, S, C = Status.RUNNING, Status.FINISHED, Status.STALLED, Status.CONVERGED
START = SquareRootParams((np.array([[1.0]]),))


def scripted(name: str, *script: tuple[Status, float]) -> Step:
    """One report an update; the parameters count the updates of all steps."""

    def init(objective: Objective, params: SquareRootParams) -> int:
        return 0

    def update(objective: Objective, params: SquareRootParams, state: int) -> Any:
        status, loglik = script[state]
        moved = SquareRootParams((params.factor[0] + 1.0,))
        return moved, state + 1, Report(status, name, loglik, 0.5, 1.0)

    return Step(name, init, update)


def run(step: Step, most: int = 20) -> tuple[list[tuple[str, Status]], float, Report]:
    """Every report as (step, status), the final parameter and the final report."""
    objective = case_objective("dyestuff")
    params, state = START, step.init(objective, START)
    seen = []
    for _ in range(most):
        params, state, report = step.update(objective, params, state)
        seen.append((report.step, report.status))
        if report.status is not R:
            break
    return seen, params.factor[0].item(), report


def test_a_chain_runs_each_step_until_it_is_done() -> None:
    a = scripted("a", (R, 1.0), (F, 2.0))
    b = scripted("b", (S, 2.0))
    c = scripted("c", (R, 3.0), (C, 4.0))
    seen, x, _ = run(chain(a, b, c))
    assert seen == [("a", R), ("a", R), ("b", R), ("c", R), ("c", C)]
    assert x == 6.0
    assert chain(a, b, c).name == "a > b > c"


def test_a_chain_ends_where_a_step_converges() -> None:
    seen, _, _ = run(chain(scripted("a", (C, 1.0)), scripted("b", (F, 2.0))))
    assert seen == [("a", C)]


@pytest.mark.parametrize("last", [F, S, C])
def test_a_chain_has_the_status_of_its_last_step(last: Status) -> None:
    seen, _, _ = run(chain(scripted("a", (F, 1.0)), scripted("b", (last, 2.0))))
    assert seen == [("a", R), ("b", last)]


def test_chains_nest() -> None:
    a, b, c = (scripted(name, (R, 1.0), (F, 1.0)) for name in "abc")
    assert run(chain(chain(a, b), c)) == run(chain(a, chain(b, c)))


def test_a_step_is_repeated_from_its_start() -> None:
    seen, x, _ = run(repeat(scripted("a", (R, 1.0), (F, 2.0)), 3))
    assert seen == [("a", R)] * 5 + [("a", F)]
    assert x == 7.0


def test_repetition_ends_where_the_step_converges() -> None:
    assert run(repeat(scripted("a", (R, 1.0), (C, 2.0)), 3))[0] == [("a", R), ("a", C)]


def test_until_a_rule_holds() -> None:
    step = until(lambda r: r.loglik > 2.0, scripted("a", (R, 1.0), (R, 2.5), (R, 3.0)))
    assert run(step)[0] == [("a", R), ("a", F)]


def test_until_leaves_other_statuses() -> None:
    step = until(lambda r: True, scripted("a", (C, 1.0)))
    assert run(step)[0] == [("a", C)]


def test_fallback_where_the_first_stalls() -> None:
    step = fallback(scripted("a", (R, 1.0), (S, 1.0)), scripted("b", (R, 2.0), (C, 3.0)))
    seen, x, _ = run(step)
    assert seen == [("a", R), ("a", R), ("b", R), ("b", C)]
    assert x == 5.0


@pytest.mark.parametrize("status", [F, C])
def test_no_fallback_where_the_first_does_not_stall(status: Status) -> None:
    step = fallback(scripted("a", (status, 1.0)), scripted("b", (C, 3.0)))
    assert run(step)[0] == [("a", status)]


def test_a_second_stall_is_final() -> None:
    step = fallback(scripted("a", (S, 1.0)), scripted("b", (S, 3.0)))
    assert run(step)[0] == [("a", R), ("b", S)]


@pytest.mark.parametrize(("status", "ended"), [(F, F), (S, S), (C, S)])
def test_the_best_place_is_returned(status: Status, ended: Status) -> None:
    step = best_so_far(scripted("a", (R, 1.0), (R, 9.0), (R, 4.0), (status, 3.0)))
    seen, x, report = run(step)
    assert seen == [("a", R)] * 3 + [("a", ended)]
    assert x == 3.0  # after two updates
    assert report.loglik == 9.0


def test_the_last_place_is_kept_where_it_is_the_best() -> None:
    seen, x, report = run(best_so_far(scripted("a", (R, 1.0), (C, 2.0))))
    assert seen[-1] == ("a", C)
    assert (x, report.loglik) == (3.0, 2.0)


def test_a_place_without_likelihood_is_never_the_best() -> None:
    step = best_so_far(scripted("a", (R, float("nan")), (R, 1.0), (F, float("nan"))))
    _, x, report = run(step)
    assert (x, report.loglik) == (3.0, 1.0)
