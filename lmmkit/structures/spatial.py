"""Correlations by distance: exponential, Gaussian, Matern."""

import math
from typing import Self

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, evolve, optional_float_array, record
from lmmkit.structures.contract import Derivatives, Kind
from lmmkit.structures.coordinates import checked_coordinates, coordinates_of, distances

_SMOOTHEST = 20.0
_SERIES = 2.5
_NEAR = 1e-4


class _ByDistance:
    """What the correlations of places share: where effects lie, and a range; theta is its log."""

    __slots__ = ()
    coordinates: FloatArray | None

    def at(self, effects: tuple[str, ...]) -> Self:
        """With coordinates for these effects."""
        what = type(self).__name__
        if self.coordinates is None:
            return evolve(self, coordinates=coordinates_of(what, effects))
        return evolve(self, coordinates=checked_coordinates(what, self.coordinates, effects))

    def n_params(self, q: int) -> int:
        """The range."""
        return 1

    def start(self, q: int) -> FloatArray:
        """A range of half the mean distance."""
        typical = 0.5 * self._distances(q).sum() / max(q * (q - 1), 1)
        return np.asarray(np.log(np.full(1, typical or 1.0)))

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``range``."""
        return ("range",)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A range."""
        return (Kind.RANGE,)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The range, in units of the coordinates."""
        return np.asarray(np.exp(theta))

    def _distances(self, q: int) -> FloatArray:
        if self.coordinates is None:
            return np.abs(np.arange(q, dtype=np.float64)[:, None] - np.arange(q))
        return distances(self.coordinates)

    def _decay(self, theta: FloatArray, q: int, power: float) -> tuple[FloatArray, Derivatives]:
        """``exp(-(d / range)^power)`` with its derivatives by the logarithm of the range."""
        x = (self._distances(q) * np.exp(-theta[0])) ** power
        R = np.exp(-x)
        return R, ((power * x * R)[None], (power**2 * x * (x - 1.0) * R)[None, None])


@record
class Exponential(_ByDistance):
    """``R_ij = exp(-d_ij / range)``, d the distance of effects i and j.

    Attributes
    ----------
    coordinates : ndarray (q,) or (q, d) or None
        None: read from the effects' names, ``"t[1.5]"``, or ``"place[(1, 2)]"``.
    """

    coordinates: FloatArray | None = optional_float_array(default=None)

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """``exp(-d / range)``."""
        return self._decay(theta, q, 1.0)[0]

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """By the logarithm of the range."""
        return self._decay(theta, q, 1.0)[1]


@record
class Gaussian(_ByDistance):
    """``R_ij = exp(-(d_ij / range)^2)``, d the distance of effects i and j.

    Attributes
    ----------
    coordinates : ndarray (q,) or (q, d) or None
        None: read from the effects' names, ``"t[1.5]"``, or ``"place[(1, 2)]"``.
    """

    coordinates: FloatArray | None = optional_float_array(default=None)

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """``exp(-(d / range)^2)``."""
        return self._decay(theta, q, 2.0)[0]

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """By the logarithm of the range."""
        return self._decay(theta, q, 2.0)[1]


def _smoothness(instance: object, attribute: object, value: float | None) -> None:
    if value is None:
        return
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0.0 < value <= _SMOOTHEST
    ):
        raise ParameterError(
            f"Matern.smoothness: expected a number between 0 and {_SMOOTHEST:g}, got {value!r}"
        )


@record
class Matern(_ByDistance):
    """``R_ij = 2^(1 - nu) / Gamma(nu) (d_ij / range)^nu K_nu(d_ij / range)``.

    Attributes
    ----------
    smoothness : float or None
        nu; 0.5 is the exponential. None: estimated, between 0 and 20, beyond which it makes no
        difference; that needs places close to one another.
    coordinates : ndarray (q,) or (q, d) or None
        None: read from the effects' names, ``"t[1.5]"``, or ``"place[(1, 2)]"``.
    """

    smoothness: float | None = attrs.field(default=None, validator=_smoothness)
    coordinates: FloatArray | None = optional_float_array(default=None)

    def n_params(self, q: int) -> int:
        """The range, and the smoothness where it is estimated."""
        return 1 + (self.smoothness is None)

    def start(self, q: int) -> FloatArray:
        """A range of half the mean distance, a smoothness near one."""
        return np.append(_ByDistance.start(self, q), np.full(self.n_params(q) - 1, -3.0))

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """By the modified Bessel function."""
        nu = self.natural(theta, q)[1] if self.smoothness is None else self.smoothness
        return _matern(self._distances(q) * math.exp(-theta[0]), float(nu))

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``range``, and ``smoothness`` where it is estimated."""
        return ("range", "smoothness")[: self.n_params(len(effects))]

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A range, a shape."""
        return (Kind.RANGE, Kind.SHAPE)[: self.n_params(q)]

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The range, in units of the coordinates, and the smoothness."""
        return np.append(np.exp(theta[:1]), _SMOOTHEST / (1.0 + np.exp(-theta[1:])))


def _matern(x: FloatArray, nu: float) -> FloatArray:
    """``2^(1 - nu) / Gamma(nu) x^nu K_nu(x)``; near zero by the first terms of its series."""
    from scipy.special import kve

    small = (x / 2.0) ** 2
    if nu > _SERIES:
        small = small / (nu - 1.0)
        near = 1.0 - small + 0.5 * small**2 * (nu - 1.0) / (nu - 2.0)
    else:
        near = np.ones_like(x)
    inside = small < (_NEAR if nu > _SERIES else _NEAR**6)
    apart = np.clip(np.where(inside, 1.0, x), None, 1e4)
    log = (1.0 - nu) * math.log(2.0) - math.lgamma(nu) + nu * np.log(apart) - apart
    return np.asarray(np.where(inside, near, np.exp(log) * kve(nu, apart)))
