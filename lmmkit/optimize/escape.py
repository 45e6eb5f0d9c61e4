"""From a saddle point to where the log-likelihood is higher."""

from typing import Any

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.evaluate import (
    Score,
    differentiate,
    evaluate,
    fisher_information,
    observed_hessian,
    reached,
    unpack,
)
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import evolve, record

_CURVED = 1e-6
_RISE = 1e-9
_LENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)


@record
class _Escaping:
    """The inner step's state, and how often it was started."""

    state: Any
    starts: int = 1

    @property
    def score(self) -> Score | None:
        """The score that the inner state holds."""
        return getattr(self.state, "score", None)


def escape_saddles(step: Step, times: int = 20) -> Step:
    """``step``, started again beside every saddle point that it ends at, up to ``times`` times.

    Covariance structures have such points: a correlation that is the sine of its parameter has no
    slope at 1 and -1, whether or not the maximum is there.
    """

    def init(objective: Objective, params: SquareRootParams) -> _Escaping:
        return _Escaping(step.init(objective, params))

    def update(
        objective: Objective, params: SquareRootParams, running: _Escaping
    ) -> tuple[SquareRootParams, _Escaping, Report]:
        params, state, report = step.update(objective, params, running.state)
        after = _Escaping(state, running.starts)
        if report.status not in (Status.CONVERGED, Status.STALLED) or running.starts > times:
            return params, after, report
        score = reached(objective, params, state)
        higher = None if score is None else higher_beside(objective, score)
        if higher is None:
            return params, after, report
        params = unpack(objective, higher.value.x)
        report = evolve(report, status=Status.RUNNING, loglik=higher.value.loglik)
        return params, _Escaping(step.init(objective, params), running.starts + 1), report

    return Step(step.name, init, update)


def higher_beside(objective: Objective, score: Score) -> Score | None:
    """A higher place along the direction in which the log-likelihood bends up most, if it does."""
    x, loglik = score.value.x, score.value.loglik
    root = np.sqrt(np.maximum(np.diagonal(fisher_information(objective, score)), _CURVED))
    values, vectors = np.linalg.eigh(observed_hessian(objective, score) / np.outer(root, root))
    for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
        if value <= _CURVED:
            break
        direction = vector / np.abs(vector).max()
        for length in _LENGTHS:
            for sign in (1.0, -1.0):
                moved = evaluate(objective, x + sign * length * direction)
                if moved.loglik > loglik + _RISE * (1.0 + abs(loglik)):
                    return differentiate(objective, moved)
    return None
