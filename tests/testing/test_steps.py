"""``check_step`` passes the library's steps, and says what is wrong with broken ones."""

from typing import Any

import numpy as np
import pytest

from lmmkit import default_strategy, seed_strategy
from lmmkit.errors import ConformanceError
from lmmkit.likelihood import Objective
from lmmkit.optimize import Status, Step, em, fisher, scipy_step, steepest_descent
from lmmkit.parameters import SquareRootParams
from lmmkit.records import evolve
from lmmkit.testing import check_step

SOUND = steepest_descent(metric=fisher)


@pytest.mark.parametrize(
    "step",
    [default_strategy(), seed_strategy(), em(), SOUND, scipy_step("L-BFGS-B")],
    ids=lambda step: step.name,
)
def test_steps_of_the_library_keep_the_contract(step: Step) -> None:
    check_step(step)


def test_a_part_of_a_strategy() -> None:
    check_step(em(3), arrives=False)
    with pytest.raises(ConformanceError, match=r"em, iteration 3 ends with FINISHED .* below"):
        check_step(em(3))


def broken(**changes: Any) -> Step:
    """The sound step with something done to what its update returns."""

    def update(objective: Objective, params: SquareRootParams, state: Any) -> Any:
        moved, state, report = SOUND.update(objective, params, state)
        parts = {"params": moved, "state": state, "report": report}
        for name, change in changes.items():
            parts[name] = change(parts[name])
        return tuple(parts.values())

    return Step("broken", SOUND.init, update)


def short(objective: Objective, params: SquareRootParams, state: Any) -> Any:
    """No report."""
    return params, state


def remembering() -> Step:
    """What it does depends on how often it was called."""
    calls: list[int] = []

    def update(objective: Objective, params: SquareRootParams, state: Any) -> Any:
        calls.append(1)
        moved, state, report = SOUND.update(objective, params, state)
        other = evolve(moved, factor=tuple(t * (1 + 0.01 * len(calls)) for t in moved.factor))
        return other, state, evolve(report, loglik=float(objective.loglik(other)))

    return Step("remembering", SOUND.init, update)


def modifying() -> Step:
    """Its state is a list that it appends to."""

    def update(objective: Objective, params: SquareRootParams, state: list[Any]) -> Any:
        moved, inner, report = SOUND.update(objective, params, state[-1])
        state.append(inner)
        return moved, state, report

    return Step("modifying", lambda o, p: [SOUND.init(o, p)], update)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (em, "expected a Step, got function; a factory has to be called"),
        (broken(report=lambda report: None), "update has to return SquareRootParams"),
        (Step("short", SOUND.init, short), "return .params, state, report."),
        (
            broken(report=lambda report: evolve(report, loglik=report.loglik + 1.0)),
            "the report says that the log-likelihood is",
        ),
        (
            broken(report=lambda report: evolve(report, status=Status.RUNNING)),
            "does not end: after 50 iterations",
        ),
        (
            broken(report=lambda report: evolve(report, status=Status.CONVERGED)),
            "says that it converged, .* but the maximum is",
        ),
        (remembering(), "another result when it is called again"),
        (modifying(), "modifies its params or its state"),
        (
            broken(params=lambda params: SquareRootParams((np.eye(5),))),
            "illegal parameters: expected one matrix a random term",
        ),
    ],
    ids=range(9),
)
def test_broken_steps_are_caught(step: Any, words: str) -> None:
    with pytest.raises(ConformanceError, match=f"(?s){words}"):
        check_step(step, max_iterations=50)
