"""The same structure with parameters of its own in every stratum of the groups."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ArgumentError, DataError
from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.checks import column_name
from lmmkit.residual.contract import Coordinates, Correlation, Particular, ResidualParameter
from lmmkit.residual.slopes import correlation_curvature, correlation_slopes
from lmmkit.residual.variances import stratum_of


@record
class ByStratum:
    """One copy of a correlation for every stratum; the stratum is the last coordinate."""

    stratum: str
    each: tuple[Correlation, ...]
    values_of: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"by_stratum({self.each[0]}, {self.stratum!r})"

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.each[0].columns, self.stratum)

    @property
    def group(self) -> str | None:
        return self.each[0].group

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return tuple(
            evolve(p, name=f"{p.name} {self.stratum}[{label}]")
            for label, structure in zip(self.labels, self.each, strict=False)
            for p in structure.parameters
        )

    def check(self, coordinates: Coordinates) -> None:
        self._check_constant(coordinates)
        stratum_of(self.values_of, coordinates.values[:, -1], self.stratum)
        for value, structure in zip(self.values_of, self.each, strict=True):
            if isinstance(structure, Particular):
                structure.check(_inner(coordinates, value))

    def _check_constant(self, coordinates: Coordinates) -> None:
        last = coordinates.values[:, -1]
        changes = (last[1:] != last[:-1]) & (coordinates.codes[1:] == coordinates.codes[:-1])
        if changes.any():
            label = coordinates.labels[int(coordinates.codes[int(np.argmax(changes))])]
            raise DataError(
                f"by_stratum: {coordinates.group} {label!r} has rows of several strata of "
                f"{self.stratum!r}; the stratum of a group has to be one"
            )

    def learn(self, coordinates: Coordinates) -> Self:
        self._check_constant(coordinates)
        strata = np.unique(coordinates.values[:, -1])
        each = [self.each[0].learn(_inner(coordinates, value)) for value in strata]
        labels = tuple(
            coordinates.label(len(coordinates.columns) - 1, float(value)) for value in strata
        )
        return evolve(self, each=tuple(each), values_of=tuple(strata.tolist()), labels=labels)

    def start(self) -> FloatArray:
        starts = [np.atleast_2d(structure.start()) for structure in self.each]
        count = max(len(rows) for rows in starts)
        return np.concatenate([np.resize(rows, (count, rows.shape[1])) for rows in starts], axis=1)

    def values(self, theta: FloatArray) -> FloatArray:
        pairs = zip(self.each, self._split(theta), strict=True)
        return np.concatenate([structure.values(own) for structure, own in pairs])

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        n = coordinates.shape[-2]
        R = np.empty((*coordinates.shape[:-2], n, n))
        for _, structure, part, chosen in self._used(theta, coordinates):
            R[chosen] = structure.correlation(part, coordinates[chosen][..., :-1])
        return R

    def slopes(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        n = coordinates.shape[-2]
        slopes = np.zeros((len(theta), *coordinates.shape[:-2], n, n))
        for own, structure, part, chosen in self._used(theta, coordinates):
            found = correlation_slopes(structure, part, coordinates[chosen][..., :-1])
            slopes[own, chosen] = found
        return slopes

    def curvature(
        self, theta: FloatArray, coordinates: FloatArray, weights: FloatArray
    ) -> FloatArray:
        matrix = np.zeros((len(theta), len(theta)))
        for own, structure, part, chosen in self._used(theta, coordinates):
            points = coordinates[chosen][..., :-1]
            matrix[own, own] = correlation_curvature(structure, part, points, weights[chosen])
        return matrix

    def _used(
        self, theta: FloatArray, coordinates: FloatArray
    ) -> Iterator[tuple[slice, Correlation, FloatArray, NDArray[np.bool_]]]:
        """The strata that there are: place in theta, structure, its theta, and which groups."""
        stratum = np.searchsorted(self.values_of, coordinates[..., 0, -1])
        start = 0
        for k, (structure, part) in enumerate(zip(self.each, self._split(theta), strict=True)):
            own, chosen = slice(start, start + len(part)), stratum == k
            start = own.stop
            if chosen.any():
                yield own, structure, part, chosen

    def _split(self, theta: FloatArray) -> list[FloatArray]:
        sizes = [len(structure.parameters) for structure in self.each]
        return np.split(theta, np.cumsum(sizes)[:-1])


def _inner(coordinates: Coordinates, stratum: float) -> Coordinates:
    """What the structure of one stratum sees."""
    chosen = coordinates.values[:, -1] == stratum
    used, codes = np.unique(coordinates.codes[chosen], return_inverse=True)
    return evolve(
        coordinates,
        columns=coordinates.columns[:-1],
        levels=coordinates.levels[:-1],
        values=coordinates.values[chosen, :-1],
        codes=codes.astype(np.int32),
        labels=coordinates.labels.gather(used),
    )


def by_stratum(correlation: Correlation, stratum: str) -> ByStratum:
    """Let the parameters of a correlation differ between strata of groups; SAS's ``GROUP=``.

    Parameters
    ----------
    correlation : Correlation
        ``ar1("time", group="id")``; it names its coordinates.
    stratum : str
        Column that is constant inside a group.
    """
    if not isinstance(correlation, Correlation):
        raise ArgumentError(f"by_stratum: expected a correlation, got {correlation!r:.60}")
    if not correlation.columns:
        raise ArgumentError(
            "by_stratum: expected a correlation that names its coordinates, such as ar1('time')"
        )
    return ByStratum(column_name(stratum, "by_stratum: stratum") or "", (correlation,))
