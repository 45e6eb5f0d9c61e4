"""The rows of a design sorted into the groups of a residual structure, and their coordinates."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from lmmkit.design.checks import check_size
from lmmkit.design.design import Design
from lmmkit.design.frames import kind_of
from lmmkit.design.groups import find_groups, levels_and_codes
from lmmkit.errors import ColumnNotFoundError, DataError
from lmmkit.moments.collapse import hashes
from lmmkit.records import FloatArray, IntArray, adopt, evolve, float_array, int_array, record
from lmmkit.residual.contract import Coordinates, Correlation


@record
class CorrelatedBlock:
    """Residual groups of n rows each, stacked; they follow one another in the sorted design.

    Attributes
    ----------
    start : int
        Position of the first row.
    coordinates : ndarray (g, n, d)
    """

    start: int
    coordinates: FloatArray = float_array(3)

    @property
    def rows(self) -> slice:
        """Where the block's rows are in the sorted design."""
        g, n, _ = self.coordinates.shape
        return slice(self.start, self.start + g * n)


@record
class Patterns:
    """The distinct ones among the stacked coordinates (g, n, d) of a block.

    Attributes
    ----------
    first : ndarray (P,) of int32
        Position of one group of each.
    pattern : ndarray (g,) of int32
        The pattern of each group.
    """

    first: IntArray = int_array(1)
    pattern: IntArray = int_array(1)


def side_columns(design: Design, names: Sequence[str]) -> dict[str, pl.Series]:
    """The columns of the frame that the design kept for residual structures."""
    kept = design.coordinates
    columns = {} if kept is None else {name: kept.get_column(name) for name in kept.columns}
    for name in names:
        if name not in columns:
            raise ColumnNotFoundError(
                f"the residual structure needs a column {name!r}, which the design did not keep; "
                "build it with build_design(..., coordinates=residual.columns)"
            )
    return columns


def read_values(columns: Sequence[pl.Series], n: int) -> tuple[FloatArray, list[pl.Series | None]]:
    """Numbers (n, d), the positions of levels for text, and these levels."""
    values: FloatArray = np.empty((n, len(columns)))
    levels: list[pl.Series | None] = []
    for j, series in enumerate(columns):
        kind = kind_of(series.dtype)
        if kind == "number":
            values[:, j] = series.cast(pl.Float64).to_numpy()
            check_size(values[:, j], f"{series.name!r}, which the residual structure uses")
            levels.append(None)
        elif kind not in ("text", "true/false"):
            raise DataError(
                f"the residual structure cannot use {series.name!r}, which is {series.dtype}; make "
                f"it a number{', of days say,' if kind == 'date' else ' or text'} with "
                "with_columns() on the frame"
            )
        else:
            found, values[:, j] = levels_and_codes(series)
            levels.append(found)
    return values, levels


def group_rows(design: Design, correlation: Correlation) -> tuple[Coordinates, IntArray]:
    """The sorted coordinates of a correlation, and the order that sorts the design's rows.

    Groups come by number of rows, rows in their group by coordinate.
    """
    n = design.n_obs
    name, codes, labels = _groups(design, correlation.group)
    names = correlation.columns
    columns = side_columns(design, names)
    sizes = np.bincount(codes, minlength=len(labels)).astype(np.int32)
    if names:
        values, levels = read_values([columns[column] for column in names], n)
    else:
        names, levels = ("row",), [None]
        values = _positions(codes, sizes)[:, None].astype(np.float64)
    keys = (*values.T[::-1], codes, sizes[codes])
    order = np.lexsort(keys).astype(np.int32)
    by_size = np.argsort(sizes, kind="stable")
    rank = np.empty(len(sizes), dtype=np.int32)
    rank[by_size] = np.arange(len(sizes), dtype=np.int32)
    coordinates = Coordinates(
        columns=names,
        levels=tuple(levels),
        group=name,
        values=values[order],
        codes=rank[codes[order]],
        labels=labels.gather(by_size),
    )
    return coordinates, adopt(order)


def _groups(design: Design, group: str | None) -> tuple[str, IntArray, pl.Series]:
    for term in design.terms:
        if group == term.group:
            return term.group, term.codes, term.levels
    if group is not None:
        parts = group.split(":")
        levels, codes = find_groups(parts, side_columns(design, parts))
        return group, codes, levels.labels
    if not design.terms:
        return "", np.zeros(design.n_obs, dtype=np.int32), pl.Series(["all"])
    finest = max(design.terms, key=lambda term: len(term.levels))
    return finest.group, finest.codes, finest.levels


def _positions(codes: IntArray, sizes: IntArray) -> IntArray:
    """Each row's position among the rows of its group."""
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    position = np.empty(len(codes), dtype=np.int64)
    position[order] = np.arange(len(codes)) - starts[codes[order]]
    return position.astype(np.int32)


def cut_blocks(coordinates: Coordinates) -> tuple[CorrelatedBlock, ...]:
    """The blocks of sorted rows, one a number of rows in a group."""
    sizes = coordinates.sizes
    blocks, start = [], 0
    for n, g in zip(*np.unique(sizes, return_counts=True), strict=True):
        stop = start + int(n * g)
        stacked = coordinates.values[start:stop].reshape(int(g), int(n), -1)
        blocks.append(CorrelatedBlock(start, stacked))
        start = stop
    return tuple(blocks)


def sort_design(design: Design, order: IntArray) -> Design:
    """The design with its rows in ``order``, the offset subtracted, and without weights."""
    y = design.y if design.offset is None else design.y - design.offset
    X = adopt(design.X[order])
    return evolve(
        design,
        y=adopt(y[order]),
        X=X,
        terms=tuple(
            evolve(
                term,
                Z=X if term.Z is design.X else adopt(term.Z[order]),
                codes=adopt(term.codes[order]),
                loads=None if term.loads is None else adopt(term.loads[order]),
            )
            for term in design.terms
        ),
        rows=adopt(design.rows[order]),
        weights=None,
        offset=None,
        coordinates=None,
    )


def find_patterns(stacked: FloatArray) -> Patterns:
    """Which groups (g, n, d) have exactly the same coordinates."""
    g = len(stacked)
    entries = stacked.reshape(g, -1)
    each = np.arange(g, dtype=np.int32)
    _, first, pattern = np.unique(hashes(entries), return_index=True, return_inverse=True)
    if not np.array_equal(entries[first][pattern], entries):
        return Patterns(each, each)
    return Patterns(first.astype(np.int32), pattern.astype(np.int32))
