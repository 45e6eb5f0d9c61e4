"""What a parameter record must hold: shapes, signs, positive semidefinite matrices."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, frozen_array, record

_TOLERANCE = 1e-8


@record
class Layout:
    """The shape of a model's parameter vector: what :func:`unpack` needs to cut it up.

    Attributes
    ----------
    p : int or None
        Number of fixed effects; None where beta is profiled out and not in the vector.
    sizes : tuple of int
        Number of effects q of each random term.
    """

    p: int | None
    sizes: tuple[int, ...]


def scalar_or_array(value: Any) -> FloatArray | float:
    """A float, or a read-only array where there are leading axes."""
    if isinstance(value, float):
        return float(value)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise ParameterError(f"sigma2: expected a positive residual variance, got {value!r}")
    return float(array) if array.ndim == 0 else frozen_array(value)


def check_beta(record: Any, attribute: Any, beta: FloatArray | None) -> None:
    """``beta`` (..., p) is finite, or None: profiled out."""
    name = type(record).__name__
    if beta is None:
        return
    if beta.ndim < 1:
        raise ParameterError(f"{name}.beta: expected a vector of fixed effects, got a scalar")
    if not np.isfinite(beta).all():
        raise ParameterError(f"{name}.beta: expected finite numbers, got {beta}")


def frozen_matrices(values: Iterable[ArrayLike]) -> tuple[FloatArray, ...]:
    """One read-only matrix a term."""
    if not isinstance(values, Iterable):
        raise ParameterError(
            "covariances (psi, psi_rel) or factors: expected a tuple, one matrix a term, got "
            f"{type(values).__name__}"
        )
    return tuple(frozen_array(value) for value in values)


def _check_shapes(record: Any, attribute: Any, matrices: tuple[FloatArray, ...]) -> None:
    name = f"{type(record).__name__}.{attribute.name}"
    for k, matrix in enumerate(matrices):
        if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
            raise ParameterError(
                f"{name}[{k}]: expected a square matrix (q, q), got shape {matrix.shape}"
            )
        if not np.isfinite(matrix).all():
            raise ParameterError(f"{name}[{k}]: expected finite numbers, got\n{matrix}")


def check_covariances(record: Any, attribute: Any, matrices: tuple[FloatArray, ...]) -> None:
    """Every matrix (..., q, q) is symmetric and positive semidefinite."""
    _check_shapes(record, attribute, matrices)
    name = f"{type(record).__name__}.{attribute.name}"
    for k, matrix in enumerate(matrices):
        scale = np.sqrt(np.abs(np.diagonal(matrix, axis1=-2, axis2=-1)))
        unit = np.where(scale == 0, 1.0, scale)
        scaled = matrix / (unit[..., :, None] * unit[..., None, :])
        if np.abs(scaled - np.swapaxes(scaled, -1, -2)).max(initial=0.0) > _TOLERANCE:
            raise ParameterError(f"{name}[{k}]: expected a symmetric matrix, got\n{matrix}")
        if np.linalg.eigvalsh(scaled).min(initial=0.0) < -_TOLERANCE:
            raise ParameterError(
                f"{name}[{k}]: expected a positive semidefinite matrix, got\n{matrix}\nwith a "
                "negative eigenvalue; a correlation beyond 1 or a negative variance causes this"
            )


def check_factors(record: Any, attribute: Any, matrices: tuple[FloatArray, ...]) -> None:
    """Every matrix (..., q, q) is lower triangular with a diagonal >= 0."""
    _check_shapes(record, attribute, matrices)
    name = f"{type(record).__name__}.{attribute.name}"
    for k, matrix in enumerate(matrices):
        if np.triu(matrix, 1).any():
            raise ParameterError(f"{name}[{k}]: expected a lower triangular matrix, got\n{matrix}")
        if (np.diagonal(matrix, axis1=-2, axis2=-1) < 0).any():
            raise ParameterError(
                f"{name}[{k}]: expected a diagonal >= 0, got\n{matrix}\n; flip the column's sign"
            )


def check_sigma2(record: Any, attribute: Any, value: FloatArray | float) -> None:
    """``sigma2`` is positive and finite."""
    if not (np.isfinite(value).all() and np.all(np.asarray(value) > 0)):
        raise ParameterError(
            f"{type(record).__name__}.sigma2: expected a positive residual variance, got {value}"
        )


def check_leading_axes(
    record: object,
    matrices: tuple[FloatArray, ...],
    beta: FloatArray | None,
    sigma2: FloatArray | float = 0.0,
) -> None:
    """The parts' leading axes broadcast."""
    shapes = [matrix.shape[:-2] for matrix in matrices]
    if beta is not None:
        shapes.append(beta.shape[:-1])
    if not isinstance(sigma2, float):
        shapes.append(sigma2.shape)
    if not any(shapes):
        return
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ParameterError(
            f"{type(record).__name__}: expected leading axes that broadcast, got "
            f"{', '.join(map(str, shapes))}"
        ) from error
