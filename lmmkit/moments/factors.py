"""The random effects' cross-products, by level of a factor and by pair of levels of two factors."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmmkit.records import FloatArray, IntArray, adopt, float_array, int_array, record, require

_Number = TypeVar("_Number", bound=np.number)


@record
class FactorMoments:
    """Sums over the rows of each level of one grouping factor.

    Attributes
    ----------
    terms : tuple of int
        Positions of the random terms on this factor; their columns stand side by side, q in all.
    levels : ndarray (m,) of int32
        Codes of the levels seen, ascending.
    zz : ndarray (m, q, q)
        Z'Z of each level.
    zx : ndarray (m, q, p)
    zy : ndarray (..., m, q)
    """

    terms: tuple[int, ...]
    levels: IntArray = int_array(1)
    zz: FloatArray = float_array(3)
    zx: FloatArray = float_array(3)
    zy: FloatArray = float_array()

    def __attrs_post_init__(self) -> None:
        m, q, _ = self.zz.shape
        require(len(self.levels) == m, f"FactorMoments: {len(self.levels)} levels, zz of {m}")
        require(
            self.zx.shape[:2] == (m, q),
            f"FactorMoments.zx: expected {(m, q)} first, got {self.zx.shape}",
        )
        require(
            self.zy.shape[-2:] == (m, q),
            f"FactorMoments.zy: expected {(m, q)} last, got {self.zy.shape}",
        )

    def positions(self, codes: IntArray) -> NDArray[np.intp]:
        """Where the levels of ``codes`` are among the levels seen."""
        if len(self.levels) and self.levels[-1] == len(self.levels) - 1:
            return codes.astype(np.intp)
        return np.searchsorted(self.levels, codes)


@record
class PairMoments:
    """Z_k'Z_l of the pairs of levels of two factors that occur in one row, or of one factor.

    Attributes
    ----------
    first, second : int
        Positions of the factors; ``first <= second``. Where they are equal, rows load on several
        levels of one factor, and each pair stands once, the smaller code first.
    rows, columns : ndarray (n,) of int32
        Codes of the levels of the first and the second factor, ascending by row, then column.
    zz : ndarray (n, q_first, q_second)
    """

    first: int
    second: int
    rows: IntArray = int_array(1)
    columns: IntArray = int_array(1)
    zz: FloatArray = float_array(3)


def merge_levels(parts: list[FactorMoments]) -> FactorMoments:
    """One factor's moments from pieces of its levels: the pieces of one level are summed."""
    levels = _joined([part.levels for part in parts])
    zz = _joined([part.zz for part in parts])
    zx = _joined([part.zx for part in parts])
    zy = _joined([part.zy for part in parts], axis=-2)
    if not (levels[1:] > levels[:-1]).all():
        order = np.argsort(levels, kind="stable")
        levels, zz, zx, zy = levels[order], zz[order], zx[order], zy[..., order, :]
        first = np.flatnonzero(np.concatenate([[True], levels[1:] != levels[:-1]]))
        if len(first) < len(levels):
            levels = levels[first]
            zz = np.add.reduceat(zz, first, axis=0)
            zx = np.add.reduceat(zx, first, axis=0)
            zy = np.add.reduceat(zy, first, axis=-2)
    return FactorMoments(
        terms=parts[0].terms, levels=adopt(levels), zz=adopt(zz), zx=adopt(zx), zy=adopt(zy)
    )


def _joined(arrays: list[NDArray[_Number]], axis: int = 0) -> NDArray[_Number]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)


def merge_pairs(parts: list[PairMoments]) -> tuple[PairMoments, ...]:
    """One record a pair of factors; the pieces of one pair of levels are summed."""
    merged = []
    for first, second in sorted({(part.first, part.second) for part in parts}):
        some = [part for part in parts if (part.first, part.second) == (first, second)]
        rows = np.concatenate([part.rows for part in some])
        columns = np.concatenate([part.columns for part in some])
        zz = np.concatenate([part.zz for part in some])
        keys = (rows.astype(np.int64) << 32) | columns
        if not (keys[1:] > keys[:-1]).all():
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            rows, columns = rows[order][starts], columns[order][starts]
            zz = np.add.reduceat(zz[order], starts, axis=0)
        merged.append(PairMoments(first, second, adopt(rows), adopt(columns), adopt(zz)))
    return tuple(merged)
