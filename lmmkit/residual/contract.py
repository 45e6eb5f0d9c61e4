"""The contracts of residual structures: a correlation inside a group, and a variance function.

Rows have ``eps ~ N(0, sigma2 G R G)``: R holds the correlations inside a group of rows, the
diagonal G the standard deviations relative to sigma. Each has its own free vector theta, any real
numbers.
"""

from typing import Protocol, Self, runtime_checkable

import attrs
import numpy as np
import polars as pl

from lmmkit.records import FloatArray, IntArray, evolve, float_array, int_array, record


@record
class ResidualParameter:
    """One parameter of a structure on the scale that people read.

    Attributes
    ----------
    name : str
    lower, upper : float
        Bounds of its values, not attained.
    """

    name: str
    lower: float = -np.inf
    upper: float = np.inf

    def value(self, theta: FloatArray | float) -> FloatArray:
        """The value at ``theta``: itself, ``lower + exp(theta)``, or a logistic curve."""
        theta = np.asarray(theta)
        if np.isinf(self.lower):
            return theta
        if np.isinf(self.upper):
            return np.asarray(self.lower + np.exp(theta))
        from scipy.special import expit

        return np.asarray(self.lower + (self.upper - self.lower) * expit(theta))

    def theta(self, value: FloatArray | float) -> FloatArray:
        """The inverse of :meth:`value`."""
        value = np.asarray(value, dtype=np.float64)
        if np.isinf(self.lower):
            return value
        if np.isinf(self.upper):
            return np.asarray(np.log(value - self.lower))
        return np.asarray(np.log((value - self.lower) / (self.upper - value)))

    def slope(self, value: FloatArray | float) -> FloatArray:
        """``d value / d theta`` at a value."""
        value = np.asarray(value, dtype=np.float64)
        if np.isinf(self.lower):
            return np.ones_like(value)
        if np.isinf(self.upper):
            return np.asarray(value - self.lower)
        return np.asarray((value - self.lower) * (self.upper - value) / (self.upper - self.lower))


@record
class Coordinates:
    """What a structure sees of the data before the fit: rows sorted by group, then by coordinate.

    Attributes
    ----------
    columns : tuple of str
        Names of the coordinates.
    values : ndarray (N, d)
        Numbers; for a text column the positions of its levels.
    levels : tuple of polars.Series or None
        The levels of each text column.
    group : str
        The grouping factor's name.
    codes : ndarray (N,) of int32
        Each row's group, ascending.
    labels : polars.Series
        Labels of the groups.
    """

    columns: tuple[str, ...]
    levels: tuple[pl.Series | None, ...]
    group: str
    values: FloatArray = float_array(2)
    codes: IntArray = int_array(1)
    labels: pl.Series = attrs.field(validator=attrs.validators.instance_of(pl.Series))

    @property
    def sizes(self) -> IntArray:
        """Rows of each group."""
        return np.bincount(self.codes).astype(np.int32)

    def first(self, n: int) -> "Coordinates":
        """The first n columns alone."""
        return evolve(
            self, columns=self.columns[:n], levels=self.levels[:n], values=self.values[:, :n]
        )

    def label(self, column: int, value: float) -> str:
        """How the data write the value of a coordinate."""
        levels = self.levels[column]
        return f"{value:g}" if levels is None else str(levels[int(value)])


@runtime_checkable
class Correlation(Protocol):
    """The correlation matrix R of a group from its rows' coordinates.

    The methods of :class:`ClosedForm` and of :class:`Differentiable` may be added; without them R
    is factored, and its derivatives are differences. So may those of :class:`Particular`
    and of :class:`Exchangeable`.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the frame that hold the coordinates; none for the rows' order in the group."""

    @property
    def group(self) -> str | None:
        """The grouping factor; None for that of the random effects."""

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Names and bounds of the k parameters, after :meth:`learn`."""

    def learn(self, coordinates: Coordinates) -> Self:
        """The structure with what it has to know of the data; raises where they do not fit it."""

    def start(self) -> FloatArray:
        """Theta to start from, (k,), or several to choose from, (s, k)."""

    def values(self, theta: FloatArray) -> FloatArray:
        """The parameters (k,) at theta."""

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        """R (..., n, n) for coordinates (..., n, d)."""


@runtime_checkable
class ClosedForm(Protocol):
    """A correlation that whitens rows without forming R."""

    def whiten(
        self, theta: FloatArray, coordinates: FloatArray, columns: FloatArray
    ) -> tuple[FloatArray, float]:
        """``L^-1 columns`` for columns (c, g, n), and ``log|R|`` summed over the g groups."""


@runtime_checkable
class Particular(Protocol):
    """A correlation, learned from the data, that not every new row can have a place in."""

    def check(self, coordinates: Coordinates) -> None:
        """Raise where it has no correlation for rows of the fit and new ones, sorted by group."""


@runtime_checkable
class Exchangeable(Protocol):
    """A correlation to which the rows of a group are all alike: new ones need no coordinates."""

    @property
    def exchangeable(self) -> bool:
        """True."""


@runtime_checkable
class Differentiable(Protocol):
    """A correlation that brings its derivatives by theta; see :mod:`lmmkit.residual.slopes`."""

    def slopes(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        """First derivatives (k, ..., n, n) of R for coordinates (..., n, d)."""

    def curvature(
        self, theta: FloatArray, coordinates: FloatArray, weights: FloatArray
    ) -> FloatArray:
        """Second derivatives (k, k) of ``sum(weights * R)`` for symmetric weights (..., n, n)."""


@runtime_checkable
class VarianceFunction(Protocol):
    """The standard deviation of a row relative to sigma, a function of covariates."""

    @property
    def columns(self) -> tuple[str | None, ...]:
        """The covariates' columns; None stands for the fitted value."""

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Names and bounds of the k parameters, after :meth:`learn`."""

    def learn(self, covariates: Coordinates) -> Self:
        """As of a correlation; every row is a group of its own."""

    def start(self) -> FloatArray:
        """Theta to start from, (k,), or several to choose from, (s, k), the plainest first."""

    def values(self, theta: FloatArray) -> FloatArray:
        """The parameters (k,) at theta."""

    def log_deviation(self, theta: FloatArray, covariates: FloatArray) -> FloatArray:
        """The logarithm of each row's relative standard deviation, (N,), from (N, d)."""


@runtime_checkable
class LogLinear(Protocol):
    """A variance function whose logarithms are linear in theta; others are differenced."""

    def slopes(self, covariates: FloatArray) -> FloatArray:
        """Derivatives (k, N) of the logarithms by theta."""


def elementwise(parameters: tuple[ResidualParameter, ...], theta: FloatArray) -> FloatArray:
    """The values of parameters that each depend on their own element of theta."""
    return np.array([float(p.value(t)) for p, t in zip(parameters, theta, strict=True)])
