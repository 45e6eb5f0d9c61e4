"""Conversions between the three parameterizations, each with its Jacobian.

A Jacobian has one row an entry of the packed result and one column an entry of the packed
argument. A profiled beta (None) stays profiled.
"""

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.linalg import block_diagonal, product_jacobian, psd_factor
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.profile import ProfileParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray


def to_profile(params: NaturalParams | SquareRootParams) -> ProfileParams:
    """``Psi_rel = Psi / sigma2``, or ``Psi_rel = T T'``."""
    _expect(params, NaturalParams, SquareRootParams)
    if isinstance(params, NaturalParams):
        scale = np.asarray(params.sigma2)[..., None, None]
        return ProfileParams(tuple(psi / scale for psi in params.psi), params.beta)
    products = tuple(t @ np.swapaxes(t, -1, -2) for t in params.factor)
    return ProfileParams(products, params.beta)


def to_natural(
    params: ProfileParams | SquareRootParams, sigma2: FloatArray | float
) -> NaturalParams:
    """``Psi = sigma2 Psi_rel``."""
    _expect(params, ProfileParams, SquareRootParams)
    if not np.all(np.asarray(sigma2) > 0):
        raise ParameterError(f"sigma2: expected a positive residual variance, got {sigma2}")
    profile = to_profile(params) if isinstance(params, SquareRootParams) else params
    scale = np.asarray(sigma2)[..., None, None]
    return NaturalParams(tuple(psi * scale for psi in profile.psi_rel), sigma2, params.beta)


def to_square_root(params: ProfileParams | NaturalParams) -> SquareRootParams:
    """``T``, the lower Cholesky factor of Psi_rel; of a singular one too."""
    _expect(params, ProfileParams, NaturalParams)
    profile = to_profile(params) if isinstance(params, NaturalParams) else params
    return SquareRootParams(tuple(psd_factor(psi) for psi in profile.psi_rel), params.beta)


def to_profile_jacobian(params: NaturalParams | SquareRootParams) -> FloatArray:
    """Jacobian of :func:`to_profile`: (n - 1, n) from natural, (n, n) from square root."""
    _expect_one(params)
    start = 0 if params.beta is None else params.beta.shape[-1]
    if isinstance(params, SquareRootParams):
        blocks = tuple(product_jacobian(t) for t in params.factor)
        return block_diagonal((np.eye(start), *blocks))
    sigma2 = float(params.sigma2)
    packed = params.pack()
    jacobian = np.eye(len(packed) - 1, len(packed))
    jacobian[start:, start:-1] /= sigma2
    jacobian[start:, -1] = -packed[start:-1] / sigma2**2
    return jacobian


def to_natural_jacobian(params: ProfileParams | SquareRootParams, sigma2: float) -> FloatArray:
    """Jacobian of :func:`to_natural`, whose argument is the packed ``params`` and then sigma2."""
    if isinstance(params, SquareRootParams):
        inner = to_profile_jacobian(params)
        outer = to_natural_jacobian(to_profile(params), sigma2)
        return outer @ block_diagonal((inner, np.eye(1)))
    start = 0 if params.beta is None else params.beta.shape[-1]
    packed = params.pack()
    jacobian = np.eye(len(packed) + 1)
    jacobian[start:-1, start:-1] *= sigma2
    jacobian[start:-1, -1] = packed[start:]
    return jacobian


def to_square_root_jacobian(params: ProfileParams | NaturalParams) -> FloatArray:
    """Jacobian of :func:`to_square_root`.

    Raises
    ------
    ParameterError
        Where a Psi is singular: its factor is not differentiable there.
    """
    _expect_one(params)
    root = to_square_root(params)
    for k, factor in enumerate(root.factor):
        if not (np.diagonal(factor) > 0).all():
            raise ParameterError(
                f"term {k}: expected a positive definite covariance, got a singular one; the "
                "square root is not differentiable there: differentiate with respect to the factor"
            )
    inverse = np.linalg.inv(to_profile_jacobian(root))
    if isinstance(params, NaturalParams):
        return inverse @ to_profile_jacobian(params)
    return inverse


def _expect(params: object, *kinds: type) -> None:
    if not isinstance(params, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ParameterError(f"expected {wanted}, got {type(params).__name__}")


def _expect_one(params: NaturalParams | ProfileParams | SquareRootParams) -> None:
    if params.pack().ndim > 1:
        raise ParameterError(
            "expected the parameters of one model, got a record with leading axes; take the "
            "Jacobian of each by itself"
        )
