"""Correlations that fall with the distance between two rows, in time or in space."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from lmmkit.errors import ArgumentError
from lmmkit.records import FloatArray, evolve, record
from lmmkit.residual.autoregressive import whiten_steps
from lmmkit.residual.checks import (
    check_distinct,
    check_numbers,
    column_name,
    column_names,
    distances,
)
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.written import written

_START = np.array([0.05, 0.2, 0.6])
_SMOOTHEST = 10.0
# beyond, in ranges, the correlation is 0 to rounding; its powers would overflow
_FARTHEST = 1e50
_NONE_LEFT = 1e4


def _matern(s: FloatArray, smoothness: float) -> FloatArray:
    from scipy.special import gamma, kve

    x = np.sqrt(2.0 * smoothness) * np.clip(np.where(s > 0.0, s, 1.0), None, _NONE_LEFT)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        logarithm = smoothness * np.log(x) - x - (smoothness - 1.0) * np.log(2.0)
        h = np.exp(logarithm) * kve(smoothness, x) / gamma(smoothness)
    return np.where(s > 0.0, h, 1.0)


_SHAPES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "exponential": lambda s: np.exp(-s),
    "gaussian": lambda s: np.exp(-(s**2)),
    "rational_quadratic": lambda s: 1.0 / (1.0 + s**2),
    "spherical": lambda s: np.where(s < 1.0, 1.0 - 1.5 * s + 0.5 * s**3, 0.0),
}


@record
class Distance:
    """``corr = (1 - nugget) h(distance / range)``, h given by the name.

    Attributes
    ----------
    extent : float
        The largest spread of a coordinate in a group; theta is of the range relative to it.
    """

    name: str
    columns: tuple[str, ...]
    group: str | None
    nugget: bool
    smoothness: float | None = None
    extent: float = 1.0

    def __str__(self) -> str:
        options = {"group": self.group, "nugget": self.nugget, "smoothness": self.smoothness}
        return written(self.name, *self.columns, **options)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        own = [ResidualParameter("range", 0.0)]
        if self.name == "matern" and self.smoothness is None:
            own.append(ResidualParameter("smoothness", 0.0, _SMOOTHEST))
        if self.nugget:
            own.append(ResidualParameter("nugget", 0.0, 1.0))
        return tuple(own)

    def learn(self, coordinates: Coordinates) -> Self:
        check_numbers(coordinates, self.name)
        if not self.nugget:
            check_distinct(coordinates, self.name)
        starts = np.cumsum(coordinates.sizes) - coordinates.sizes
        high = np.maximum.reduceat(coordinates.values, starts)
        low = np.minimum.reduceat(coordinates.values, starts)
        return evolve(self, extent=float((high - low).max()) or 1.0)

    def start(self) -> FloatArray:
        others = {"smoothness": (1.0,), "nugget": (0.1, 0.5)}
        axes = [p.theta(np.array(others[p.name])) for p in self.parameters[1:]]
        mesh = np.meshgrid(np.log(_START), *axes, indexing="ij")
        return np.stack([axis.ravel() for axis in mesh], axis=1)

    def values(self, theta: FloatArray) -> FloatArray:
        values = elementwise(self.parameters, theta)
        values[0] *= self.extent
        return values

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        values = dict(zip((p.name for p in self.parameters), self.values(theta), strict=True))
        with np.errstate(over="ignore"):
            s = np.minimum(distances(coordinates) / values["range"], _FARTHEST)
        if self.name == "matern":
            h = _matern(s, self.smoothness or values["smoothness"])
        else:
            h = _SHAPES[self.name](s)
        if not self.nugget:
            return h
        return np.asarray(h + values["nugget"] * (np.eye(s.shape[-1]) - h))


@record
class Decay:
    """The exponential in one coordinate, without a nugget: a chain, whitened in closed form."""

    inner: Distance

    def __str__(self) -> str:
        return str(self.inner)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def columns(self) -> tuple[str, ...]:
        return self.inner.columns

    @property
    def group(self) -> str | None:
        return self.inner.group

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        return self.inner.parameters

    def learn(self, coordinates: Coordinates) -> Self:
        return evolve(self, inner=self.inner.learn(coordinates))

    def start(self) -> FloatArray:
        return self.inner.start()

    def values(self, theta: FloatArray) -> FloatArray:
        return self.inner.values(theta)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        return self.inner.correlation(theta, coordinates)

    def whiten(
        self, theta: FloatArray, coordinates: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, float]:
        steps = np.diff(coordinates[..., 0], axis=-1) / self.values(theta)[0]
        return whiten_steps(np.exp(-steps), -np.expm1(-2.0 * steps), columns)


def exponential(*columns: str, group: str | None = None, nugget: bool = False) -> Distance | Decay:
    """``corr = exp(-d / range)``; nlme's ``corExp``.

    Parameters
    ----------
    *columns : str
        The coordinates: one, as time, or several, whose distance is Euclidean.
    group : str, optional
        The grouping factor; by default that of the random effects, or all rows are one group.
    nugget : bool
        Whether two rows at no distance still differ: ``corr = (1 - nugget) exp(-d / range)``.
    """
    structure = _distance("exponential", columns, group, nugget)
    return structure if nugget or len(columns) > 1 else Decay(structure)


def gaussian(*columns: str, group: str | None = None, nugget: bool = False) -> Distance:
    """``corr = exp(-(d / range)^2)``; nlme's ``corGaus``. Arguments as of :func:`exponential`."""
    return _distance("gaussian", columns, group, nugget)


def rational_quadratic(*columns: str, group: str | None = None, nugget: bool = False) -> Distance:
    """``corr = 1 / (1 + (d / range)^2)``; nlme's ``corRatio``.

    Arguments as of :func:`exponential`.
    """
    return _distance("rational_quadratic", columns, group, nugget)


def spherical(*columns: str, group: str | None = None, nugget: bool = False) -> Distance:
    """``corr = 1 - 1.5 s + 0.5 s^3`` for ``s = d / range < 1``, else 0; nlme's ``corSpher``.

    Arguments as of :func:`exponential`. Positive definite in up to three coordinates.
    """
    if len(columns) > 3:
        raise ArgumentError(f"spherical: expected at most three coordinates, got {columns}")
    return _distance("spherical", columns, group, nugget)


def matern(
    *columns: str,
    group: str | None = None,
    nugget: bool = False,
    smoothness: float | None = None,
) -> Distance:
    """``corr = 2^(1-v) / Gamma(v) x^v K_v(x)`` with ``x = sqrt(2 v) d / range``.

    Other arguments as of :func:`exponential`.

    Parameters
    ----------
    smoothness : float, optional
        v, at most 10: 0.5 gives the exponential, infinity the Gaussian. By default it is estimated.
    """
    known = isinstance(smoothness, int | float) and 0.0 < smoothness <= _SMOOTHEST
    if smoothness is not None and not known:
        raise ArgumentError(
            f"matern: expected a smoothness above 0 and up to {_SMOOTHEST:g}, got {smoothness!r}; "
            "beyond, the gaussian is nearly the same"
        )
    return evolve(_distance("matern", columns, group, nugget), smoothness=smoothness)


def _distance(name: str, columns: tuple[Any, ...], group: str | None, nugget: bool) -> Distance:
    if not isinstance(nugget, bool):
        raise ArgumentError(f"{name}: expected nugget to be True or False, got {nugget!r}")
    return Distance(name, column_names(columns, name), column_name(group, f"{name}: group"), nugget)
