"""Symmetric matrices stored by supernodes: their Cholesky factor, and the inverse where needed.

Of each supernode its pivots' block and that of its later rows are stored, dense and one after the
other; eliminating it changes the stored entries between these rows. A dense matrix is one supernode
of all effects. The inverse is computed backwards on the stored entries only (Takahashi, Fagan and
Chin 1973): with ``X = A_RP L^-T`` and ``Y = X L^-1``,

    Z_RP = -Z_RR Y,      Z_PP = (L L')^-1 - Y'Z_RP.
"""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from lmmkit.likelihood.dense import mirror, product
from lmmkit.likelihood.fill import Supernode, supernodes
from lmmkit.records import FloatArray, adopt, adopted_array, computed_array, record

Positions = NDArray[np.intp]


@record
class Block:
    """Where a supernode's entries are stored.

    Attributes
    ----------
    pivots : ndarray (w,)
    rows : ndarray (r,)
    start : int
        Of the pivots' block: entry (i, j), i >= j, is at ``start + j w + i``.
    below : int
        Of the rows' block: entry (i, j) is at ``below + j r + i``.
    source : ndarray (r (r + 1) / 2,)
        Places of a lower triangle among the entries of a matrix (r, r) stored by columns.
    target : ndarray (r (r + 1) / 2,)
        Where the same entries are stored.
    """

    pivots: Positions = adopted_array()
    rows: Positions = adopted_array()
    start: int
    below: int
    source: Positions = adopted_array()
    target: Positions = adopted_array()


@record
class Layout:
    """Where the entries of a symmetric (n, n) matrix are stored, among ``size`` values.

    Attributes
    ----------
    n : int
    size : int
    blocks : tuple of Block
        In the order of elimination; one of all effects for a dense matrix.
    position : ndarray (n, n) or None
        The value of each entry; -1 where the matrix and its factor are zero; None if it is dense.
    """

    n: int
    size: int
    blocks: tuple[Block, ...]
    position: NDArray[np.int32] | None = attrs.field(
        default=None, converter=attrs.converters.optional(adopt)
    )

    def at(self, i: Any, j: Any) -> Any:
        """Which value is entry (i, j)."""
        if self.position is None:
            return np.minimum(i, j) * self.n + np.maximum(i, j)
        return self.position[i, j]

    @property
    def diagonal(self) -> Any:
        """Which values are on the diagonal."""
        return self.at(np.arange(self.n), np.arange(self.n))

    def values(self, matrix: FloatArray) -> FloatArray:
        """What is stored of a symmetric matrix."""
        if self.position is None:
            return matrix.ravel(order="K")
        values = np.empty(self.size)
        for block in self.blocks:
            _square(values, block).T[...] = matrix[block.pivots[:, None], block.pivots]
            _under(values, block).T[...] = matrix[block.pivots[:, None], block.rows]
        return values

    def matrix(self, values: FloatArray) -> FloatArray:
        """The (n, n) matrix, zero where nothing is stored."""
        if self.position is None:
            full = values.reshape(self.n, self.n).copy()
            mirror(full.T)
            return full
        return np.append(values, 0.0).take(self.position)

    def times(self, values: FloatArray, b: FloatArray) -> FloatArray:
        """The matrix times b (n, k)."""
        from scipy.linalg.blas import dsymm

        total = np.zeros_like(b)
        for block in self.blocks:
            own, under = _square(values, block), _under(values, block)
            total[block.pivots] += dsymm(1.0, own, b[block.pivots], lower=1)
            if block.rows.size:
                total[block.rows] += product(under, b[block.pivots])
                total[block.pivots] += product(under, b[block.rows], transposed=True)
        return total


def dense_layout(n: int) -> Layout:
    """How to store a dense matrix."""
    none = np.zeros(0, dtype=np.intp)
    return Layout(n, n * n, (Block(np.arange(n), none, 0, n * n, none, none),))


def layout(met: NDArray[np.bool_]) -> Layout:
    """How to store a matrix that is not zero where the symmetric ``met`` (n, n) holds."""
    n, size = len(met), 0
    found = supernodes(met)
    if len(found) == 1:
        return dense_layout(n)
    position = np.full((n, n), -1, dtype=np.int32)
    starts = []
    for pivots, rows in found:
        w, r = len(pivots), len(rows)
        each = np.arange(w, dtype=np.int32)
        own = size + np.minimum.outer(each, each) * w + np.maximum.outer(each, each)
        under = size + w * w + each[:, None] * r + np.arange(r, dtype=np.int32)
        position[pivots[:, None], pivots] = own
        position[pivots[:, None], rows] = under
        position[rows[:, None], pivots] = under.T
        starts.append((size, size + w * w))
        size += w * (w + r)
    blocks = tuple(_block(node, *at, position) for node, at in zip(found, starts, strict=True))
    return Layout(n, size, blocks, position)


