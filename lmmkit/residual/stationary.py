"""Correlations of whole lags: ARMA processes and Toeplitz matrices.

Both are made of partial autocorrelations, each between -1 and 1: any such give a positive definite
matrix (Barndorff-Nielsen and Schou 1973, J. Multivariate Anal. 3).
"""

from typing import Self

import numpy as np

from lmmkit.errors import ArgumentError, DataError
from lmmkit.records import FloatArray, IntArray, evolve, record
from lmmkit.residual.checks import check_distinct, check_whole, column_name, distances, gaps
from lmmkit.residual.contract import Coordinates, ResidualParameter
from lmmkit.residual.visits import ByVisit, Visits, by_visit
from lmmkit.residual.written import written
from lmmkit.structures.autocorrelation import autocorrelation_derivatives

_LONGEST = 1_000_000


@record
class ARMA:
    """The autocorrelation of ``e_t = sum phi_i e_{t-i} + a_t + sum theta_j a_{t-j}``."""

    time: str | None
    p: int
    q: int
    group: str | None
    typical: float = 1.0

    def __str__(self) -> str:
        return written("arma", self.time, p=self.p, q=self.q, group=self.group)

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.time is None else (self.time,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        names = [f"phi{i + 1}" for i in range(self.p)] + [f"theta{j + 1}" for j in range(self.q)]
        return tuple(map(ResidualParameter, names))

    def check(self, coordinates: Coordinates) -> None:
        check_whole(coordinates, "arma")
        starts = np.cumsum(coordinates.sizes) - coordinates.sizes
        times = coordinates.values[:, 0]
        extent = np.maximum.reduceat(times, starts) - np.minimum.reduceat(times, starts)
        if extent.max() > _LONGEST:
            raise DataError(
                f"arma: expected rows of a group at most {_LONGEST} apart in "
                f"{coordinates.columns[0]!r}, got {extent.max():g}; divide the times to units of "
                "their typical gap"
            )

    def learn(self, coordinates: Coordinates) -> Self:
        self.check(coordinates)
        check_distinct(coordinates, "arma")
        steps = gaps(coordinates)
        return evolve(self, typical=float(np.median(steps)) if len(steps) else 1.0)

    def start(self) -> FloatArray:
        axes = np.eye(self.p + self.q)
        low, high = (2.0 * np.arctanh(rho ** (1.0 / self.typical)) for rho in (0.2, 0.66))
        both = [0.8 * axes[-1], -0.8 * axes[-1]] if self.p and self.q else []
        return np.array([low * axes[0], high * axes[0], -0.8 * axes[0], *both])

    def values(self, theta: FloatArray) -> FloatArray:
        ar = coefficients(np.tanh(0.5 * theta[: self.p]))
        return np.concatenate([ar, -coefficients(-np.tanh(0.5 * theta[self.p :]))])

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        values = self.values(theta)
        lags = distances(coordinates).astype(np.int64)
        by_lag = autocorrelations(values[: self.p], values[self.p :], int(lags.max()))
        return np.asarray(by_lag[lags])


@record
class Toeplitz:
    """One correlation for each lag of the visits."""

    name = "toeplitz"

    def check(self, coordinates: Coordinates, visits: Visits) -> None:
        """A lag that no two rows have is bounded by the others."""

    def parameters(self, visits: Visits) -> tuple[ResidualParameter, ...]:
        lags = range(1, len(visits.values))
        return tuple(ResidualParameter(f"rho{lag}", -1.0, 1.0) for lag in lags)

    def start(self, v: int) -> FloatArray:
        theta = np.zeros(v - 1)
        theta[:1] = 0.4
        return theta

    def values(self, theta: FloatArray, v: int) -> FloatArray:
        partial = np.tanh(0.5 * theta)
        rho = np.empty(v)
        rho[0] = 1.0
        for k in range(1, v):
            ar = coefficients(partial[: k - 1])
            ahead = rho[1:k]
            innovation = 1.0 - ar @ ahead
            rho[k] = ar @ ahead[::-1] + partial[k - 1] * innovation
        return rho[1:]

    def matrix(self, theta: FloatArray, v: int) -> FloatArray:
        by_lag = np.concatenate([[1.0], self.values(theta, v)])
        return np.asarray(by_lag[_lags(v)])

    def slopes(self, theta: FloatArray, v: int) -> FloatArray:
        angle = np.arcsin(np.tanh(0.5 * theta))
        by_lag = np.zeros((len(theta), v))
        by_lag[:, 1:] = autocorrelation_derivatives(angle)[0].T * (0.5 * np.cos(angle))[:, None]
        return np.asarray(by_lag[:, _lags(v)])

    def curvature(self, theta: FloatArray, weights: FloatArray) -> FloatArray:
        by_lag = np.bincount(_lags(len(weights)).ravel(), weights.ravel())[1:]
        angle = np.arcsin(np.tanh(0.5 * theta))
        first, second = autocorrelation_derivatives(angle)
        slope = 0.5 * np.cos(angle)
        bend = np.diag(by_lag @ first * (-0.5 * np.sin(angle) * slope))
        return np.asarray(np.tensordot(by_lag, second, 1) * np.outer(slope, slope) + bend)


def _lags(v: int) -> IntArray:
    visit = np.arange(v, dtype=np.int32)
    return np.asarray(np.abs(visit[:, None] - visit))


def arma(time: str | None = None, *, p: int = 0, q: int = 0, group: str | None = None) -> ARMA:
    """An ARMA(p, q) process in whole times; nlme's ``corARMA``.

    Parameters
    ----------
    time : str, optional
        As of :func:`ar1`.
    p, q : int
        Numbers of autoregressive and of moving-average coefficients.
    group : str, optional
        As of :func:`ar1`.
    """
    if not all(isinstance(n, int) and n >= 0 for n in (p, q)) or p + q == 0:
        raise ArgumentError(
            f"arma: expected numbers p and q of coefficients, at least one of them positive, got "
            f"p={p!r} and q={q!r}"
        )
    return ARMA(column_name(time, "arma: time"), p, q, column_name(group, "arma: group"))


def toeplitz(visit: str, *, group: str | None = None) -> ByVisit:
    """One correlation for each number of visits between two rows; SAS's ``TOEP``.

    Parameters
    ----------
    visit : str
        Column of visits; lags count its distinct values in their order.
    group : str, optional
        As of :func:`ar1`.
    """
    return by_visit(Toeplitz(), visit, group)


def coefficients(partial: FloatArray) -> FloatArray:
    """The autoregressive coefficients (p,) with these partial autocorrelations: Durbin-Levinson."""
    ar = np.zeros(0)
    for value in partial:
        ar = np.append(ar - value * ar[::-1], value)
    return ar


def autocorrelations(ar: FloatArray, ma: FloatArray, longest: int) -> FloatArray:
    """The autocorrelations (longest + 1,) of an ARMA process, by the Yule-Walker equations."""
    p, q = len(ar), len(ma)
    size = max(p, q) + 1
    noise = np.concatenate([[1.0], ma, np.zeros(size - q - 1)])
    response = np.zeros(size)
    for k in range(size):
        response[k] = noise[k] + sum(ar[i] * response[k - i - 1] for i in range(min(p, k)))
    equations = np.eye(size)
    for k in range(size):
        for i in range(p):
            equations[k, abs(k - i - 1)] -= ar[i]
    right = np.array([noise[k:] @ response[: size - k] for k in range(size)])
    gamma = np.zeros(max(longest + 1, size))
    gamma[:size] = np.linalg.solve(equations, right)
    for k in range(size, longest + 1):
        gamma[k] = ar @ gamma[k - p : k][::-1]
    return np.asarray(gamma[: longest + 1] / gamma[0])
