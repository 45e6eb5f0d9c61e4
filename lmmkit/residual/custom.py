"""A correlation that a user writes as one function."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeAlias

import attrs
import numpy as np

from lmmkit.errors import ArgumentError, ParameterError
from lmmkit.records import FloatArray, record
from lmmkit.residual.checks import column_name, column_names
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.written import written

MatrixFunction: TypeAlias = Callable[..., FloatArray]


@record
class OfFunction:
    """``R = function(coordinates, **parameters)``."""

    columns: tuple[str, ...]
    group: str | None
    parameters: tuple[ResidualParameter, ...]
    initial: tuple[float, ...]
    function: MatrixFunction = attrs.field(repr=False)

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return written(name, *self.columns, group=self.group)

    def learn(self, coordinates: Coordinates) -> Self:
        return self

    def start(self) -> FloatArray:
        pairs = zip(self.parameters, self.initial, strict=True)
        return np.array([float(p.theta(value)) for p, value in pairs])

    def values(self, theta: FloatArray) -> FloatArray:
        return elementwise(self.parameters, theta)

    def correlation(self, theta: FloatArray, coordinates: FloatArray) -> FloatArray:
        named = dict(zip((p.name for p in self.parameters), self.values(theta), strict=True))
        n, d = coordinates.shape[-2:]
        each = [self._matrix(points, named) for points in coordinates.reshape(-1, n, d)]
        return np.array(each).reshape(*coordinates.shape[:-2], n, n)

    def _matrix(self, points: FloatArray, named: Mapping[str, float]) -> FloatArray:
        n = len(points)
        matrix = np.asarray(self.function(points, **named), dtype=np.float64)
        if matrix.shape != (n, n):
            raise ParameterError(
                f"{self.function.__name__}: expected a correlation matrix of shape {(n, n)} for "
                f"coordinates of shape {points.shape}, got shape {matrix.shape}"
            )
        if not np.allclose(np.diagonal(matrix), 1.0) or not np.allclose(matrix, matrix.T):
            raise ParameterError(
                f"{self.function.__name__}: expected a symmetric matrix with ones on its diagonal "
                f"at {named}, got\n{matrix}"
            )
        return matrix


def correlation_function(
    function: MatrixFunction,
    columns: str | Sequence[str],
    parameters: Mapping[str, tuple[float, float, float]],
    *,
    group: str | None = None,
) -> OfFunction:
    """A correlation structure from one matrix function.

    Parameters
    ----------
    function : callable (coordinates, **parameters) -> ndarray (n, n)
        The correlation matrix of one group from its rows' coordinates (n, d).
    columns : str or sequence of str
        The coordinates' columns.
    parameters : mapping of str to (start, lower, upper)
        Where each parameter starts, and the open interval of its values; an end may be infinite.
    group : str, optional
        The grouping factor; by default that of the random effects, or all rows are one group.
    """
    if not callable(function) or not isinstance(parameters, Mapping) or not parameters:
        raise ArgumentError(
            "correlation_function: expected a function and its parameters, such as "
            "{'range': (1.0, 0.0, math.inf)}"
        )
    for name, value in parameters.items():
        numbers = isinstance(value, Sequence) and all(isinstance(v, int | float) for v in value)
        if not numbers or len(value) != 3 or not value[1] < value[0] < value[2]:
            raise ArgumentError(
                f"correlation_function: expected {name!r} as (start, lower, upper) with lower < "
                f"start < upper, got {value!r}"
            )
        if np.isinf(value[1]) and not np.isinf(value[2]):
            raise ArgumentError(
                f"correlation_function: {name!r} has an upper bound only; use its negative"
            )
    _check_signature(function, parameters)
    return OfFunction(
        columns=column_names(columns, "correlation_function: columns"),
        group=column_name(group, "correlation_function: group"),
        parameters=tuple(
            ResidualParameter(name, lower, upper) for name, (_, lower, upper) in parameters.items()
        ),
        initial=tuple(value[0] for value in parameters.values()),
        function=function,
    )


def _check_signature(function: MatrixFunction, parameters: Mapping[str, object]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have none
        return
    try:
        signature.bind(None, **dict.fromkeys(parameters))
    except TypeError as error:
        raise ArgumentError(
            f"correlation_function: {function!r:.60} cannot be called with the coordinates and the "
            f"keywords {', '.join(map(repr, parameters))}: {error}; name its parameters, all of "
            "them"
        ) from error
