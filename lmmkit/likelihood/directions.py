"""The directions in which D can move: one an entry of the triangle of a term's covariance."""

from functools import cache

import numpy as np

from lmmkit.linalg import duplication
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, adopt


@cache
def directions(sizes: tuple[int, ...]) -> FloatArray:
    """The matrix (q*q, n) from packed delta to ``vec(D)``, D block diagonal by term."""
    q = sum(sizes)
    matrix = np.zeros((q, q, sum(map(triangle_size, sizes))))
    row = column = 0
    for size in sizes:
        end = column + triangle_size(size)
        block = slice(row, row + size)
        matrix[block, block, column:end] = duplication(size).reshape(size, size, end - column)
        row, column = row + size, end
    return adopt(matrix.reshape(q * q, column))


def direction_blocks(sizes: tuple[int, ...]) -> FloatArray:
    """The directions as matrices (q, q, n)."""
    q, matrix = sum(sizes), directions(sizes)
    return matrix.reshape(q, q, matrix.shape[1])


@cache
def terms_among(
    sizes: tuple[int, ...], columns: tuple[int, ...]
) -> tuple[tuple[slice, slice], ...]:
    """As :func:`terms_of`, of the terms that have ``columns``, and the rows among these."""
    found = []
    for rows, place in terms_of(sizes):
        if rows.start in columns:
            start = columns.index(rows.start)
            found.append((slice(start, start + rows.stop - rows.start), place))
    return tuple(found)


@cache
def terms_of(sizes: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """Each term's rows of Z's columns, and its place among the directions."""
    found, row, place = [], 0, 0
    for size in sizes:
        end = place + triangle_size(size)
        found.append((slice(row, row + size), slice(place, end)))
        row, place = row + size, end
    return tuple(found)
