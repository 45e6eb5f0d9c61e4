"""The packed order of every record: beta, each term's lower triangle row by row, then sigma2."""

from collections.abc import Sequence

import numpy as np

from lmmkit.linalg import lower, symmetric, vech
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


def split_matrices(
    values: FloatArray, sizes: Sequence[int], *, triangular: bool
) -> tuple[FloatArray, ...]:
    """The terms' matrices from their packed lower triangles (..., n)."""
    ends = np.cumsum([triangle_size(q) for q in sizes])[:-1]
    build = lower if triangular else symmetric
    parts = np.split(values, ends, axis=-1) if len(sizes) else []
    return tuple(build(part, q) for part, q in zip(parts, sizes, strict=True))
