"""The natural parameterization: what users read."""

from typing import Self

import attrs
from numpy.typing import ArrayLike

from lmmkit.parameters.checks import (
    Layout,
    check_beta,
    check_covariances,
    check_leading_axes,
    check_sigma2,
    frozen_matrices,
    scalar_or_array,
)
from lmmkit.parameters.packing import pack_parts, packed_values, split_matrices
from lmmkit.records import FloatArray, frozen_array, record


@record
class NaturalParams:
    """Parameters of ``y ~ N(X beta, sigma2 I + Z Psi Z')``, in the units of the data.

    Attributes
    ----------
    psi : tuple of ndarray (..., q_k, q_k)
        Covariance of each term's random effects; singular matrices are legal.
    sigma2 : float or ndarray (...)
        Residual variance.
    beta : ndarray (..., p) or None
        Fixed effects; None means profiled out: the best beta for the rest.

    Raises
    ------
    ParameterError
        For a matrix that is not a covariance, a sigma2 that is not positive.
    """

    psi: tuple[FloatArray, ...] = attrs.field(
        converter=frozen_matrices, validator=check_covariances
    )
    sigma2: FloatArray | float = attrs.field(converter=scalar_or_array, validator=check_sigma2)
    beta: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(frozen_array), validator=check_beta
    )

    def __attrs_post_init__(self) -> None:
        check_leading_axes(self, self.psi, self.beta, self.sigma2)

    def pack(self) -> FloatArray:
        """The vector (..., n): beta if it is there, lower triangles of psi, sigma2."""
        return pack_parts(self.beta, self.psi, self.sigma2)

    @classmethod
    def unpack(cls, values: ArrayLike, layout: Layout) -> Self:
        """The record whose :meth:`pack` is ``values``."""
        packed = packed_values(values, layout, with_sigma2=True)
        start = layout.p or 0
        return cls(
            psi=split_matrices(packed[..., start:-1], layout.sizes, triangular=False),
            sigma2=packed[..., -1],
            beta=None if layout.p is None else packed[..., :start],
        )
