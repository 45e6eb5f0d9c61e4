"""Derivatives by the entries of a correlation matrix of all visits, for many patterns at once.

With ``dV = G S G`` in the rows and columns of a pattern, S (v, v) by one element of theta, every
trace that the derivatives are made of is linear, or bilinear, in the entries of S. What these meet
is summed over patterns first, each put in its place among the v visits:

    tr(dV_i V^-1 dV_j Q) = sum_abcd (S_i)_ab (S_j)_cd sum_patterns (G V^-1 G)_bc (G Q G)_da.
"""

import numpy as np

from lmmkit.linalg import symmetric
from lmmkit.records import FloatArray, IntArray, computed_array, record


@record
class ByPairs:
    """What the slopes of a correlation matrix of v visits meet, for P patterns of n visits.

    Attributes
    ----------
    slopes : ndarray (k, v, v)
    entry : ndarray (P, n n)
        The place of each pattern's entries among those of the matrix of all visits.
    scale : ndarray (P, n, n)
        Products of two standard deviations.
    inverse : ndarray (P, n, n)
        ``V^-1``.
    """

    slopes: FloatArray = computed_array()
    entry: IntArray = computed_array()
    scale: FloatArray = computed_array()
    inverse: FloatArray = computed_array()

    def traces(self, weights: FloatArray) -> FloatArray:
        """``tr(dV weights)`` summed over patterns, (k, w), of weights (w, P, n, n)."""
        v = self.slopes.shape[-1]
        summed = [np.bincount(self.entry.ravel(), w.ravel(), v * v) for w in self.scale * weights]
        return self._flat @ np.reshape(summed, (len(weights), v * v)).T

    def hessian(self, Q: FloatArray) -> FloatArray:
        """``tr(dV_i V^-1 dV_j Q)`` (k, k) summed over patterns."""
        v = self.slopes.shape[-1]
        both = self._placed(self.inverse).T @ self._placed(Q)
        between = both.reshape(v, v, v, v).transpose(3, 0, 1, 2).reshape(v * v, v * v)
        return np.asarray(self._flat @ between @ self._flat.T)

    def cross_products(self, products: FloatArray) -> FloatArray:
        """Derivatives (k, p, p) of ``C = sum_st (V^-1)_st products_st``.

        Of products (w, P, n, n), one for each entry of a packed triangle of C.
        """
        weights = -self.inverse @ products @ self.inverse
        return symmetric(self.traces(weights), int(np.sqrt(2 * len(products))))

    @property
    def _flat(self) -> FloatArray:
        return self.slopes.reshape(len(self.slopes), -1)

    def _placed(self, matrices: FloatArray) -> FloatArray:
        """Scaled matrices (P, n, n) as rows (P, v v) of those of all visits."""
        placed = np.zeros((len(matrices), self.slopes[0].size))
        values = (self.scale * matrices).reshape(len(matrices), -1)
        np.put_along_axis(placed, self.entry, values, axis=1)
        return placed
