"""From (beta, delta, sigma2) to the packed record of parameters that a caller gave."""

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ParameterError
from lmmkit.likelihood.charts import Chart, Params, matrices_of
from lmmkit.moments.basis import Basis, left_inverse
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray


def jacobian(where: Chart, basis: Basis) -> FloatArray:
    """Of (beta, delta, sigma2) by (beta, matrices, sigma2) of the record."""
    (p, p_free), n = basis.x.shape, where.delta.shape[-1]
    lead = np.broadcast_shapes(where.by_matrix.shape[:-2], where.by_sigma2.shape[:-1])
    across = np.zeros((*lead, p_free + n + 1, p + n + 1))
    across[..., :p_free, :p] = left_inverse(basis.x)
    across[..., p_free:-1, p:-1] = where.by_matrix
    across[..., p_free:-1, -1] = where.by_sigma2
    across[..., -1, -1] = 1.0
    return across


def in_record(params: Params, basis: Basis, size: int) -> NDArray[np.bool_]:
    """Which of (beta, matrices, sigma2) are in the packed record."""
    kept = np.ones(size, dtype=bool)
    kept[: len(basis.x)] = params.beta is not None
    kept[-1] = isinstance(params, NaturalParams)
    return kept


def profiled(matrix: FloatArray, params: Params, basis: Basis, *, sigma2_held: bool) -> FloatArray:
    """The Schur complement of the coordinates that the record leaves to be profiled."""
    kept = in_record(params, basis, matrix.shape[-1])
    out = ~kept
    if sigma2_held:
        out[-1] = False
    inner = matrix[..., kept, :][..., kept]
    if not out.any():
        return inner
    across = matrix[..., out, :][..., kept]
    correction = np.linalg.solve(matrix[..., out, :][..., out], across)
    return inner - np.swapaxes(across, -1, -2) @ correction


def check_params(params: object, basis: Basis) -> None:
    """Raise unless ``params`` is a record for the model that ``basis`` belongs to."""
    if not isinstance(params, Params):
        raise ParameterError(
            "expected NaturalParams, ProfileParams or SquareRootParams, got "
            f"{type(params).__name__}; the record's type says what its numbers mean"
        )
    expected = tuple(len(c) for c in basis.z)
    sizes = tuple(matrix.shape[-1] for matrix in matrices_of(params))
    if sizes != expected:
        raise ParameterError(
            f"expected one matrix a random term, of sizes {expected}, got sizes {sizes}"
        )
    p = len(basis.x)
    if params.beta is not None and params.beta.shape[-1] != p:
        raise ParameterError(f"expected beta with {p} fixed effects, got {params.beta.shape[-1]}")
    held = ~(basis.x != 0).any(axis=1)
    if params.beta is not None and held.any():
        given, known = params.beta[..., held], basis.origin[..., held]
        if not np.allclose(given, known, rtol=1e-9, atol=0.0):
            raise ParameterError(f"expected the held fixed effects {known}, got {given}")