def _block(node: Supernode, start: int, below: int, position: NDArray[np.int32]) -> Block:
    r = len(node.rows)
    source = np.flatnonzero(np.tri(r, dtype=bool).T)
    target = position[node.rows[:, None], node.rows].ravel().take(source).astype(np.intp)
    return Block(*node, start, below, source, target)


@record
class Factor:
    """L of ``A = L L'``, stored as A is.

    Attributes
    ----------
    layout : Layout
    values : ndarray (size,)
    """

    layout: Layout
    values: FloatArray = computed_array()

    def log_det(self) -> float:
        """``log|A|``."""
        roots = (_square(self.values, block) for block in self.layout.blocks)
        return 2.0 * sum(float(np.log(np.diagonal(root)).sum()) for root in roots)

    def half(self, b: FloatArray) -> FloatArray:
        """``L^-1 b`` of b (n, k), the effects in their own order."""
        from scipy.linalg.lapack import dtrtrs

        x = b.copy()
        for block in self.layout.blocks:
            part = dtrtrs(_square(self.values, block), x[block.pivots], lower=1)[0]
            x[block.pivots] = part
            if block.rows.size:
                x[block.rows] -= product(_under(self.values, block), part)
        return x

    def back(self, half: FloatArray) -> FloatArray:
        """``A^-1 b``, from ``L^-1 b``."""
        from scipy.linalg.lapack import dtrtrs

        x = half.copy()
        for block in reversed(self.layout.blocks):
            part = x[block.pivots]
            if block.rows.size:
                part -= product(_under(self.values, block), x[block.rows], transposed=True)
            x[block.pivots] = dtrtrs(_square(self.values, block), part, lower=1, trans=1)[0]
        return x

    def selected_inverse(self) -> FloatArray:
        """The entries of ``A^-1`` that the layout stores."""
        from scipy.linalg.blas import dgemm, dsymm, dtrsm
        from scipy.linalg.lapack import dpotri

        if len(self.layout.blocks) == 1:
            whole = dpotri(_square(self.values, self.layout.blocks[0]), lower=1)[0]
            return np.asarray(whole).T.ravel()
        Z = np.empty_like(self.values)
        for block in reversed(self.layout.blocks):
            root, r = _square(self.values, block), len(block.rows)
            own = dpotri(root, lower=1)[0]
            if r:
                Y = dtrsm(1.0, root, _under(self.values, block), side=1, lower=1)
                later = np.empty((r, r), order="F")
                later.T.ravel()[block.source] = Z[block.target]
                across = dsymm(-1.0, later, Y, lower=1)
                own = dgemm(-1.0, Y, across, 1.0, own, trans_a=1, overwrite_c=1)
                _under(Z, block)[...] = across
            _square(Z, block)[...] = own
        return Z

    def inverse(self, selected: FloatArray) -> FloatArray:
        """``A^-1`` (n, n), of which the layout's entries are known."""
        from scipy.linalg.blas import dgemm, dtrsm

        Z = self.layout.matrix(selected)
        for block in reversed(self.layout.blocks):
            if block.rows.size:
                root = _square(self.values, block)
                Y = dtrsm(1.0, root, _under(self.values, block), side=1, lower=1)
                across = dgemm(-1.0, Z[block.rows].T, Y)
                across[block.pivots] = Z[block.pivots[:, None], block.pivots]
                Z[block.pivots] = across.T
                Z[:, block.pivots] = across
        return Z


def factored(layout: Layout, values: FloatArray) -> Factor | None:
    """The factor of a matrix, in place of its values; None where it is not positive definite."""
    from scipy.linalg.blas import dsyrk, dtrsm
    from scipy.linalg.lapack import dpotrf

    for block in layout.blocks:
        root, info = dpotrf(_square(values, block), lower=1, overwrite_a=1, clean=1)
        if info:
            return None
        if block.rows.size:
            under = dtrsm(
                1.0, root, _under(values, block), side=1, lower=1, trans_a=1, overwrite_b=1
            )
            values[block.target] -= dsyrk(1.0, under, lower=1).T.ravel()[block.source]
    return Factor(layout, values)


def _square(values: FloatArray, block: Block) -> Any:
    """The pivots' block, lower, as a matrix stored by columns."""
    w = len(block.pivots)
    return values[block.start : block.start + w * w].reshape(w, w).T


def _under(values: FloatArray, block: Block) -> Any:
    """The rows' block (r, w), as a matrix stored by columns."""
    w, r = len(block.pivots), len(block.rows)
    return values[block.below : block.below + w * r].reshape(w, r).T
