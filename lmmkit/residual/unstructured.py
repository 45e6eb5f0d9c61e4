"""Correlations by pair of visits: any, or those of a chain."""

import itertools
from typing import Self

import numpy as np

from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.checks import column_name
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.visits import Visits, check_together, visits_of


@record
class Unstructured:
    """Any correlation matrix of the visits: ``R = L L'``, rows of L ``(theta, 1)`` made unit."""

    visit: str
    group: str | None
    visits: Visits = Visits()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.visit,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        labels = self.visits.labels
        return tuple(
            ResidualParameter(f"cor({labels[j]}, {labels[i]})", -1.0, 1.0)
            for i, j in self.visits.pairs()
        )

    def learn(self, coordinates: Coordinates) -> Self:
        visits = visits_of(coordinates, "unstructured")
        check_together(coordinates, visits, "unstructured")
        return evolve(self, visits=visits)

    def start(self) -> FloatArray:
        return np.full(len(self.visits.pairs()), 0.2)

    def values(self, theta: FloatArray) -> FloatArray:
        return self._matrix(theta)[np.tril_indices(len(self.visits.values), -1)]

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        place = self.visits.places(coordinates)
        return self._matrix(theta)[place[..., :, None], place[..., None, :]]

    def _matrix(self, theta: FloatArray) -> FloatArray:
        n = len(self.visits.values)
        factor = np.eye(n)
        factor[np.tril_indices(n, -1)] = theta
        factor /= np.sqrt((factor**2).sum(axis=1, keepdims=True))
        matrix: FloatArray = factor @ factor.T
        np.fill_diagonal(matrix, 1.0)
        return matrix


@record
class Antedependence:
    """Neighbouring visits have correlations of their own; others the product of those between."""

    visit: str
    group: str | None
    visits: Visits = Visits()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.visit,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        labels = self.visits.labels
        return tuple(
            ResidualParameter(f"cor({a}, {b})", -1.0, 1.0) for a, b in itertools.pairwise(labels)
        )

    def learn(self, coordinates: Coordinates) -> Self:
        return evolve(self, visits=visits_of(coordinates, "antedependence"))

    def start(self) -> FloatArray:
        return np.full(len(self.visits.values) - 1, 0.4)

    def values(self, theta: FloatArray) -> FloatArray:
        return elementwise(self.parameters, theta)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        n = len(self.visits.values)
        matrix = np.eye(n)
        for i, rho in enumerate(self.values(theta), start=1):
            matrix[i, :i] = matrix[:i, i] = rho * matrix[i - 1, :i]
        place = self.visits.places(coordinates)
        return matrix[place[..., :, None], place[..., None, :]]


def unstructured(visit: str, *, group: str | None = None) -> Unstructured:
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
    return Unstructured(
        column_name(visit, "unstructured: visit") or "", column_name(group, "unstructured: group")
    )


def antedependence(visit: str, *, group: str | None = None) -> Antedependence:
    """First-order ante-dependence: a correlation for each step between visits; SAS's ``ANTE(1)``.

    Parameters
    ----------
    visit, group : str
        As of :func:`unstructured`.
    """
    return Antedependence(
        column_name(visit, "antedependence: visit") or "",
        column_name(group, "antedependence: group"),
    )
