"""The packed order of every record: beta, each term's lower triangle row by row, then sigma2."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lmmkit.errors import ParameterError
from lmmkit.linalg import lower, symmetric, vech
from lmmkit.parameters.checks import Layout
from lmmkit.records import FloatArray


def triangle_size(q: int) -> int:
    """Number of free entries of a symmetric or lower triangular q x q matrix."""
    return q * (q + 1) // 2


def pack_parts(
    beta: FloatArray | None, matrices: Sequence[FloatArray], sigma2: FloatArray | float | None
) -> FloatArray:
    """One vector (..., n) from the parts that are there."""
    parts = [] if beta is None else [beta]
    parts += [vech(matrix) for matrix in matrices]
    if sigma2 is not None:
        parts.append(np.asarray(sigma2)[..., None])
    if not parts:
        return np.zeros(0)
    lead = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return np.concatenate([np.broadcast_to(p, (*lead, p.shape[-1])) for p in parts], axis=-1)


def packed_values(values: ArrayLike, layout: Layout, *, with_sigma2: bool) -> FloatArray:
    """``values`` (..., n) as floats, n being what ``layout`` asks for.

    Raises
    ------
    ParameterError
        For a vector of another length, or one that is not of numbers.
    """
    n = (layout.p or 0) + sum(triangle_size(q) for q in layout.sizes) + with_sigma2
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"unpack: expected a vector of {n} numbers: {error}") from error
    if array.shape[-1:] != (n,):
        raise ParameterError(
            f"unpack: expected a vector of {n} numbers for {layout}, got shape {array.shape}"
        )
    return array


def split_matrices(
    values: FloatArray, sizes: Sequence[int], *, triangular: bool
) -> tuple[FloatArray, ...]:
    """The terms' matrices from their packed lower triangles (..., n)."""
    ends = np.cumsum([triangle_size(q) for q in sizes])[:-1]
    build = lower if triangular else symmetric
    parts = np.split(values, ends, axis=-1) if len(sizes) else []
    return tuple(build(part, q) for part, q in zip(parts, sizes, strict=True))
