"""Correlations by distance: exponential, Gaussian, Matern."""

import math
from typing import Any

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, evolve, frozen_array, optional_float_array, record
from lmmkit.structures.contract import Derivatives, Kind
from lmmkit.structures.coordinates import checked_coordinates, coordinates_of, distances

_SMOOTHEST = 20.0
_SERIES = 2.5
_NEAR = 1e-4


def _placed(structure: Any, effects: tuple[str, ...]) -> FloatArray:
    what = type(structure).__name__
    if structure.coordinates is None:
        return coordinates_of(what, effects)
    return checked_coordinates(what, structure.coordinates, effects)


def _distances(structure: Any, q: int) -> FloatArray:
    if structure.coordinates is None:
        return np.abs(np.arange(q, dtype=np.float64)[:, None] - np.arange(q))
    return distances(structure.coordinates)


def _typical(structure: Any, q: int) -> FloatArray:
    """The logarithm of half the mean distance."""
    apart = _distances(structure, q)
    return np.asarray(np.log(np.full(1, 0.5 * apart.sum() / max(q * (q - 1), 1) or 1.0)))


@record
class Exponential:
    """``R_ij = exp(-d_ij / range)``, d the distance of effects i and j.

    Attributes
    ----------
    coordinates : ndarray (q,) or (q, d) or None
        None: read from the effects' names, ``"t[1.5]"``, or ``"place[(1, 2)]"``.
    """

    coordinates: FloatArray | None = optional_float_array(default=None)

    def at(self, effects: tuple[str, ...]) -> "Exponential":
        """With coordinates for these effects."""
        return evolve(self, coordinates=_placed(self, effects))

    def n_params(self, q: int) -> int:
        """One."""
        return 1

    def start(self, q: int) -> FloatArray:
        """A range of half the mean distance."""
        return _typical(self, q)

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """``exp(-d / range)``."""
        return np.asarray(np.exp(-_distances(self, q) * np.exp(-theta[0])))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """By the logarithm of the range."""
        ratio = _distances(self, q) * np.exp(-theta[0])
        R = np.exp(-ratio)
        return (ratio * R)[None], (ratio * (ratio - 1.0) * R)[None, None]

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``range``."""
        return ("range",)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A range."""
        return (Kind.RANGE,)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The range, in units of the coordinates."""
        return np.asarray(np.exp(theta))


@record
class Gaussian:
    """``R_ij = exp(-(d_ij / range)^2)``, d the distance of effects i and j.

    Attributes
    ----------
    coordinates : ndarray (q,) or (q, d) or None
        None: read from the effects' names, ``"t[1.5]"``, or ``"place[(1, 2)]"``.
    """

    coordinates: FloatArray | None = optional_float_array(default=None)

    def at(self, effects: tuple[str, ...]) -> "Gaussian":
        """With coordinates for these effects."""
        return evolve(self, coordinates=_placed(self, effects))

    def n_params(self, q: int) -> int:
        """One."""
        return 1

    def start(self, q: int) -> FloatArray:
        """A range of half the mean distance."""
        return _typical(self, q)

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """``exp(-(d / range)^2)``."""
        return np.asarray(np.exp(-((_distances(self, q) * np.exp(-theta[0])) ** 2)))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """By the logarithm of the range."""
        square = (_distances(self, q) * np.exp(-theta[0])) ** 2
        R = np.exp(-square)
        return (2.0 * square * R)[None], (4.0 * square * (square - 1.0) * R)[None, None]

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``range``."""
        return ("range",)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A range."""
        return (Kind.RANGE,)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The range, in units of the coordinates."""
        return np.asarray(np.exp(theta))


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
class Matern:
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
    coordinates: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(frozen_array)
    )

    def at(self, effects: tuple[str, ...]) -> "Matern":
        """With coordinates for these effects."""
        return evolve(self, coordinates=_placed(self, effects))

    def n_params(self, q: int) -> int:
        """The range, and the smoothness where it is estimated."""
        return 1 + (self.smoothness is None)

    def start(self, q: int) -> FloatArray:
        """A range of half the mean distance, a smoothness near one."""
        return np.concatenate([_typical(self, q), np.full(self.n_params(q) - 1, -3.0)])

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """By the modified Bessel function."""
        nu = self.natural(theta, q)[1] if self.smoothness is None else self.smoothness
        return _matern(_distances(self, q) * math.exp(-theta[0]), float(nu))

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
