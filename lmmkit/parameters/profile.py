"""The profile parameterization: covariances relative to a profiled residual variance."""

from typing import Self

import attrs
from numpy.typing import ArrayLike

from lmmkit.parameters.checks import (
    Layout,
    check_beta,
    check_covariances,
    check_leading_axes,
    frozen_matrices,
)
from lmmkit.parameters.packing import pack_parts, packed_values, split_matrices
from lmmkit.records import FloatArray, frozen_array, record


@record
class ProfileParams:
    """Parameters of ``y ~ N(X beta, sigma2 (I + Z Psi_rel Z'))`` with sigma2 profiled out.

    Attributes
    ----------
    psi_rel : tuple of ndarray (..., q_k, q_k)
        ``Psi / sigma2`` of each term; singular matrices are legal.
    beta : ndarray (..., p) or None
        Fixed effects; None means profiled out.

    Raises
    ------
    ParameterError
        For a matrix that is not a covariance.
    """

    psi_rel: tuple[FloatArray, ...] = attrs.field(
        converter=frozen_matrices, validator=check_covariances
    )
    beta: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(frozen_array), validator=check_beta
    )

    def __attrs_post_init__(self) -> None:
        check_leading_axes(self, self.psi_rel, self.beta)

    def pack(self) -> FloatArray:
        """The vector (..., n): beta if it is there, then the lower triangles of psi_rel."""
        return pack_parts(self.beta, self.psi_rel, None)

    @classmethod
    def unpack(cls, values: ArrayLike, layout: Layout) -> Self:
        """The record whose :meth:`pack` is ``values``."""
        packed = packed_values(values, layout, with_sigma2=False)
        start = layout.p or 0
        return cls(
            psi_rel=split_matrices(packed[..., start:], layout.sizes, triangular=False),
            beta=None if layout.p is None else packed[..., :start],
        )
