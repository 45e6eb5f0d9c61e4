"""Groups that look alike, summed once: an evaluation then costs patterns, not rows.

The likelihood, without random effects, needs only ``C = [X y]'V^-1[X y]``. The groups i of one
pattern, equal in coordinates and covariates, have the same V but for the weights, by whose roots
their rows are multiplied, so that

    C = sum_i [X y]_i' V^-1 [X y]_i = sum_st (V^-1)_st sum_i [X y]_is [X y]_it',

whose inner sums over groups, one for each two rows s and t, do not depend on theta.
"""

import numpy as np

from lmmkit.linalg import triangle, vech
from lmmkit.records import FloatArray, float_array, float_arrays, record
from lmmkit.residual.checks import log_determinant
from lmmkit.residual.contract import Correlation
from lmmkit.residual.layout import CorrelatedBlock, find_patterns

_LARGEST = 2**26


@record
class PatternSums:
    """The patterns of groups with n rows.

    Triangles are packed row by row, see :func:`~lmmkit.linalg.vech`.

    Attributes
    ----------
    count : ndarray (P,)
        Number of groups of each pattern.
    coordinates : ndarray (P, n, d)
    covariates : tuple of ndarray (P n, d)
        What each variance function sees.
    effects : ndarray (P, n, q)
        What rows load on the random effects of their group, weighted.
    products : ndarray (P, n (n + 1) / 2, (p + 1) (p + 2) / 2)
        Sums over groups of ``[X y]_s [X y]_t'`` and, where s > t, its transpose.
    """

    count: FloatArray = float_array(1)
    coordinates: FloatArray = float_array(3)
    covariates: tuple[FloatArray, ...] = float_arrays(2)
    effects: FloatArray = float_array(3)
    products: FloatArray = float_array(3)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers P of patterns and n of rows."""
        patterns, n, _ = self.coordinates.shape
        return patterns, n

    def some(self, patterns: slice) -> "PatternSums":
        """The sums of some of the patterns."""
        n = self.shape[1]
        rows = slice(patterns.start * n, patterns.stop * n)
        return PatternSums(
            count=self.count[patterns],
            coordinates=self.coordinates[patterns],
            covariates=tuple(part[rows] for part in self.covariates),
            effects=self.effects[patterns],
            products=self.products[patterns],
        )

    def factor(self, correlation: Correlation | None, theta: FloatArray) -> FloatArray | None:
        """L (P, n, n) of each pattern's ``R = L L'``; None where R is not positive definite."""
        patterns, n = self.shape
        if n == 1 or correlation is None:
            return np.ones((patterns, 1, 1))
        try:
            factor = np.linalg.cholesky(correlation.correlation(theta, self.coordinates))
        except np.linalg.LinAlgError:
            return None
        known = np.isfinite(log_determinant(np.diagonal(factor, axis1=-2, axis2=-1) ** 2))
        return factor if known else None

    def cross_products(self, weights: FloatArray) -> FloatArray:
        """``sum_st weights_st [X y]_s'[X y]_t`` of symmetric weights (..., P, n, n).

        Shape (..., p + 1, p + 1).
        """
        width = self.products.shape[-1]
        products, packed = self.products.reshape(-1, width), vech(weights)
        flat = packed.reshape(*packed.shape[:-2], len(products)) @ products
        return _symmetric(flat, int(np.sqrt(2 * width)))

    def matrices(self) -> FloatArray:
        """What weights of V^-1 meet: (w, P, n, n), symmetric, for each of the w packed entries."""
        n = self.shape[1]
        halved = self.products * np.where(np.equal(*triangle(n)), 1.0, 0.5)[:, None]
        return _symmetric(np.moveaxis(halved, -1, 0), n)

    def contracted(self, matrix: FloatArray) -> FloatArray:
        """The weights (P, n, n) of V^-1 in ``tr(matrix C)``, for a symmetric matrix (p + 1,)*2."""
        n, (rows, columns) = self.shape[1], triangle(len(matrix))
        packed = self.products @ (vech(matrix) * np.where(rows == columns, 1.0, 2.0))
        return _symmetric(packed * np.where(np.equal(*triangle(n)), 1.0, 0.5), n)


def pattern_sums(
    blocks: tuple[CorrelatedBlock, ...],
    covariates: tuple[FloatArray, ...],
    columns: FloatArray,
    effects: FloatArray,
    *,
    parameters: int,
    closed: bool,
) -> tuple[PatternSums, ...]:
    """The sums of weighted ``columns`` (N, p + 1), one record a block; none if they save nothing.

    ``effects`` (N, q) are the weighted columns of random effects that each group has of its own.

    An iteration over k ``parameters`` needs about 1 + k + k^2 evaluations by rows, which
    ``closed`` forms need not factor; and the work of 1 + 2 k evaluations by sums.
    """
    width, k = columns.shape[1], parameters
    by_rows = sum(_row_cost(block, width, closed) for block in blocks)
    enough = by_rows * (1 + k + k * k) / (1 + 2 * k)
    found, cost, size = [], 0.0, 0
    for block in blocks:
        g, n, _ = block.coordinates.shape
        seen = [part[block.rows].reshape(g, n, -1) for part in covariates]
        loads = effects[block.rows].reshape(g, n, -1)
        patterns = find_patterns(np.concatenate([block.coordinates, *seen, loads], 2))
        count = np.bincount(patterns.pattern)
        cost += len(count) * n * n * (0.25 * width * width + n)
        size += len(count) * n * n * width * width // 4
        if cost > enough or size > _LARGEST:
            return ()
        stacked = columns[block.rows].reshape(g, -1)
        stacked = stacked[np.argsort(patterns.pattern, kind="stable")]
        ends = np.cumsum(count)
        found.append(
            PatternSums(
                count=count.astype(np.float64),
                coordinates=block.coordinates[patterns.first],
                covariates=tuple(part[patterns.first].reshape(-1, part.shape[2]) for part in seen),
                effects=loads[patterns.first],
                products=np.array(
                    [_products(stacked[e - c : e], n) for c, e in zip(count, ends, strict=True)]
                ),
            )
        )
    return tuple(found)


def _row_cost(block: CorrelatedBlock, width: int, closed: bool) -> float:
    g, n, _ = block.coordinates.shape
    return float(g * n * width * (0.5 * width + (0 if closed else n)))


def _products(members: FloatArray, n: int) -> FloatArray:
    """The sums of one pattern's groups (g, n (p + 1))."""
    width, (rows, columns) = members.shape[1] // n, triangle(n)
    sums = (members.T @ members).reshape(n, width, n, width)[rows, :, columns]
    sums = sums + np.swapaxes(sums, -1, -2)
    sums[rows == columns] *= 0.5
    return vech(sums)


def _symmetric(packed: FloatArray, n: int) -> FloatArray:
    """The matrices (..., n, n) of packed triangles."""
    matrix, (rows, columns) = np.empty((*packed.shape[:-1], n, n)), triangle(n)
    matrix[..., rows, columns] = packed
    matrix[..., columns, rows] = packed
    return matrix
