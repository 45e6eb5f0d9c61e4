"""Coordinates that are visits: the distinct values of a column, in order.

A correlation by visit is a matrix M of all v visits; a group has the rows and columns of its own.
"""

from typing import Protocol, Self, runtime_checkable

import attrs
import numpy as np

from lmmkit.errors import DataError
from lmmkit.records import FloatArray, IntArray, evolve, record
from lmmkit.residual.checks import check_distinct, column_name
from lmmkit.residual.contract import Coordinates, ResidualParameter
from lmmkit.residual.slopes import first_differences, second_differences
from lmmkit.residual.written import written


@record
class Visits:
    """The visits of a data set.

    Attributes
    ----------
    values : tuple of float
        The distinct values of the coordinate, ascending.
    labels : tuple of str
    """

    values: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    def places(self, coordinates: FloatArray) -> IntArray:
        """The position of each row's visit among the values: (..., n) from (..., n, d)."""
        return np.searchsorted(self.values, coordinates[..., 0]).astype(np.int32)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Every two visits, the later one first, row by row of a lower triangle."""
        return tuple((i, j) for i in range(len(self.values)) for j in range(i))


def visits_of(coordinates: Coordinates, structure: str) -> Visits:
    """The visits, of which a group has each at most once."""
    check_distinct(coordinates, structure)
    values = np.unique(coordinates.values[:, 0])
    if len(values) * (len(values) - 1) // 2 > len(coordinates.values):
        raise DataError(
            f"{structure}: {coordinates.columns[0]!r} has {len(values)} distinct values, too many "
            "to be visits; name a column of planned visits, or use exponential() or car1() for "
            "times"
        )
    labels = tuple(coordinates.label(0, float(value)) for value in values)
    return Visits(tuple(values.tolist()), labels)


def check_together(coordinates: Coordinates, visits: Visits, structure: str) -> None:
    """Raise where two visits are never seen in one group."""
    seen = np.zeros((len(coordinates.labels), len(visits.values)))
    seen[coordinates.codes, visits.places(coordinates.values)] = 1.0
    together = seen.T @ seen
    for i, j in visits.pairs():
        if not together[i, j]:
            raise DataError(
                f"{structure}: no {coordinates.group or 'group'} has both {visits.labels[j]!r} and "
                f"{visits.labels[i]!r} of {coordinates.columns[0]!r}, so that their correlation "
                "cannot be estimated; merge visits, or use a structure with fewer parameters"
            )


class VisitMatrix(Protocol):
    """A family of correlation matrices of v visits."""

    @property
    def name(self) -> str:
        """The function that makes it, for messages."""

    def check(self, coordinates: Coordinates, visits: Visits) -> None:
        """Raise where the data cannot tell the parameters."""

    def parameters(self, visits: Visits) -> tuple[ResidualParameter, ...]:
        """Names and bounds of the k parameters."""

    def start(self, v: int) -> FloatArray:
        """Theta (k,) to start from."""

    def values(self, theta: FloatArray, v: int) -> FloatArray:
        """The parameters (k,)."""

    def matrix(self, theta: FloatArray, v: int) -> FloatArray:
        """M (v, v)."""


@runtime_checkable
class ExactVisitMatrix(Protocol):
    """A family that brings the derivatives of M; of another they are differences."""

    def slopes(self, theta: FloatArray, v: int) -> FloatArray:
        """First derivatives (k, v, v)."""

    def curvature(self, theta: FloatArray, weights: FloatArray) -> FloatArray:
        """Second derivatives (k, k) of ``sum(weights * M)`` for symmetric weights (v, v)."""


@record
class ByVisit:
    """The correlations of a family of matrices of visits."""

    family: VisitMatrix = attrs.field()
    visit: str
    group: str | None
    visits: Visits = Visits()

    def __str__(self) -> str:
        return written(self.name, self.visit, group=self.group)

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.visit,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return self.family.parameters(self.visits)

    @property
    def _v(self) -> int:
        return len(self.visits.values)

    def check(self, coordinates: Coordinates) -> None:
        seen = coordinates.values[:, 0]
        other = seen[~np.isin(seen, self.visits.values)]
        if len(other):
            raise DataError(
                f"{self.name}: {coordinates.columns[0]!r} has {coordinates.label(0, other[0])}, "
                f"which is none of the visits of the fit: {', '.join(self.visits.labels)}"
            )

    def learn(self, coordinates: Coordinates) -> Self:
        visits = visits_of(coordinates, self.family.name)
        self.family.check(coordinates, visits)
        return evolve(self, visits=visits)

    def start(self) -> FloatArray:
        return self.family.start(self._v)

    def values(self, theta: FloatArray) -> FloatArray:
        return self.family.values(theta, self._v)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        place = self.visits.places(coordinates)
        matrix = self.family.matrix(theta, self._v)
        return np.asarray(matrix[place[..., :, None], place[..., None, :]])

    def slopes(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        place, slopes = self.visits.places(coordinates), self.slopes_of_visits(theta)
        return np.asarray(slopes[:, place[..., :, None], place[..., None, :]])

    def slopes_of_visits(self, theta: FloatArray) -> FloatArray:
        """First derivatives (k, v, v) of M."""
        family, v = self.family, self._v
        if isinstance(family, ExactVisitMatrix):
            return family.slopes(theta, v)
        return first_differences(lambda t: family.matrix(t, v), theta)

    def curvature(
        self, theta: FloatArray, coordinates: FloatArray, weights: FloatArray
    ) -> FloatArray:
        family, v, place = self.family, self._v, self.visits.places(coordinates)
        entry = place[..., :, None] * v + place[..., None, :]
        total = np.bincount(entry.ravel(), weights.ravel(), v * v)
        summed = np.asarray(total, dtype=np.float64).reshape(v, v)
        if isinstance(family, ExactVisitMatrix):
            return family.curvature(theta, summed)
        return second_differences(lambda t: float((summed * family.matrix(t, v)).sum()), theta)


def by_visit(family: VisitMatrix, visit: str, group: str | None) -> ByVisit:
    """The structure of a family, its names of columns checked."""
    name = family.name
    own = column_name(visit, f"{name}: visit") or ""
    return ByVisit(family, own, column_name(group, f"{name}: group"))
