"""Any covariance matrix."""

import numpy as np

from lmmkit.linalg import lower, product_jacobian, psd_factor, symmetric, triangle, vech
from lmmkit.records import FloatArray, record
from lmmkit.structures.contract import Derivatives, Kind


@record
class Unstructured:
    """``Psi = T T'``; theta is the packed lower triangle of T, relative to sigma.

    A random term without a structure is this one; as a structure it is a part of
    :class:`~lmmkit.structures.Blocks` or :class:`~lmmkit.structures.Kronecker`.
    """

    def n_params(self, q: int) -> int:
        """``q (q + 1) / 2``."""
        return q * (q + 1) // 2

    def start(self, q: int) -> FloatArray:
        """The identity."""
        return vech(np.eye(q))

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``T T'``."""
        T = lower(theta, q)
        return np.asarray(T @ T.T)

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Linear and constant."""
        rows, columns = triangle(q)
        n = len(theta)
        first = symmetric(product_jacobian(lower(theta, q)).T, q)
        second = np.zeros((n, n, q, q))
        i, j = np.nonzero(columns[:, None] == columns)
        np.add.at(second, (i, j, rows[i], rows[j]), 1.0)
        return first, second + np.swapaxes(second, -1, -2)

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``sd_`` and the effect, ``cor_`` and two effects, row by row."""
        rows, columns = triangle(len(effects))
        return tuple(
            f"sd_{effects[i]}" if i == j else f"cor_{effects[j]}_{effects[i]}"
            for i, j in zip(rows, columns, strict=True)
        )

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Row by row."""
        rows, columns = triangle(q)
        return tuple(Kind.SD if i == j else Kind.COR for i, j in zip(rows, columns, strict=True))

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """Standard deviations and correlations, row by row."""
        psi = self.covariance(theta, q)
        sd = np.sqrt(np.diagonal(psi))
        unit = np.where(sd > 0, sd, 1.0)
        return vech(np.where(np.eye(q) == 1.0, np.diag(sd), psi / np.outer(unit, unit)))

    def m_step(self, moment: FloatArray, theta: FloatArray, q: int) -> FloatArray:
        """The factor of the moment."""
        return vech(psd_factor(moment))
