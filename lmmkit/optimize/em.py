"""The EM step for the covariances of the random effects."""

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import psd_factor, vech
from lmmkit.optimize.checks import check_iterations
from lmmkit.optimize.coordinates import split
from lmmkit.optimize.evaluate import (
    CONVERGED_BELOW,
    Score,
    differentiate,
    evaluate,
    score_norm,
    unpack,
    usable_start,
)
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, record


@record
class EMState:
    """Where EM is, and how many iterations it has made."""

    score: Score
    count: int = 0


def em(iterations: int | None = None) -> Step:
    """EM for each Psi, followed by the best sigma2 and beta for it (an ECME algorithm).

    The expected second moment of a term's random effects, given the data, is
    ``sum_i E[b_i b_i'] / m_k``. In relative terms, with G the derivative of -2 loglik by D,

        D_new = D - D G D / m_k = T (I - T'G T / m_k) T',

    so that the log-likelihood never decreases and a zero variance stays zero. A term with a
    covariance structure takes the structure's ``m_step`` of this D_new.

    Parameters
    ----------
    iterations : int, optional
        Finished after so many; None runs to convergence, which is linear and slow near a boundary.

    References
    ----------
    Laird & Ware 1982; Liu & Rubin 1994 (ECME).
    """
    check_iterations("em", iterations)

    def init(objective: Objective, params: SquareRootParams) -> EMState:
        for term in objective.structures:
            if term is not None and not hasattr(term.structure, "m_step"):
                raise StrategyError(
                    f"em: the covariance structure {term.name} has no m_step, the closed form that "
                    "EM needs; give it one, or use another strategy, such as the default"
                )
        return EMState(usable_start(objective, params, "em"))

    def update(
        objective: Objective, params: SquareRootParams, state: EMState
    ) -> tuple[SquareRootParams, EMState, Report]:
        n_levels_of = objective.moments.levels_of_terms
        moved: list[FloatArray] = [np.zeros(0)]
        value = state.score.value
        terms = zip(
            value.factors,
            state.score.G,
            n_levels_of,
            objective.terms,
            split(objective, value.x),
            strict=True,
        )
        for T, G, n_levels, term, theta in terms:
            inner = np.eye(len(T)) - T.T @ G @ T / n_levels
            root = T @ psd_factor(0.5 * (inner + inner.T))
            moved.append(vech(root) if term is None else term.m_step(root @ root.T, theta))
        reached = evaluate(objective, np.concatenate(moved))
        if not np.isfinite(reached.loglik):
            norm = score_norm(objective, state.score.score)
            return params, state, Report(Status.STALLED, "em", value.loglik, norm)
        score = differentiate(objective, reached)
        norm = score_norm(objective, score.score)
        after = EMState(score, state.count + 1)
        if norm <= CONVERGED_BELOW:
            status = Status.CONVERGED
        else:
            status = Status.FINISHED if after.count == iterations else Status.RUNNING
        report = Report(status, "em", score.value.loglik, norm, 1.0)
        return unpack(objective, score.value.x), after, report

    return Step("em", init, update, lambda _, score: EMState(score))
