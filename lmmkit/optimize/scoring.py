"""Fisher scoring on the scale of the variances."""

import numpy as np

from lmmkit.errors import StrategyError
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import psd_factor, vech
from lmmkit.optimize.checks import check_iterations
from lmmkit.optimize.evaluate import (
    CONVERGED_BELOW,
    Score,
    cheapest_information,
    differentiate,
    evaluate,
    packed_gradient,
    score_norm,
    unpack,
    usable_start,
)
from lmmkit.optimize.step import Report, Status, Step
from lmmkit.parameters.packing import split_matrices
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, record

_SMALLEST_SHRINKAGE = 0.05
_RIDGE = 1e-12
_NO_INFORMATION = 1e-30


@record
class ScoringState:
    """Where scoring is, how many iterations it has made, and how many of them were cut."""

    score: Score
    count: int = 0
    cuts: int = 0


def variance_scoring(iterations: int | None = None, *, cuts: int | None = None) -> Step:
    """Fisher scoring for (Psi, sigma2), where the model's covariance is linear.

    Balanced data are solved by one iteration from anywhere, and others nearly so; but the scale
    ends at zero. A step that would leave it is cut where a variance in some direction has shrunk
    twentyfold, and the step stalls where the log-likelihood falls: let steps on the factors follow.

    Parameters
    ----------
    iterations : int, optional
        Finished after so many; None runs to convergence.
    cuts : int, optional
        Finished after so many steps that were cut; None goes on.
    """
    check_iterations("variance_scoring", iterations)
    check_iterations("variance_scoring", cuts)

    def init(objective: Objective, params: SquareRootParams) -> ScoringState:
        named = [term.name for term in objective.structures if term is not None]
        if named:
            raise StrategyError(
                "variance_scoring moves over the entries of Psi, all of them free; the covariance "
                f"structure {named[0]} ties them together. Use steepest_descent(metric=newton) or "
                "another step"
            )
        return ScoringState(usable_start(objective, params, "variance_scoring"))

    def update(
        objective: Objective, params: SquareRootParams, state: ScoringState
    ) -> tuple[SquareRootParams, ScoringState, Report]:
        score = state.score
        moved, cut = _scored(objective, score)
        value = evaluate(objective, moved)
        if not value.loglik >= score.value.loglik:
            norm = score_norm(objective, score.score)
            report = Report(Status.STALLED, "variance_scoring", score.value.loglik, norm)
            return params, state, report
        after = differentiate(objective, value)
        norm = score_norm(objective, after.score)
        count, cut_steps = state.count + 1, state.cuts + cut
        finished = count == iterations or cut_steps == cuts
        status = Status.FINISHED if finished else Status.RUNNING
        if norm <= CONVERGED_BELOW:
            status = Status.CONVERGED
        report = Report(status, "variance_scoring", after.value.loglik, norm, 1.0)
        return unpack(objective, after.value.x), ScoringState(after, count, cut_steps), report

    return Step("variance_scoring", init, update, lambda _, score: ScoringState(score))


def _scored(objective: Objective, score: Score) -> tuple[FloatArray, bool]:
    """The packed factors after one scoring step, and whether it was cut."""
    place = score.value.place
    parts = cheapest_information(objective, score)
    information, by_sigma2 = parts.delta_delta, np.zeros(len(score.score))
    sigma2 = float(place.point.sigma2)
    if objective.held_sigma2 is None:
        by_sigma2 = parts.delta_sigma2 / parts.sigma2_sigma2
        information = information - np.outer(by_sigma2, parts.delta_sigma2)
    known = np.diagonal(parts.delta_delta)
    # what no row tells of stays where it is: effects never seen together, or that X has too
    told = np.where(known > _NO_INFORMATION, known, max(1.0, known.max(initial=0.0)))
    ridge = _RIDGE * np.diag(told)
    step = np.linalg.solve(information + ridge, packed_gradient(score))
    residual = sigma2 - float(by_sigma2 @ step)
    step *= sigma2 / max(residual, _SMALLEST_SHRINKAGE * sigma2)
    moved: list[FloatArray] = [np.zeros(0)]
    cut = False
    changes = split_matrices(step, objective.sizes, triangular=False)
    for factor, change in zip(score.value.factors, changes, strict=True):
        covariance, shrunk = _shrunk_at_most(factor, change)
        moved.append(vech(psd_factor(covariance)))
        cut |= shrunk
    return np.concatenate(moved), cut


def _shrunk_at_most(factor: FloatArray, change: FloatArray) -> tuple[FloatArray, bool]:
    """``T T' + change``, its eigenvalues relative to ``T T'`` kept above a twentieth."""
    if not (np.diagonal(factor) != 0.0).all():
        values, vectors = np.linalg.eigh(factor @ factor.T + change)
        return (vectors * np.maximum(values, 0.0)) @ vectors.T, bool((values < 0.0).any())
    inverse = np.linalg.inv(factor)
    values, vectors = np.linalg.eigh(inverse @ change @ inverse.T)
    kept = np.maximum(1.0 + values, _SMALLEST_SHRINKAGE)
    root = factor @ (vectors * np.sqrt(kept))
    return root @ root.T, bool((kept > 1.0 + values).any())
