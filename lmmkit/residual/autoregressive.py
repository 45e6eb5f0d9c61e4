"""Correlations that fall geometrically with the time between two rows."""

from typing import Self

import numpy as np

from lmmkit.records import FloatArray, record
from lmmkit.residual.checks import check_distinct, check_whole, column_name, distances
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise


@record
class Autoregression:
    """``corr = phi^|t - s|``, ``lower < phi < 1``; times are whole where phi may be negative."""

    name: str
    lower: float
    time: str | None
    group: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.time is None else (self.time,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return (ResidualParameter("phi", self.lower, 1.0),)

    def learn(self, coordinates: Coordinates) -> Self:
        if self.lower < 0.0:
            check_whole(coordinates, self.name)
        check_distinct(coordinates, self.name)
        return self

    def start(self) -> FloatArray:
        return self.parameters[0].theta(np.array([[0.2], [0.8], [0.98]]))

    def values(self, theta: FloatArray) -> FloatArray:
        return elementwise(self.parameters, theta)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        return np.asarray(self.values(theta)[0] ** distances(coordinates))

    def whiten(
        self, theta: FloatArray, coordinates: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, float]:
        phi = self.values(theta)[0]
        gaps = np.diff(coordinates[..., 0], axis=-1)
        with np.errstate(divide="ignore"):
            logarithm = np.log(np.abs(phi))
        return whiten_steps(phi**gaps, -np.expm1(2.0 * gaps * logarithm), columns)


def ar1(time: str | None = None, *, group: str | None = None) -> Autoregression:
    """First-order autoregression: ``corr = phi^|t - s|``, ``-1 < phi < 1``; nlme's ``corAR1``.

    Parameters
    ----------
    time : str, optional
        Column of whole times; a text column counts its levels. By default the order of the rows in
        their group.
    group : str, optional
        The grouping factor; by default that of the random effects, or all rows are one group.
    """
    return Autoregression(
        "ar1", -1.0, column_name(time, "ar1: time"), column_name(group, "ar1: group")
    )


def car1(time: str | None = None, *, group: str | None = None) -> Autoregression:
    """Continuous-time autoregression: ``corr = phi^|t - s|``, ``0 < phi < 1``; nlme's ``corCAR1``.

    Parameters
    ----------
    time : str, optional
        Column of times, any numbers. By default the order of the rows in their group.
    group : str, optional
        As of :func:`ar1`.
    """
    return Autoregression(
        "car1", 0.0, column_name(time, "car1: time"), column_name(group, "car1: group")
    )


def whiten_steps(
    step: FloatArray, variance: FloatArray, columns: FloatArray
) -> tuple[FloatArray, float]:
    """``(x_i - r_i x_{i-1}) / sqrt(v_i)`` along the last axis: the rows are a Markov chain.

    ``r`` (g, n - 1) is the correlation of neighbours, ``v = 1 - r^2``.
    """
    white = np.empty_like(columns)
    white[..., 0] = columns[..., 0]
    np.multiply(step, columns[..., :-1], out=white[..., 1:])
    np.subtract(columns[..., 1:], white[..., 1:], out=white[..., 1:])
    white[..., 1:] /= np.sqrt(variance)
    return white, float(np.log(variance).sum())
