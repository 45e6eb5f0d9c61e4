"""The surface of covariance matrices that an estimate lies on: its zeros and its rank are kept.

Near ``diag(L, 0)``, L positive definite of size r, the matrices of rank r are

    [[L + A, B'], [B, B (L + A)^-1 B']],

so that A and B are coordinates, and the surface's only curvature is ``B L^-1 B'``.
"""

import numpy as np
from numpy.typing import NDArray

from lmmkit.linalg import symmetric, vech
from lmmkit.moments.basis import Basis, left_inverse
from lmmkit.records import FloatArray, IntArray, float_array, int_array, record

_ZERO = 1e-9


@record
class Face:
    """The surface of one random term, in standard coordinates.

    Attributes
    ----------
    psi : ndarray (q, q)
        The estimate, exactly of its rank.
    directions : ndarray (q(q+1)/2, n)
        The packed change of psi by each coordinate.
    normal : ndarray (q, d)
        Orthonormal, spans the null space of psi within the effects that are not zero.
    rows, columns : ndarray (n,)
        Place of each coordinate in the matrix above.
    values : ndarray (r,)
        L's diagonal.
    """

    psi: FloatArray = float_array(2)
    directions: FloatArray = float_array(2)
    normal: FloatArray = float_array(2)
    rows: IntArray = int_array(1)
    columns: IntArray = int_array(1)
    values: FloatArray = float_array(1)

    def unit(self, sigma2: float) -> FloatArray:
        """How large a change of each coordinate is one beside psi and sigma2, (n,)."""
        sd = np.full(len(self.psi), np.sqrt(sigma2))
        sd[: len(self.values)] = np.sqrt(np.maximum(self.values, sigma2))
        return np.asarray(sd[self.rows] * sd[self.columns])

    def curvature(self, score: FloatArray) -> FloatArray:
        """What the surface's curvature adds to the Hessian, (n, n).

        ``score`` is the derivative of the log-likelihood by packed psi.
        """
        q, r = len(self.psi), len(self.values)
        gradient = symmetric(score, q) * np.where(np.eye(q) == 1, 1.0, 0.5)
        inner = self.normal.T @ gradient @ self.normal
        out = np.flatnonzero(self.rows >= r)
        rows, columns = self.rows[out] - r, self.columns[out]
        same_column = columns[:, None] == columns
        matrix = np.zeros((len(self.rows), len(self.rows)))
        matrix[np.ix_(out, out)] = (
            2.0 * inner[rows[:, None], rows] * same_column / self.values[columns]
        )
        return matrix


def faces(psi: tuple[FloatArray, ...], sigma2: float, basis: Basis) -> tuple[Face, ...]:
    """The face of each term's ``psi``.

    An eigenvalue counts as zero beside the largest one and sigma2, in standard coordinates.
    """
    return tuple(
        _face(matrix, c, np.diagonal(original) > 0, sigma2)
        for matrix, c, original in zip(basis.standard_psi(psi), basis.z, psi, strict=True)
    )


def _face(psi: FloatArray, c: FloatArray, present: NDArray[np.bool_], sigma2: float) -> Face:
    frame = np.linalg.qr(left_inverse(c)[:, present])[0]
    values, vectors = np.linalg.eigh(frame.T @ psi @ frame)
    values, frame = values[::-1], frame @ vectors[:, ::-1]
    r = int((values > _ZERO * np.maximum(values[:1], sigma2)).sum())
    rows, columns = np.tril_indices(len(values))
    kept = columns < r
    rows, columns = rows[kept], columns[kept]
    images = frame.T[rows, :, None] * frame.T[columns, None, :]
    images = images + np.where(rows == columns, 0.0, 1.0)[:, None, None] * np.swapaxes(images, 1, 2)
    return Face(
        psi=(frame[:, :r] * values[:r]) @ frame[:, :r].T,
        directions=vech(images).T,
        normal=frame[:, r:],
        rows=rows.astype(np.int32),
        columns=columns.astype(np.int32),
        values=values[:r],
    )
