"""Whether an optimum is one: data that a person or a program can read."""

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.coordinates import units
from lmmkit.optimize.escape import higher_beside
from lmmkit.optimize.evaluate import Score, fisher_information, observed_hessian
from lmmkit.optimize.step import Status
from lmmkit.records import FloatArray, record

_SCORE_BELOW = 1e-4
_FLAT = 1e-6
_CLEAR = 1e-2
_MANY = 500
_ZERO = 1e-7
_NEARLY_ZERO = 1e-4
_NO_INFORMATION = 1e-8


@record
class Certificate:
    """What holds at the parameters of an optimum.

    Attributes
    ----------
    status : Status
        Its value is the sentence to read.
    converged : bool
        Whether the status is CONVERGED.
    score_norm : float
        ``sqrt(score' I^-1 score)`` with I the expected information of the factors, or the observed
        one of the last step where that is at hand: the distance to the optimum in standard errors,
        as the score estimates it.
    inertia : tuple of int
        Numbers of positive, zero and negative eigenvalues of minus the Hessian over the factors. At
        a maximum none is negative; a zero one is a direction along a singular covariance. One that
        is negative by rounding, so that the log-likelihood does not rise along it, counts as zero.
    singular : tuple of int
        Positions of the random terms whose covariance is singular, on the boundary.
    boundary : tuple of str
        Parameters of the residual structure that the log-likelihood drives to the end of their
        values, or does not change with.
    """

    status: Status
    converged: bool
    score_norm: float
    inertia: tuple[int, int, int]
    singular: tuple[int, ...]
    boundary: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.status.value
        if self.boundary:
            text += (
                f" The residual structure is on its boundary in {', '.join(self.boundary)}: the "
                "log-likelihood rises, or is flat, towards the end of the values."
            )
            if not self.converged:
                text += (
                    " The data do not determine it: use a structure with fewer parameters, or "
                    "fewer random effects beside it, or hold one of these with fixed=."
                )
        if self.inertia[1] > len(self.boundary) and not self.singular:
            text += " The log-likelihood is flat there: not every variance is identified."
        if self.singular:
            text += " The covariance of the random effects is singular: it is on the boundary."
        return text


def certify(objective: Objective, score: Score, status: Status) -> Certificate:
    """The certificate of where ``score`` was computed, whatever it was that led there."""
    singular = singular_terms(objective, score.value.factors)
    floor = _NO_INFORMATION * objective.degrees_of_freedom / units(objective) ** 2
    information = score.near
    rough = objective.system.layout.n >= _MANY
    if information is None or not _clearly_positive(information, floor):
        observed = information = -observed_hessian(objective, score, rough=rough)
    clear = _clearly_positive(information, floor)
    if not clear:
        observed = -observed_hessian(objective, score) if rough else observed
        information = fisher_information(objective, score)
    root = np.sqrt(np.maximum(np.diagonal(information), floor))
    inertia = (len(root), 0, 0)
    if not clear:
        inertia = count_signs(np.linalg.eigvalsh(observed / np.outer(root, root)), _FLAT)
    distance = _distance(information, score.score, root if objective.structures else None)
    if distance > _SCORE_BELOW and status is Status.CONVERGED:
        status = Status.STALLED
    if distance <= _SCORE_BELOW and status in (Status.STALLED, Status.FINISHED):
        status = Status.CONVERGED
    if status is Status.CONVERGED and inertia[2]:
        if higher_beside(objective, score) is None:
            inertia = (inertia[0], inertia[1] + inertia[2], 0)
        else:
            status = Status.SADDLE
    return Certificate(status, status is Status.CONVERGED, distance, inertia, singular)


def _clearly_positive(matrix: FloatArray, floor: FloatArray) -> bool:
    """Whether no eigenvalue is so small that its sign may be another nearby."""
    diagonal = np.diagonal(matrix)
    if not np.isfinite(matrix).all() or (diagonal <= floor).any():
        return False
    root = np.sqrt(diagonal)
    return bool((np.linalg.eigvalsh(matrix / np.outer(root, root)) > _CLEAR).all())


def _distance(information: FloatArray, score: FloatArray, unit: FloatArray | None) -> float:
    """``sqrt(score' I^-1 score)``; in ``unit``, directions without information count as arrived."""
    if unit is not None:
        information, score = information / np.outer(unit, unit), score / unit
    solution = np.linalg.lstsq(information, score, rcond=1e-12 if unit is None else _FLAT)[0]
    return float(np.sqrt(max(float(score @ solution), 0.0)))


def singular_terms(objective: Objective, factors: tuple[FloatArray, ...]) -> tuple[int, ...]:
    """Positions of the terms whose standard factor is singular.

    A structure may come close to its boundary and never be on it.
    """
    zero = [_ZERO if term is None else _NEARLY_ZERO for term in objective.terms]
    return tuple(k for k, T in enumerate(factors) if is_singular(T, zero[k]))


def is_singular(factor: FloatArray, zero: float = _ZERO) -> bool:
    """Whether ``T T'`` has an eigenvalue of zero, to working precision."""
    values = np.linalg.svd(factor, compute_uv=False)
    return bool((values <= zero * values.max(initial=1.0)).any())


def count_signs(values: FloatArray, flat: float) -> tuple[int, int, int]:
    """How many of ``values`` are above ``flat``, within it, and below ``-flat``."""
    return (
        int((values > flat).sum()),
        int((np.abs(values) <= flat).sum()),
        int((values < -flat).sum()),
    )
