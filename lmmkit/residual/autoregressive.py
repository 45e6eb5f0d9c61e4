"""Correlations that fall geometrically with the time between two rows."""

from typing import Self

import numpy as np

from lmmkit.errors import DataError
from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.checks import (
    check_distinct,
    check_numbers,
    check_whole,
    column_name,
    distances,
    gaps,
    log_determinant,
)
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.written import written

_STARTS = np.array([[0.2], [0.8], [0.98]])
_EVEN = 0.1
_INDEPENDENT = 30.0


@record
class Autoregression:
    """``corr = phi^|t - s|``, ``lower < phi < 1``; of whole times phi may be negative.

    Theta is of ``rho = sign(phi) |phi|^unit``, the correlation of rows a unit apart, so that the
    scale of time does not matter: of any times it is ``-log(-log rho)``, the logarithm of a range,
    which reaches as far below the shortest gap as beyond the longest.

    Attributes
    ----------
    unit : float
        Of any times their typical gap; of whole times the greatest common divisor of the gaps. An
        even one cannot tell the sign of phi, which is then positive.
    typical : float
        The median gap in units.
    shortest : float
        The shortest one.
    """

    name: str
    whole: bool
    time: str | None
    group: str | None
    lower: float = 0.0
    unit: float = 1.0
    typical: float = 1.0
    shortest: float = 1.0

    def __str__(self) -> str:
        return written(self.name, self.time, group=self.group)

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.time is None else (self.time,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return (ResidualParameter("phi", self.lower, 1.0),)

    def check(self, coordinates: Coordinates) -> None:
        if self.whole:
            check_whole(coordinates, self.name)

    def learn(self, coordinates: Coordinates) -> Self:
        self.check(coordinates)
        if not self.whole:
            check_numbers(coordinates, self.name)
        check_distinct(coordinates, self.name)
        steps = gaps(coordinates)
        if not len(steps):
            return self
        median = float(np.median(steps))
        if not self.whole:
            self._check_unit(median)
            return evolve(self, unit=median, shortest=float(steps.min()) / median)
        unit = int(np.gcd.reduce(steps.astype(np.int64)))
        lower = self.lower if unit % 2 else 0.0
        return evolve(self, lower=lower, unit=float(unit), typical=median / unit)

    def _check_unit(self, unit: float) -> None:
        if _STARTS[0, 0] ** (1.0 / unit) == 0.0:
            raise DataError(
                f"{self.name}: rows next to one another in {self.time!r} are typically {unit:.2g} "
                "apart, so that phi, the correlation at a distance of 1, would be too small for a "
                "number; multiply the times, to days or seconds say, or use exponential()"
            )

    def start(self) -> FloatArray:
        if self.whole:
            return self.parameters[0].theta(_STARTS ** (1.0 / self.typical))
        starts: FloatArray = -np.log(-np.log(_STARTS))
        if self.shortest > _EVEN:
            return starts
        # beside gaps of other orders the way to independent rows may be flat
        return np.vstack([starts, np.log(self.shortest / _INDEPENDENT)])

    def values(self, theta: FloatArray) -> FloatArray:
        if not self.whole:
            return self._power(theta, np.ones(1))
        rho = self._rho(theta)
        return np.array([np.sign(rho) * np.abs(rho) ** (1.0 / self.unit)])

    def _rho(self, theta: FloatArray) -> float:
        return float(elementwise(self.parameters, theta)[0])

    def _rate(self, theta: FloatArray) -> float:
        """``-log|phi|``."""
        if not self.whole:
            return float(np.exp(-theta[0])) / self.unit
        with np.errstate(divide="ignore"):
            return float(-np.log(np.abs(self._rho(theta)))) / self.unit

    def _power(self, theta: FloatArray, lags: FloatArray) -> FloatArray:
        """``phi^lags``."""
        if not self.whole:
            return np.asarray(np.exp(-self._rate(theta) * lags))
        rho = self._rho(theta)
        size = np.asarray(abs(rho) ** (lags / self.unit))
        return np.where(lags % 2.0 == 1.0, -size, size) if rho < 0.0 else size

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        return self._power(theta, distances(coordinates))

    def whiten(
        self, theta: FloatArray, coordinates: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, float]:
        lags = np.diff(coordinates[..., 0], axis=-1)
        variance = -np.expm1(-2.0 * lags * self._rate(theta))
        return whiten_steps(self._power(theta, lags), variance, columns)


def ar1(time: str | None = None, *, group: str | None = None) -> Autoregression:
    """First-order autoregression: ``corr = phi^|t - s|``, ``-1 < phi < 1``; nlme's ``corAR1``.

    Where all gaps of time are even, the sign of phi makes no difference, and it is positive.

    Parameters
    ----------
    time : str, optional
        Column of whole times; a text column counts its levels. By default the order of the rows in
        their group.
    group : str, optional
        The grouping factor; by default that of the random effects, or all rows are one group.
    """
    return Autoregression(
        "ar1", True, column_name(time, "ar1: time"), column_name(group, "ar1: group"), -1.0
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
        "car1", False, column_name(time, "car1: time"), column_name(group, "car1: group")
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
    return white, log_determinant(variance)
