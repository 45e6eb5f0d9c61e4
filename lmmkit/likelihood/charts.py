"""How each parameterization maps to the relative coordinates ``(beta, delta, sigma2)``.

A chart of a record holds the map's value, its Jacobian and its curvature at that record, so that
derivatives in any parameterization are those of :mod:`lmmkit.likelihood.derivatives` and the chain
rule. A coordinate that the record lacks (beta where it is None, sigma2 outside of
:class:`NaturalParams`) is carried along unchanged and profiled out afterwards.
"""

from functools import singledispatch

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.linalg import pairings, product_jacobian, symmetric
from lmmkit.moments.basis import Basis
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.packing import pack_parts, triangle_size
from lmmkit.parameters.profile import ProfileParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, float_array, optional_float_array, record

Params = NaturalParams | ProfileParams | SquareRootParams


def matrices_of(params: Params) -> tuple[FloatArray, ...]:
    """The record's matrices, one a random term."""
    match params:
        case NaturalParams():
            return params.psi
        case ProfileParams():
            return params.psi_rel
        case SquareRootParams():
            return params.factor


@record
class Chart:
    """A record's place in relative coordinates.

    Attributes
    ----------
    delta : ndarray (..., n)
        Packed relative covariances in standard coordinates.
    by_matrix : ndarray (..., n, n)
        Derivative of delta by the packed matrices of the record.
    by_sigma2 : ndarray (..., n)
        Derivative of delta by sigma2, where sigma2 is a coordinate of the record, else zero.
    beta : ndarray (..., p) or None
        In standard coordinates.
    sigma2 : ndarray (...) or None
    """

    delta: FloatArray = float_array()
    by_matrix: FloatArray = float_array()
    by_sigma2: FloatArray = float_array()
    beta: FloatArray | None = optional_float_array(default=None)
    sigma2: FloatArray | None = optional_float_array(default=None)


@singledispatch
def chart(params: Params, basis: Basis) -> Chart:
    """The chart of ``params`` under ``basis``."""
    raise ParameterError(
        "expected NaturalParams, ProfileParams or SquareRootParams, got "
        f"{type(params).__name__}; the record's type says what its numbers mean"
    )


@singledispatch
def curvature(params: Params, basis: Basis, gradient: FloatArray) -> FloatArray:
    """``sum_i gradient_i d2 delta_i`` by the record's (matrices, sigma2): (..., n + 1, n + 1)."""
    raise ParameterError(f"expected a parameter record, got {type(params).__name__}")


def _standard_beta(params: Params, basis: Basis) -> FloatArray | None:
    return None if params.beta is None else basis.standard_beta(params.beta)


@chart.register
def _(params: NaturalParams, basis: Basis) -> Chart:
    sigma2 = np.asarray(params.sigma2)
    across = basis.standard_vech()
    delta = pack_parts(None, params.psi, None) @ across.T / sigma2[..., None]
    return Chart(
        delta=delta,
        by_matrix=across / sigma2[..., None, None],
        by_sigma2=-delta / sigma2[..., None],
        beta=_standard_beta(params, basis),
        sigma2=sigma2,
    )


@curvature.register
def _(params: NaturalParams, basis: Basis, gradient: FloatArray) -> FloatArray:
    place = chart(params, basis)
    sigma2 = np.asarray(params.sigma2)[..., None]
    n = place.delta.shape[-1]
    matrix = np.zeros((*np.broadcast_shapes(place.delta.shape, gradient.shape)[:-1], n + 1, n + 1))
    mixed = -np.einsum("...i,...ij->...j", gradient, place.by_matrix) / sigma2
    matrix[..., :n, n] = matrix[..., n, :n] = mixed
    matrix[..., n, n] = 2.0 * (gradient * place.delta).sum(axis=-1) / sigma2[..., 0] ** 2
    return matrix


@chart.register
def _(params: ProfileParams, basis: Basis) -> Chart:
    across = basis.standard_vech()
    delta = pack_parts(None, params.psi_rel, None) @ across.T
    return Chart(
        delta=delta,
        by_matrix=across,
        by_sigma2=np.zeros_like(delta),
        beta=_standard_beta(params, basis),
    )


@curvature.register
def _(params: ProfileParams, basis: Basis, gradient: FloatArray) -> FloatArray:
    n = gradient.shape[-1]
    return np.zeros((*gradient.shape[:-1], n + 1, n + 1))


@chart.register
def _(params: SquareRootParams, basis: Basis) -> Chart:
    across = basis.standard_vech()
    products = tuple(t @ np.swapaxes(t, -1, -2) for t in params.factor)
    delta = pack_parts(None, products, None) @ across.T
    return Chart(
        delta=delta,
        by_matrix=across @ factors_jacobian(params.factor),
        by_sigma2=np.zeros_like(delta),
        beta=_standard_beta(params, basis),
    )


@curvature.register
def _(params: SquareRootParams, basis: Basis, gradient: FloatArray) -> FloatArray:
    inner = factor_curvature(
        tuple(t.shape[-1] for t in params.factor), gradient @ basis.standard_vech()
    )
    n = inner.shape[-1]
    matrix = np.zeros((*inner.shape[:-2], n + 1, n + 1))
    matrix[..., :n, :n] = inner
    return matrix


def factors_jacobian(factors: tuple[FloatArray, ...]) -> FloatArray:
    """``d vech(T T') / d vech(T)`` of all terms: block diagonal (..., n, n)."""
    if len(factors) == 1:
        return product_jacobian(factors[0])
    lead = np.broadcast_shapes(*(t.shape[:-2] for t in factors)) if factors else ()
    n = sum(triangle_size(t.shape[-1]) for t in factors)
    jacobian = np.zeros((*lead, n, n))
    start = 0
    for t in factors:
        end = start + triangle_size(t.shape[-1])
        jacobian[..., start:end, start:end] = product_jacobian(t)
        start = end
    return jacobian


def factor_curvature(sizes: tuple[int, ...], gradient: FloatArray) -> FloatArray:
    """``sum_i gradient_i d2 vech(T T')_i`` by the packed T: shape (..., n, n)."""
    n = gradient.shape[-1]
    matrix = np.zeros((*gradient.shape[:-1], n, n))
    start = 0
    for q in sizes:
        rows, _, _, _, same_column = pairings(q)
        end = start + len(rows)
        # as a symmetric matrix, a gradient by vech has its diagonal counted once
        full = symmetric(gradient[..., start:end], q)
        full = full + full * np.eye(q)
        matrix[..., start:end, start:end] = full[..., rows[:, None], rows] * same_column
        start = end
    return matrix
