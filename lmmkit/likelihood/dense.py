"""Large dense matrices, all through scipy's BLAS and LAPACK.

numpy and scipy bring a pool of threads each. Where large products alternate between them, the
threads of one wait, spinning, on the processors that the other's need; so the remainder of the
elimination uses one of them only.
"""

import numpy as np

from lmmkit.records import FloatArray

_ROWS_AT_A_TIME = 64


def mirror(lower: FloatArray) -> FloatArray:
    """A symmetric matrix of its lower triangle, in place, a few rows at a time."""
    for start in range(0, len(lower), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        lower[:start, rows] = lower[rows, :start].T
        corner = lower[rows, rows]
        above = np.triu_indices(len(corner), 1)
        corner[above] = corner.T[above]
    return lower


def solve_triangular(root: FloatArray, b: FloatArray) -> FloatArray:
    """``L^-1 b``."""
    from scipy.linalg.lapack import dtrtrs

    return np.asarray(dtrtrs(root, b, lower=1)[0])


def product(a: FloatArray, b: FloatArray, *, transposed: bool = False) -> FloatArray:
    """``a b``, or ``a'b``, of a stored by columns."""
    from scipy.linalg.blas import dgemm

    return np.asarray(dgemm(1.0, b.T, a, trans_b=not transposed)).T
