"""Further starts of a climb that ended on the boundary, where local maxima are."""

from typing import Any

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.certificate import singular_terms
from lmmkit.optimize.evaluate import Score, evaluate, pack, reached, unpack
from lmmkit.optimize.start import standard_start
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import evolve, record

_SPREAD = 1.0


@record
class _End:
    """Where a climb ended."""

    params: SquareRootParams
    state: Any
    report: Report


@record
class _Starting:
    """The inner step's state, how many starts are left, and the best end so far."""

    state: Any
    left: int
    best: _End | None = None

    @property
    def score(self) -> Score | None:
        """The score that the inner state holds."""
        return getattr(self.state, "score", None)


def several_starts(step: Step, more: int = 3) -> Step:
    """``step``; where it ends at a singular covariance, also from ``more`` other starts.

    There the likelihood of a covariance structure has local maxima: a standard deviation that went
    to zero stays there, whatever becomes of the correlations. The highest end is returned.
    """

    def init(objective: Objective, params: SquareRootParams) -> _Starting:
        return _Starting(step.init(objective, params), more)

    def update(
        objective: Objective, params: SquareRootParams, running: _Starting
    ) -> tuple[SquareRootParams, _Starting, Report]:
        params, state, report = step.update(objective, params, running.state)
        if report.status is Status.RUNNING:
            return params, evolve(running, state=state), report
        end, best = _End(params, state, report), running.best
        if best is None and not _singular(objective, end):
            return params, evolve(running, state=state), report
        if best is None or report.loglik > best.report.loglik:
            best = end
        if running.left == 0:
            return best.params, _Starting(best.state, 0), best.report
        params = _start(objective, running.left)
        after = _Starting(step.init(objective, params), running.left - 1, best)
        return params, after, evolve(report, status=Status.RUNNING)

    return Step(step.name, init, update)


def _singular(objective: Objective, end: _End) -> bool:
    score = reached(objective, end.params, end.state)
    return score is not None and bool(singular_terms(objective, score.value.factors))


def _start(objective: Objective, seed: int) -> SquareRootParams:
    """A place around the standard start; the standard one where there is no likelihood."""
    generator = np.random.default_rng(seed)
    usual = pack(standard_start(objective))
    x = usual + _SPREAD * generator.normal(size=len(usual))
    return unpack(objective, x if np.isfinite(evaluate(objective, x).loglik) else usual)
