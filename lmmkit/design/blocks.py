"""Groups of rows that are independent of one another, stacked by size."""

import attrs
import polars as pl

from lmmkit.design.relation import LevelCovariance
from lmmkit.errors import ShapeError
from lmmkit.records import (
    FloatArray,
    IntArray,
    float_array,
    float_arrays,
    int_array,
    int_arrays,
    optional_float_array,
    optional_float_arrays,
    record,
    require,
)


@record
class GroupBlock:
    """All groups with the same number of rows n, stacked; any union of blocks is a data set.

    Attributes
    ----------
    y : ndarray (..., g, n)
        Response less offset; leading axes hold several responses.
    X : ndarray (g, n, p)
    Z : tuple of ndarray (g, n, q_k)
        One a random term.
    levels : tuple of ndarray (g, n) of int32, or (g, n, r) with loads
        Level codes, one array a random term.
    rows : ndarray (g, n) of int32
        Positions of the rows in the design.
    weights : ndarray (g, n) or None
        Prior weights.
    factors : tuple of tuple of int
        Positions of the random terms on each grouping factor; by default all share one.
    labels : tuple of polars.Series
        What the codes mean, one series a random term; empty where not known.
    loads : tuple of ndarray (g, n, r) or (g, n, r, q) or None
        The weights of the memberships, one entry a random term, None for a term whose rows have
        one level each; empty when no term has loads. See :class:`~lmmkit.design.design.RandomTerm`.
    relations : tuple of LevelCovariance or None
        The known covariance between levels, one entry a random term; empty when there is none.
    """

    y: FloatArray = float_array()
    X: FloatArray = float_array(3)
    Z: tuple[FloatArray, ...] = float_arrays(3)
    levels: tuple[IntArray, ...] = int_arrays()
    rows: IntArray = int_array(2)
    weights: FloatArray | None = optional_float_array(2, default=None)
    factors: tuple[tuple[int, ...], ...] = attrs.field(
        default=attrs.Factory(
            lambda self: (tuple(range(len(self.Z))),) if self.Z else (), takes_self=True
        )
    )
    labels: tuple[pl.Series, ...] = attrs.field(default=(), repr=False)
    loads: tuple[FloatArray | None, ...] = optional_float_arrays(default=())
    relations: tuple[LevelCovariance | None, ...] = attrs.field(default=(), repr=False)

    def __attrs_post_init__(self) -> None:
        shape = self.X.shape[:2]
        require(
            self.y.shape[-2:] == shape, f"GroupBlock: X is {shape} groups x rows, y {self.y.shape}"
        )
        require(len(self.Z) == len(self.levels), "GroupBlock: one Z and one levels a random term")
        require(len(self.loads) in (0, len(self.Z)), "GroupBlock: one entry of loads a random term")
        for levels, load in zip(self.levels, self.loads or (None,) * len(self.Z), strict=True):
            expected = shape if load is None else load.shape[:3]
            if levels.shape != expected:
                raise ShapeError(f"GroupBlock.levels: expected {expected}, got {levels.shape}")
        parts = [*self.Z, *self.levels, self.rows]
        if self.weights is not None:
            parts.append(self.weights)
        require(
            self.weights is None or bool((self.weights > 0).all()),
            "GroupBlock.weights: expected positive numbers",
        )
        for part in parts:
            require(
                part.shape[:2] == shape,
                f"GroupBlock: X is {shape} groups x rows, another part {part.shape[:2]}",
            )
