"""Groups that look alike, summed once: an evaluation then costs patterns, not rows.

Without random effects the likelihood needs only ``[X y]'V^-1[X y]``. The groups i of one pattern,
equal in coordinates, covariates and weights, have the same V, so that

    sum_i [X y]_i' V^-1 [X y]_i = sum_st (V^-1)_st sum_i [X y]_is [X y]_it',

whose inner sums over groups, one for each two rows s and t, do not depend on theta.
"""

import numpy as np

from lmmkit.records import FloatArray, float_array, float_arrays, record
from lmmkit.residual.contract import Correlation
from lmmkit.residual.layout import CorrelatedBlock, find_patterns

_WORTH = 0.5


@record
class PatternSums:
    """The patterns of groups with n rows.

    Attributes
    ----------
    count : ndarray (P,)
        Number of groups of each pattern.
    coordinates : ndarray (P, n, d)
    covariates : tuple of ndarray (P n, d)
        What each variance function sees.
    log_scale : ndarray (P, n)
        Half the logarithm of the weights.
    products : ndarray (P, n, n, p + 1, p + 1)
        Sums over groups of ``[X y]_s [X y]_t'``.
    """

    count: FloatArray = float_array(1)
    coordinates: FloatArray = float_array(3)
    covariates: tuple[FloatArray, ...] = float_arrays(2)
    log_scale: FloatArray = float_array(2)
    products: FloatArray = float_array(5)

    def cross_products(
        self, correlation: Correlation | None, theta: FloatArray, log_root: FloatArray
    ) -> tuple[FloatArray, float] | None:
        """``[X y]'V^-1[X y]`` and ``-log|V|``, summed; None where V is not positive definite."""
        n = log_root.shape[1]
        inverse, log_det = np.ones((len(self.count), 1, 1)), np.zeros(len(self.count))
        if n > 1 and correlation is not None:
            try:
                factor = np.linalg.cholesky(correlation.correlation(theta, self.coordinates))
            except np.linalg.LinAlgError:
                return None
            log_det = 2.0 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
            root = np.linalg.inv(factor)
            inverse = np.swapaxes(root, -1, -2) @ root
        scale = np.exp(log_root)
        weights = inverse * scale[:, :, None] * scale[:, None, :]
        width = self.products.shape[-1]
        total = weights.reshape(-1) @ self.products.reshape(-1, width * width)
        log_weights = float(self.count @ (2.0 * log_root.sum(axis=1) - log_det))
        return total.reshape(width, width), log_weights


def pattern_sums(
    blocks: tuple[CorrelatedBlock, ...],
    covariates: tuple[FloatArray, ...],
    log_scale: FloatArray,
    columns: FloatArray,
) -> tuple[PatternSums, ...]:
    """The sums of ``columns`` (N, p + 1), one record a block; none where they save nothing."""
    found, cost = [], 0
    for block in blocks:
        g, n, _ = block.coordinates.shape
        seen = [part[block.rows].reshape(g, n, -1) for part in covariates]
        scale = log_scale[block.rows].reshape(g, n)
        patterns = find_patterns(np.concatenate([block.coordinates, *seen, scale[..., None]], 2))
        count = np.bincount(patterns.pattern)
        cost += len(count) * n * n
        if cost > _WORTH * len(columns):
            return ()
        stacked = columns[block.rows].reshape(g, -1)
        stacked = stacked[np.argsort(patterns.pattern, kind="stable")]
        width = columns.shape[1]
        products = np.empty((len(count), n, n, width, width))
        for k, stop in enumerate(np.cumsum(count)):
            members = stacked[stop - count[k] : stop]
            sums = (members.T @ members).reshape(n, width, n, width)
            products[k] = np.swapaxes(sums, 1, 2)
        found.append(
            PatternSums(
                count=count.astype(np.float64),
                coordinates=block.coordinates[patterns.first],
                covariates=tuple(part[patterns.first].reshape(-1, part.shape[2]) for part in seen),
                log_scale=scale[patterns.first],
                products=products,
            )
        )
    return tuple(found)
