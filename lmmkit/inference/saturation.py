"""What would be left of the response if all random effects were fixed ones."""

import numpy as np

from lmmkit.design.design import Design
from lmmkit.inference.loadings import fitted_rows, loaded_columns, new_loadings

_TOLERANCE = 1e-13
_ITERATIONS = 1000


def least_sum_of_squares(design: Design) -> float:
    """The weighted sum of squares that least squares by all effects leaves of the response.

    By the conjugate gradients of Paige and Saunders (1982), which need the effects' columns as
    sparse ones only. Where they end early it is too large.
    """
    from scipy.sparse import csr_array, diags_array, hstack
    from scipy.sparse.linalg import lsqr

    loadings = new_loadings(design, fitted_rows(design))
    parts = [loaded_columns(part, len(design.terms[part.terms[0]].levels)) for part in loadings]
    y = design.y if design.offset is None else design.y - design.offset
    root = np.ones(len(y)) if design.weights is None else np.sqrt(design.weights)
    columns = diags_array(root) @ hstack([csr_array(design.X), *parts], format="csr")
    length = np.sqrt(columns.power(2).sum(axis=0))
    columns = columns @ diags_array(1.0 / np.where(length > 0, length, 1.0))
    found = lsqr(columns, root * y, atol=_TOLERANCE, btol=_TOLERANCE, iter_lim=_ITERATIONS)
    return float(found[3] ** 2)
