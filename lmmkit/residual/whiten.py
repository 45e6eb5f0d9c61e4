"""Rows made independent: ``L^-1`` of every residual group applied to columns."""

from collections.abc import Iterator

import numpy as np

from lmmkit.errors import DataError, UnsupportedModelError
from lmmkit.linalg import solve_lower
from lmmkit.moments.collapse import runs_of
from lmmkit.records import FloatArray, IntArray, record
from lmmkit.residual.checks import log_determinant
from lmmkit.residual.contract import ClosedForm, Correlation
from lmmkit.residual.layout import CorrelatedBlock, Patterns, find_patterns

_LARGEST_DENSE = 5_000
_AT_A_TIME = 2**22
_FEW_ROWS = 32


@record
class Whitener:
    """A learned correlation and the blocks of rows that it acts on.

    Attributes
    ----------
    correlation : Correlation
    blocks : tuple of CorrelatedBlock
    patterns : dict of int to Patterns
        Which groups of the block that starts there share a factor; empty with a closed form.
    """

    correlation: Correlation
    blocks: tuple[CorrelatedBlock, ...]
    patterns: dict[int, Patterns]

    def whiten(self, theta: FloatArray, columns: FloatArray) -> float:
        """Replace ``columns`` (c, N), in place, by whitened ones; the sum of ``log|R|``.

        NaN where some R is not positive definite.
        """
        total = 0.0
        for block in self.blocks:
            g, n, _ = block.coordinates.shape
            stacked = columns[:, block.rows].reshape(len(columns), g, n)
            white, log_det = self.whiten_block(theta, block, stacked)
            columns[:, block.rows] = white.reshape(len(columns), g * n)
            total += log_det
        return total

    def whiten_block(
        self, theta: FloatArray, block: CorrelatedBlock, stacked: FloatArray
    ) -> tuple[FloatArray, float]:
        """``L^-1`` of the columns (c, g, n) of one block, and its sum of ``log|R|``."""
        if stacked.shape[-1] == 1:
            return stacked, 0.0
        if isinstance(self.correlation, ClosedForm):
            return self.correlation.whiten(theta, block.coordinates, stacked)
        return self._by_factor(theta, block, stacked)

    def colour(self, theta: FloatArray, columns: FloatArray) -> None:
        """Replace ``columns`` (c, N), in place, by ``L columns``: independent rows become R's.

        Raises
        ------
        UnsupportedModelError
            Where a group is so large that R cannot be factored.
        """
        for block in self.blocks:
            g, n, _ = block.coordinates.shape
            if n > _LARGEST_DENSE:
                raise UnsupportedModelError(
                    f"drawing residuals needs the correlation matrix of a group, and one has {n} "
                    f"rows; this version draws for groups of up to {_LARGEST_DENSE}"
                )
            stacked = columns[:, block.rows].reshape(len(columns), g, n)
            coloured = np.empty_like(stacked)
            for group, factor in self._factors(theta, block, self._patterns(block)):
                coloured[:, group] = stacked[:, group] @ factor.T
            columns[:, block.rows] = coloured.reshape(len(columns), g * n)

    def _by_factor(
        self, theta: FloatArray, block: CorrelatedBlock, stacked: FloatArray
    ) -> tuple[FloatArray, float]:
        from scipy.linalg.lapack import dtrtrs

        patterns = self._patterns(block)
        if len(stacked[0, 0]) <= _FEW_ROWS and 2 * len(patterns.first) > len(patterns.pattern):
            return self._side_by_side(theta, block, stacked)
        white, log_det = np.empty_like(stacked), 0.0
        try:
            for group, factor in self._factors(theta, block, patterns):
                columns = stacked[:, group].reshape(-1, len(factor)).T
                own = dtrtrs(factor.T, columns, trans=1)[0]
                white[:, group] = own.T.reshape(len(stacked), len(group), len(factor))
                log_det += len(group) * log_determinant(np.diagonal(factor) ** 2)
        except np.linalg.LinAlgError:
            return white, np.nan
        return white, log_det

    def _side_by_side(
        self, theta: FloatArray, block: CorrelatedBlock, stacked: FloatArray
    ) -> tuple[FloatArray, float]:
        """Small groups of which few are alike: each its own factor, row by row of all at once."""
        white, log_det = np.empty_like(stacked), 0.0
        g, n, _ = block.coordinates.shape
        for some in runs_of(g, _AT_A_TIME // n**2):
            R = self.correlation.correlation(theta, block.coordinates[some])
            try:
                factor = np.linalg.cholesky(R)
            except np.linalg.LinAlgError:
                return white, np.nan
            rows = np.ascontiguousarray(stacked[:, some].transpose(2, 0, 1))
            solved = solve_lower(np.ascontiguousarray(factor.transpose(1, 2, 0)), rows)
            white[:, some] = solved.transpose(1, 2, 0)
            log_det += log_determinant(np.diagonal(factor, axis1=1, axis2=2) ** 2)
        return white, log_det

    def _patterns(self, block: CorrelatedBlock) -> Patterns:
        known = self.patterns.get(block.start)
        return find_patterns(block.coordinates) if known is None else known

    def _factors(
        self, theta: FloatArray, block: CorrelatedBlock, patterns: Patterns
    ) -> Iterator[tuple[IntArray, FloatArray]]:
        """The groups of each pattern with their L; raises LinAlgError where there is none."""
        count = np.bincount(patterns.pattern)
        members = np.split(np.argsort(patterns.pattern, kind="stable"), np.cumsum(count)[:-1])
        step = max(1, _AT_A_TIME // block.coordinates.shape[1] ** 2)
        for start in range(0, len(count), step):
            some = block.coordinates[patterns.first[start : start + step]]
            factors = np.linalg.cholesky(self.correlation.correlation(theta, some))
            yield from zip(members[start : start + step], factors, strict=True)


def whitener(correlation: Correlation, blocks: tuple[CorrelatedBlock, ...]) -> Whitener:
    """The whitener of a correlation; a closed form needs no patterns."""
    if isinstance(correlation, ClosedForm):
        return Whitener(correlation, blocks, {})
    largest = max(block.coordinates.shape[1] for block in blocks)
    if largest > _LARGEST_DENSE:
        raise DataError(
            f"the residual correlation has a group of {largest} rows, which needs a matrix of "
            f"{largest} x {largest}; name a finer grouping factor with group=, or use ar1 or car1, "
            "whose cost is linear"
        )
    patterns = {block.start: find_patterns(block.coordinates) for block in blocks}
    return Whitener(correlation, blocks, patterns)
