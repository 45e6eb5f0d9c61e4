"""Coordinates that are visits: the distinct values of a column, in order."""

import numpy as np

from lmmkit.errors import DataError
from lmmkit.records import FloatArray, IntArray, record
from lmmkit.residual.checks import check_distinct
from lmmkit.residual.contract import Coordinates


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
        values, seen = np.asarray(self.values), coordinates[..., 0]
        place = np.minimum(np.searchsorted(values, seen), len(values) - 1)
        if (values[place] != seen).any():
            other = seen[values[place] != seen].flat[0]
            raise DataError(
                f"a visit at {other:g}, which is none of the visits of the fit: "
                f"{', '.join(self.labels)}"
            )
        return place.astype(np.int32)

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
