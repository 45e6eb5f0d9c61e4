"""The square root parameterization: positive semidefinite by construction, for optimizers."""

from collections.abc import Iterable
from typing import Self

import attrs
import numpy as np
from numpy.typing import ArrayLike

from lmmkit.parameters.checks import (
    Layout,
    check_beta,
    check_factors,
    check_leading_axes,
    frozen_matrices,
)
from lmmkit.parameters.packing import pack_parts, packed_values, split_matrices
from lmmkit.records import FloatArray, frozen_array, record


def _frozen(theta: Iterable[FloatArray | None]) -> tuple[FloatArray | None, ...]:
    return tuple(None if part is None else frozen_array(part) for part in theta)


@record
class SquareRootParams:
    """Parameters of ``y ~ N(X beta, sigma2 (I + Z T T' Z'))`` with sigma2 profiled out.

    Attributes
    ----------
    factor : tuple of ndarray (..., q_k, q_k)
        T, the relative covariance factor of each term: lower triangular, diagonal >= 0, zero
        being legal.
    beta : ndarray (..., p) or None
        Fixed effects; None means profiled out.
    theta : tuple of (ndarray (n_k,) or None)
        What steps move: the free vector of a term that has a covariance structure, None for one
        that has not; () where no term has.

    Raises
    ------
    ParameterError
        For a matrix that is not lower triangular or has a negative diagonal element.
    """

    factor: tuple[FloatArray, ...] = attrs.field(converter=frozen_matrices, validator=check_factors)
    beta: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(frozen_array), validator=check_beta
    )
    theta: tuple[FloatArray | None, ...] = attrs.field(default=(), converter=_frozen)

    def __attrs_post_init__(self) -> None:
        check_leading_axes(self, self.factor, self.beta)

    def pack(self) -> FloatArray:
        """The vector (..., n): beta if it is there, then the lower triangles of the factors."""
        return pack_parts(self.beta, self.factor, None)

    @classmethod
    def unpack(cls, values: ArrayLike, layout: Layout) -> Self:
        """The record of the vector ``values``.

        Columns with a negative diagonal element change sign, which leaves ``T T'`` as it is: an
        optimizer may step across zero.
        """
        packed = packed_values(values, layout, with_sigma2=False)
        start = layout.p or 0
        factors = split_matrices(packed[..., start:], layout.sizes, triangular=True)
        return cls(
            factor=tuple(positive_diagonal(factor) for factor in factors),
            beta=None if layout.p is None else packed[..., :start],
        )


def positive_diagonal(factor: FloatArray) -> FloatArray:
    """The factor with the signs of columns changed whose diagonal element is negative."""
    sign = np.where(np.diagonal(factor, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return factor * sign[..., None, :]
