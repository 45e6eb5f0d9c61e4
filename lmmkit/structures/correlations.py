"""Correlations by the order of the effects: compound symmetry, AR(1), Toeplitz.

A correlation is the sine of its theta, so that its bounds are reached at a finite theta, where the
likelihood is smooth.
"""

import numpy as np

from lmmkit.records import FloatArray, record
from lmmkit.structures.autocorrelation import autocorrelation_derivatives
from lmmkit.structures.contract import Derivatives, Kind


@record
class CompoundSymmetry:
    """``R = (1 - rho) I + rho J``, rho between ``-1 / (q - 1)`` and 1."""

    def n_params(self, q: int) -> int:
        """One, or none for a single effect."""
        return int(q > 1)

    def start(self, q: int) -> FloatArray:
        """``rho = 0.1``."""
        lowest = _lowest(q)
        place = 2.0 * (0.1 - lowest) / (1.0 - lowest) - 1.0
        return np.asarray(np.arcsin(np.full(self.n_params(q), place)))

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """Ones, and rho off the diagonal."""
        return np.asarray(np.eye(q) + (1.0 - np.eye(q)) * self.natural(theta, q).sum())

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Of the sine."""
        scale = 0.5 * (1.0 - _lowest(q)) * (1.0 - np.eye(q))
        first = np.cos(theta)[:, None, None] * scale
        return first, -np.sin(theta)[:, None, None, None] * scale

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``rho``."""
        return ("rho",) * self.n_params(len(effects))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A correlation."""
        return (Kind.COR,) * self.n_params(q)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """Rho."""
        lowest = _lowest(q)
        return np.asarray(lowest + 0.5 * (1.0 - lowest) * (1.0 + np.sin(theta)))


def _lowest(q: int) -> float:
    return -1.0 / max(q - 1, 1)


@record
class AR1:
    """``R_ij = rho^|i - j|`` for effects in the order of time, rho between -1 and 1."""

    def n_params(self, q: int) -> int:
        """One, or none for a single effect."""
        return int(q > 1)

    def start(self, q: int) -> FloatArray:
        """``rho = 0.1``."""
        return np.asarray(np.arcsin(np.full(self.n_params(q), 0.1)))

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """Powers of rho."""
        return np.asarray(np.sin(theta).sum() ** _lags(q))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Of powers of the sine."""
        rho, slope = np.sin(theta)[:, None, None], np.cos(theta)[:, None, None]
        lag = _lags(q)
        first = lag * rho ** np.maximum(lag - 1, 0)
        second = lag * (lag - 1) * rho ** np.maximum(lag - 2, 0)
        return first * slope, (second * slope**2 - first * rho)[None]

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``rho``."""
        return ("rho",) * self.n_params(len(effects))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A correlation."""
        return (Kind.COR,) * self.n_params(q)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """Rho."""
        return np.asarray(np.sin(theta))


def _lags(q: int) -> FloatArray:
    place = np.arange(q)
    return np.asarray(np.abs(place[:, None] - place))


@record
class Toeplitz:
    """``R_ij = rho_|i - j|``: one correlation a lag.

    theta is the arcsines of the partial autocorrelations, which may have any values between -1 and
    1: the Durbin-Levinson recursion makes the autocorrelations of them.
    """

    def n_params(self, q: int) -> int:
        """``q - 1``."""
        return q - 1

    def start(self, q: int) -> FloatArray:
        """Partial autocorrelations of 0.1 and zeros."""
        theta = np.zeros(q - 1)
        theta[:1] = np.arcsin(0.1)
        return theta

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """Of the lags."""
        return np.asarray(np.append(1.0, self.natural(theta, q))[_lags(q)])

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Of the recursion."""
        first, second = autocorrelation_derivatives(theta)
        lags, n = _lags(q), len(theta)
        one, two = np.zeros((n, q)), np.zeros((n, n, q))
        one[:, 1:], two[:, :, 1:] = first.T, np.moveaxis(second, 0, -1)
        return one[:, lags], two[:, :, lags]

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``rho_`` and the lag."""
        return tuple(f"rho_{lag}" for lag in range(1, len(effects)))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """``q - 1`` correlations."""
        return (Kind.COR,) * (q - 1)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The autocorrelations at lags 1, ..., q - 1."""
        weights, rho, left = np.zeros(0), np.zeros(0), 1.0
        for partial in np.sin(theta):
            known = partial * left + (weights * rho[::-1]).sum()
            weights = np.append(weights - partial * weights[::-1], partial)
            rho = np.append(rho, known)
            left = left * (1.0 - partial**2)
        return rho
