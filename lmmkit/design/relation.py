"""A covariance between the levels of a grouping factor that is known up to Psi."""

import attrs
import numpy as np
import polars as pl

from lmmkit.records import FloatArray, float_array, record, require


@record
class LevelCovariance:
    """A known covariance K between m levels: ``b ~ N(0, K ⊗ Psi)``, ``K = root root'``.

    The effects of two levels, q each, have the covariance ``K[i, j] Psi``; ``K = I`` is the usual
    random term. K has no unit: it is a relationship, a correlation, or the like. Made by
    :func:`~lmmkit.design.known_covariance.level_covariance` and
    :func:`~lmmkit.design.known_covariance.level_precision`.

    Attributes
    ----------
    levels : polars.Series (m,)
        The label of each level, all different.
    root : ndarray (m, m)
        Lower triangular, diagonal not negative; singular where K is.
    """

    levels: pl.Series = attrs.field(validator=attrs.validators.instance_of(pl.Series))
    root: FloatArray = float_array(2)

    def __attrs_post_init__(self) -> None:
        m = len(self.levels)
        require(m > 0, "LevelCovariance: expected at least one level, got none")
        require(
            self.root.shape == (m, m),
            f"LevelCovariance.root: expected shape {(m, m)}, one row and column for each of the "
            f"{m} levels, got {self.root.shape}",
        )
        require(
            not self.levels.null_count() and self.levels.n_unique() == m,
            "LevelCovariance.levels: expected labels that are all different, none missing",
        )
        require(
            bool((self.root.diagonal() >= 0).all()),
            "LevelCovariance.root: expected a diagonal without negative numbers",
        )
        require(
            not np.triu(self.root, 1).any(),
            "LevelCovariance.root: expected a lower triangular matrix; level_covariance(K, levels) "
            "finds it from K",
        )
