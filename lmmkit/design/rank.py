"""Which columns of X depend linearly on earlier ones."""

import numpy as np
from numpy.typing import NDArray

from lmmkit.linalg import row_products
from lmmkit.records import FloatArray

TOLERANCE = 1e-7
_CLEARLY_INDEPENDENT = 1e-3
_CHUNK = 65536


def independent_columns(X: FloatArray) -> NDArray[np.intp]:
    """Positions of the columns to keep, going from left to right as R's ``lm`` does.

    A column is dropped when what is left of it after projection on the kept columns before it is
    shorter than 1e-7 of its own length.

    Parameters
    ----------
    X : ndarray (N, p)

    Returns
    -------
    ndarray of int
    """
    p = X.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        gram = row_products(X.T)
        lengths = np.sqrt(np.diag(gram))
    if p == 0 or (lengths.all() and np.isfinite(lengths).all() and _clear(gram, lengths)):
        return np.arange(p)
    R = np.zeros((0, p))
    scale = np.maximum(np.abs(X).max(axis=0, initial=0.0), np.finfo(float).tiny)
    for start in range(0, len(X), _CHUNK):
        R = np.asarray(np.linalg.qr(np.vstack([R, X[start : start + _CHUNK] / scale]), mode="r"))
    return _in_order(R)


def _clear(gram: FloatArray, lengths: FloatArray) -> bool:
    try:
        factor = np.linalg.cholesky(gram / np.outer(lengths, lengths))
    except np.linalg.LinAlgError:
        return False
    return bool(np.diag(factor).min() > _CLEARLY_INDEPENDENT)


def _in_order(R: FloatArray) -> NDArray[np.intp]:
    kept: list[int] = []
    basis = np.zeros((len(R), 0))
    for column in range(R.shape[1]):
        rest = R[:, column].copy()
        for _ in range(2):
            rest -= basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length > TOLERANCE * np.linalg.norm(R[:, column]):
            basis = np.column_stack([basis, rest / length])
            kept.append(column)
    return np.array(kept, dtype=np.intp)
