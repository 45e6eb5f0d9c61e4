"""Large dense matrices, all through scipy's BLAS and LAPACK.

numpy and scipy bring a pool of threads each. Where large products alternate between them, the
threads of one wait, spinning, on the processors that the other's need; so the dense stage of the
elimination uses one of them only.
"""

import numpy as np

from lmmkit.records import FloatArray


def cholesky_lower(a: FloatArray) -> FloatArray | None:
    """L of ``a = L L'``, in place of a symmetric ``a``; None where it is not positive definite."""
    from scipy.linalg.lapack import dpotrf

    root, info = dpotrf(a.T, lower=1, overwrite_a=1, clean=1)
    return None if info else root


def inverse_from(root: FloatArray) -> FloatArray:
    """``(L L')^-1``."""
    from scipy.linalg.lapack import dpotri

    lower = np.asarray(dpotri(root, lower=1)[0])
    full: FloatArray = (lower + lower.T).T
    full[np.diag_indices_from(full)] *= 0.5
    return np.ascontiguousarray(full)


def solve_triangular(root: FloatArray, b: FloatArray) -> FloatArray:
    """``L^-1 b``."""
    from scipy.linalg.lapack import dtrtrs

    return np.asarray(dtrtrs(root, b, lower=1)[0])


def product(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a b``."""
    from scipy.linalg.blas import dgemm

    return np.asarray(dgemm(1.0, b.T, a.T)).T
