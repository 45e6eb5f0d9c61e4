"""The contract of a fitting step: two pure functions, and what an update says of itself."""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from lmmkit.likelihood.objective import Objective
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import record


class Status(Enum):
    """How a step or a whole fit stands; the value is the sentence that a person reads."""

    RUNNING = "The step has more to do."
    FINISHED = "The step has made its share of iterations."
    CONVERGED = "The fit converged: the score is zero to working precision."
    STALLED = "No further increase of the log-likelihood was found, but the score is not zero."
    SADDLE = "The score is zero, but it is a saddle point: the log-likelihood rises from there."
    OUT_OF_ITERATIONS = "The iterations allowed ran out before the score was zero."


@record
class Report:
    """What one update did.

    Attributes
    ----------
    status : Status
    step : str
        Name of the step that moved.
    loglik : float
        At the new parameters.
    score_norm : float
        At the new parameters, relative: see :func:`lmmkit.optimize.evaluate.score_norm`.
    step_length : float
        Length of the move relative to the direction's own; NaN where there is none.
    """

    status: Status
    step: str
    loglik: float
    score_norm: float
    step_length: float = float("nan")


Init: TypeAlias = Callable[[Objective, SquareRootParams], Any]
Update: TypeAlias = Callable[
    [Objective, SquareRootParams, Any], tuple[SquareRootParams, Any, Report]
]


Resume: TypeAlias = Callable[[Objective, Any], Any]


@record
class Step:
    """A strategy, or a part of one.

    Attributes
    ----------
    name : str
    init : callable (objective, params) -> state
        Raises :class:`~lmmkit.errors.StrategyError` where the step cannot work on the objective.
    update : callable (objective, params, state) -> (params, state, report)
        One iteration. The state is any value; it is never modified in place. One with an attribute
        ``score``, the :class:`~lmmkit.optimize.evaluate.Score` at the parameters, spares whoever
        goes on from there an evaluation.
    resume : callable (objective, score) -> state, optional
        As ``init``, where the score at the parameters is known.
    """

    name: str
    init: Init
    update: Update
    resume: Resume | None = None
