"""Correlations by pair of visits: any, or those of a chain."""

import itertools

import numpy as np

from lmmkit.records import FloatArray, record
from lmmkit.residual.contract import Coordinates, ResidualParameter
from lmmkit.residual.visits import ByVisit, Visits, by_visit, check_together

# further out sinh would overflow, and the correlation is 1 to rounding long before
_FAR = 300.0


@record
class Unstructured:
    """Any correlation matrix: ``M = L L'``, rows of L ``(sinh(theta), 1)`` made unit."""

    name = "unstructured"

    def check(self, coordinates: Coordinates, visits: Visits) -> None:
        check_together(coordinates, visits, self.name)

    def parameters(self, visits: Visits) -> tuple[ResidualParameter, ...]:
        labels = visits.labels
        return tuple(
            ResidualParameter(f"cor({labels[j]}, {labels[i]})", -1.0, 1.0)
            for i, j in visits.pairs()
        )

    def start(self, v: int) -> FloatArray:
        return np.full(v * (v - 1) // 2, 0.2)

    def values(self, theta: FloatArray, v: int) -> FloatArray:
        return self.matrix(theta, v)[np.tril_indices(v, -1)]

    def matrix(self, theta: FloatArray, v: int) -> FloatArray:
        factor = _unit_rows(theta, v)[0]
        matrix: FloatArray = factor @ factor.T
        np.fill_diagonal(matrix, 1.0)
        return matrix

    def slopes(self, theta: FloatArray, v: int) -> FloatArray:
        factor, moves, _ = _moves(theta, v)
        row = np.tril_indices(v, -1)[0]
        each, slopes = np.arange(len(theta)), np.zeros((len(theta), v, v))
        slopes[each, row] = slopes[each, :, row] = moves @ factor.T
        slopes[each, row, row] = 0.0
        return slopes

    def curvature(self, theta: FloatArray, weights: FloatArray) -> FloatArray:
        v = len(weights)
        factor, moves, length = _moves(theta, v)
        row, column = np.tril_indices(v, -1)
        apart = weights * (1.0 - np.eye(v))
        matrix = 2.0 * apart[row[:, None], row] * (moves @ moves.T)
        # within a row l = u / |u|, whose second derivatives meet the sum of the other rows
        pull = 2.0 * apart @ factor
        along = (pull * factor).sum(axis=1)[row]
        own, pulled = factor[row, column], pull[row, column]
        bend = 3.0 * along * np.outer(own, own) - np.outer(pulled, own) - np.outer(own, pulled)
        bend -= np.diag(along)
        same = row[:, None] == row
        slope = np.cosh(_within(theta)) / length[row]
        matrix += np.where(same, slope[:, None] * bend * slope, 0.0)
        # sinh'' = sinh, and moves have its slope in them
        return matrix + np.diag((pull[row] * moves).sum(axis=1) * np.tanh(theta))


def _within(theta: FloatArray) -> FloatArray:
    return np.clip(theta, -_FAR, _FAR)


def _unit_rows(theta: FloatArray, v: int) -> tuple[FloatArray, FloatArray]:
    """L (v, v), and the lengths (v,) that its rows had."""
    factor = np.eye(v)
    factor[np.tril_indices(v, -1)] = np.sinh(_within(theta))
    length = np.sqrt((factor**2).sum(axis=1))
    return factor / length[:, None], length


def _moves(theta: FloatArray, v: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """L, the derivative (k, v) of its row that each element of theta is in, and the lengths."""
    factor, length = _unit_rows(theta, v)
    row, column = np.tril_indices(v, -1)
    moves = np.eye(v)[column] - factor[row] * factor[row, column][:, None]
    return factor, moves * (np.cosh(_within(theta)) / length[row])[:, None], length


@record
class Antedependence:
    """Neighbouring visits have correlations of their own; others the product of those between."""

    name = "antedependence"

    def check(self, coordinates: Coordinates, visits: Visits) -> None:
        """Any neighbours are told apart by what lies around them."""

    def parameters(self, visits: Visits) -> tuple[ResidualParameter, ...]:
        pairs = itertools.pairwise(visits.labels)
        return tuple(ResidualParameter(f"cor({a}, {b})", -1.0, 1.0) for a, b in pairs)

    def start(self, v: int) -> FloatArray:
        return np.full(v - 1, 0.4)

    def values(self, theta: FloatArray, v: int) -> FloatArray:
        return np.asarray(np.tanh(0.5 * theta))

    def matrix(self, theta: FloatArray, v: int) -> FloatArray:
        matrix = np.eye(v)
        for i, rho in enumerate(self.values(theta, v), start=1):
            matrix[i, :i] = matrix[:i, i] = rho * matrix[i - 1, :i]
        return matrix


def unstructured(visit: str, *, group: str | None = None) -> ByVisit:
    """A correlation of its own for every two visits; nlme's ``corSymm``.

    With ``per_stratum(visit)`` it is the unstructured covariance of mixed models for repeated
    measures.

    Parameters
    ----------
    visit : str
        Column of visits, numbers or text; a group has each at most once.
    group : str, optional
        The grouping factor; by default that of the random effects.
    """
    return by_visit(Unstructured(), visit, group)


def antedependence(visit: str, *, group: str | None = None) -> ByVisit:
    """First-order ante-dependence: a correlation for each step between visits; SAS's ``ANTE(1)``.

    Parameters
    ----------
    visit, group : str
        As of :func:`unstructured`.
    """
    return by_visit(Antedependence(), visit, group)
