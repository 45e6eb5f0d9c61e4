"""One correlation between any two rows of a group."""

from typing import Self

import numpy as np

from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.checks import column_name, log_determinant
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.written import written


@record
class CompoundSymmetry:
    """``corr = rho``, above ``-1 / (n - 1)`` for the largest group's n rows."""

    group: str | None
    largest: int = 2

    def __str__(self) -> str:
        return written("compound_symmetry", group=self.group)

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @property
    def exchangeable(self) -> bool:
        return True

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return (ResidualParameter("rho", -1.0 / (self.largest - 1), 1.0),)

    def learn(self, coordinates: Coordinates) -> Self:
        return evolve(self, largest=max(2, int(coordinates.sizes.max())))

    def start(self) -> FloatArray:
        return self.parameters[0].theta(np.array([0.2]))

    def values(self, theta: FloatArray) -> FloatArray:
        return elementwise(self.parameters, theta)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        rho, n = self.values(theta)[0], coordinates.shape[-2]
        matrix = rho + (1.0 - rho) * np.eye(n)
        return np.broadcast_to(matrix, (*coordinates.shape[:-2], n, n))

    def whiten(
        self, theta: FloatArray, coordinates: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, float]:
        # given k earlier rows, a row has mean rho / (1 + (k - 1) rho) times their sum
        rho = self.values(theta)[0]
        g, n = coordinates.shape[:2]
        k = np.arange(n)
        divisor = 1.0 + (k - 1.0) * rho
        variance = np.ones(n)
        variance[1:] = (1.0 - rho) * (divisor[1:] + rho) / divisor[1:]
        slope = np.zeros(n)
        slope[1:] = rho / divisor[1:]
        earlier = np.cumsum(columns, axis=-1) - columns
        return (columns - slope * earlier) / np.sqrt(variance), g * log_determinant(variance)


def compound_symmetry(*, group: str | None = None) -> CompoundSymmetry:
    """Equal correlation between the rows of a group; nlme's ``corCompSymm``.

    Parameters
    ----------
    group : str, optional
        The grouping factor; by default that of the random effects.
    """
    return CompoundSymmetry(column_name(group, "compound_symmetry: group"))
