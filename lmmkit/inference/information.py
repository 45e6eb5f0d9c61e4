"""The observed information of all parameters but those of the residual structure."""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.surface import Coordinates, coordinates_of
from lmmkit.likelihood.constraints import relation_row
from lmmkit.records import FloatArray, record


@record
class Information:
    """Minus the Hessian, (n, n), in coordinates around the estimates.

    Attributes
    ----------
    coordinates : Coordinates
    matrix : ndarray (n, n)
        Curvature of the coordinates, and of what is held along them, included.
    held : ndarray (c, n)
        What is held: the coordinates move where this is zero.
    """

    coordinates: Coordinates
    matrix: FloatArray
    held: FloatArray


def information_of(fit: Fit) -> Information:
    """The information at the estimates of ``fit``."""
    coordinates = coordinates_of(fit)
    objective, across = fit.objective.standardized(), coordinates.outward
    held = np.array([relation_row(c, len(across)) for c in fit.objective.held])
    held = held.reshape(-1, len(across))
    if fit.objective.held_sigma2 is not None:
        held = np.vstack([held, np.eye(len(across))[-1:]])
    inward = coordinates.inward
    score = objective.score(coordinates.at)
    multipliers = np.linalg.lstsq((held @ across).T, inward.T @ score, rcond=None)[0]
    matrix = inward.T @ objective.observed_information(coordinates.at) @ inward
    matrix -= coordinates.curvature(score, -multipliers @ held)
    return Information(coordinates, matrix, held @ across)
