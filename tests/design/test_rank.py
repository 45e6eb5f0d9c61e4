"""Columns dropped from a rank-deficient matrix."""

import numpy as np
import pytest

from lmmkit.design.rank import independent_columns

RNG = np.random.default_rng(5)
A, B, C = RNG.normal(size=(3, 200))
ONE = np.ones(200)


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ([ONE, A, B], [0, 1, 2]),
        ([ONE, A, 2 * A, B], [0, 1, 3]),
        ([ONE, A, B, A + B, C], [0, 1, 2, 4]),
        ([0 * ONE, A], [1]),
        ([A, ONE, 5 * ONE], [0, 1]),
        ([ONE, 1e-12 * A, 1e12 * B, 3e12 * B], [0, 1, 2]),
        ([ONE, 1e6 + A], [0, 1]),
        ([ONE, A, A + 1e-5 * B], [0, 1, 2]),
        ([ONE, A, A + 1e-9 * B], [0, 1]),
        ([1e200 * A, 1e-200 * B], [0, 1]),
        ([], []),
    ],
)  # fmt: skip
def test_left_to_right_with_tolerance_1e_7(columns: list[np.ndarray], kept: list[int]) -> None:
    X = np.stack(columns, axis=1) if columns else np.zeros((200, 0))
    assert independent_columns(X).tolist() == kept


def test_more_columns_than_rows() -> None:
    assert independent_columns(RNG.normal(size=(3, 5))).tolist() == [0, 1, 2]


def test_many_rows_in_chunks() -> None:
    a, b = RNG.normal(size=(2, 150_000))
    X = np.column_stack([a, b, a - b, a * b])
    assert independent_columns(X).tolist() == [0, 1, 3]
