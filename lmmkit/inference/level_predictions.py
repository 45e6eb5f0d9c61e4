"""Rows predicted from the rows before them in the same level of one grouping factor.

Let ``y_i = u_i + z_i' b + e_i`` for the rows of one level, where u is known, ``b ~ N(0, Psi)`` and
``e_i ~ N(0, noise_i)``. After the rows before i the covariance of b is P and its mean ``P h`` with
``h = sum_j z_j (y_j - u_j) / noise_j``. The error of the prediction of row i has the standard
deviation ``sqrt(z_i'P z_i + noise_i)``; over that, the errors are independent N(0, 1), and linear
in u as they are in y.
"""

from collections.abc import Iterator

import numpy as np

from lmmkit.likelihood.sparse import Sparse
from lmmkit.records import FloatArray, IntArray, float_array, int_array, record


@record
class LevelRows:
    """The predictions of n rows from those of their levels.

    Attributes
    ----------
    n_levels : int
    codes : ndarray (n,)
    last : ndarray (n,)
        Position of the last row of each row's level.
    Z : ndarray (n, q)
    gain : ndarray (n, q)
        ``P z_i``: the prediction is ``gain_i'h``.
    deviation : ndarray (n,)
    """

    n_levels: int
    codes: IntArray = int_array(1)
    last: IntArray = int_array(1)
    Z: FloatArray = float_array(2)
    gain: FloatArray = float_array(2)
    deviation: FloatArray = float_array(1)


def level_rows(Z: FloatArray, codes: IntArray, psi: FloatArray, noise: FloatArray) -> LevelRows:
    """The predictions; all levels side by side, in as many steps as the largest has rows."""
    n, q = Z.shape
    m = int(codes.max()) + 1
    counts = np.bincount(codes, minlength=m)
    largest = np.argsort(-counts, kind="stable")
    place = np.empty(m, dtype=np.intp)
    place[largest] = np.arange(m)
    rows = np.argsort(place[codes], kind="stable")
    counts = counts[largest]
    starts = np.cumsum(counts) - counts
    covariance = np.broadcast_to(psi, (m, q, q)).copy()
    gain, deviation = np.empty((n, q)), np.empty(n)
    for step in range(int(counts[0])):
        some = rows[starts[: np.searchsorted(-counts, -step)] + step]
        P = covariance[: len(some)]
        gain[some] = np.einsum("lab,lb->la", P, Z[some])
        deviation[some] = np.sqrt((Z[some] * gain[some]).sum(axis=1) + noise[some])
        own = gain[some] / deviation[some, None]
        P -= own[:, :, None] * own[:, None, :]
    last = np.zeros(m, dtype=np.int32)
    np.maximum.at(last, codes, np.arange(n, dtype=np.int32))
    return LevelRows(m, codes, last[codes], Z, gain, deviation)


def predicted(
    own: LevelRows, U: Sparse, residual: FloatArray, noise: FloatArray, runs: list[slice]
) -> Iterator[tuple[Sparse, FloatArray]]:
    """The standardized errors of prediction of ``U`` (n, e) and of the residuals, run after run."""
    from scipy.sparse import csr_array, diags_array, tril

    q = own.Z.shape[1]
    h_of_U = csr_array((own.n_levels * q, U.shape[1]))
    h = np.zeros(own.n_levels * q)
    for run in runs:
        here, left = U[run], residual[run]
        columns = (own.codes[run, None].astype(np.int64) * q + np.arange(q)).ravel()
        ends = np.arange(0, len(columns) + 1, q)
        shape = (len(left), own.n_levels * q)
        gain = csr_array((own.gain[run].ravel(), columns, ends), shape=shape)
        load = csr_array(((own.Z[run] / noise[run, None]).ravel(), columns, ends), shape=shape)
        within = tril(gain @ load.T, -1, format="csr")
        scale = 1.0 / own.deviation[run]
        error = here - gain @ h_of_U - within @ here
        yield (diags_array(scale) @ error).tocsr(), scale * (left - gain @ h - within @ left)
        h_of_U = h_of_U + load.T @ here
        h = h + load.T @ left
