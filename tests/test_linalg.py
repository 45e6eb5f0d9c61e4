"""Stacked factorizations and triangles against numpy, one matrix at a time."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lmmkit.linalg import (
    block_diagonal,
    cholesky,
    duplication,
    gram,
    lower,
    psd_factor,
    semidefinite_cholesky,
    solve_lower,
    solve_or_nan,
    symmetric,
    vech,
)
from lmmkit.records import FloatArray

SIZES = (1, 2, 3, 4, 6)
every_size = pytest.mark.parametrize("q", SIZES)


def random_covariances(q: int, *lead: int, rank: int | None = None, seed: int = 0) -> FloatArray:
    root = np.random.default_rng(seed).normal(size=(*lead, q, q + 2 if rank is None else rank))
    product: FloatArray = root @ np.swapaxes(root, -1, -2)
    return product


def last(stack: FloatArray) -> FloatArray:
    """From (..., P, q, r) to (..., q, r, P)."""
    return np.ascontiguousarray(np.moveaxis(stack, -3, -1))


def first(stack: FloatArray) -> FloatArray:
    """From (..., q, r, P) to (..., P, q, r)."""
    return np.moveaxis(stack, -1, -3)


@every_size
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_cholesky(q: int, lead: tuple[int, ...]) -> None:
    a = random_covariances(q, *lead, 7)
    assert_allclose(first(cholesky(last(a))), np.linalg.cholesky(a), rtol=1e-11, atol=1e-13)
    assert_allclose(
        first(semidefinite_cholesky(last(a))), np.linalg.cholesky(a), rtol=1e-11, atol=1e-13
    )


@every_size
def test_cholesky_is_nan_where_the_matrix_is_not_positive(q: int) -> None:
    a = random_covariances(q, 5)
    a[1, 0, 0] = -1.0
    a[3, -1, -1] = -1.0
    factor = first(cholesky(last(a)))
    assert np.isnan(np.trace(factor, axis1=1, axis2=2)).tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]
    good = [0, 2, 4]
    assert_allclose(factor[good], np.linalg.cholesky(a[good]), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("q", "rank"), [(q, rank) for q in SIZES for rank in range(q)])
def test_semidefinite_cholesky_of_singular_matrices(q: int, rank: int) -> None:
    a = random_covariances(q, 6, rank=rank)
    factor = first(semidefinite_cholesky(last(a)))
    assert_allclose(factor @ np.swapaxes(factor, -1, -2), a, atol=1e-10 * max(a.max(), 1.0))
    assert_array_equal(np.triu(factor, 1), 0.0)
    assert_array_equal((np.diagonal(factor, axis1=-2, axis2=-1) > 0).sum(axis=-1), rank)


@every_size
def test_semidefinite_cholesky_skips_a_zero_variance(q: int) -> None:
    a = random_covariances(q, 1)
    a[:, 0, :] = a[:, :, 0] = 0.0
    expected = np.zeros((q, q))
    expected[1:, 1:] = np.linalg.cholesky(a[0, 1:, 1:])
    assert_allclose(first(semidefinite_cholesky(last(a)))[0], expected, rtol=1e-11, atol=1e-13)


@every_size
def test_semidefinite_cholesky_has_no_unit(q: int) -> None:
    a = random_covariances(q, 4, rank=max(q - 1, 0))
    scale = 10.0 ** np.linspace(-8, 8, q)
    scaled = a * np.outer(scale, scale)
    factor, reference = (first(semidefinite_cholesky(last(each))) for each in (scaled, a))
    assert_allclose(factor, reference * scale[:, None], rtol=1e-9, atol=0)


@every_size
def test_psd_factor(q: int) -> None:
    a = random_covariances(q, 3, 2)
    assert_allclose(psd_factor(a), np.linalg.cholesky(a), rtol=1e-11, atol=1e-13)
    assert_array_equal(psd_factor(np.zeros((q, q))), np.zeros((q, q)))
    one = random_covariances(q, rank=1)
    factor = psd_factor(one)
    assert_allclose(factor @ factor.T, one, atol=1e-12)
    assert (np.diagonal(factor) >= 0).all()


@every_size
@pytest.mark.parametrize(
    ("factor_lead", "b_lead"), [((), ()), ((3,), ()), ((), (3,)), ((3,), (3,))]
)
def test_solve_lower(q: int, factor_lead: tuple[int, ...], b_lead: tuple[int, ...]) -> None:
    factor = np.linalg.cholesky(random_covariances(q, *factor_lead, 5))
    b = np.random.default_rng(1).normal(size=(*b_lead, 5, q, 2))
    expected = np.linalg.solve(factor, b)
    assert_allclose(first(solve_lower(last(factor), last(b))), expected, rtol=1e-9, atol=1e-11)


def test_solve_lower_leaves_out_rows_of_zero_pivots() -> None:
    factor = np.array([[2.0, 0, 0], [1, 0, 0], [3, 0, 4]])
    b = np.array([[4.0], [99.0], [10.0]])
    assert_array_equal(solve_lower(factor[..., None], b[..., None])[:, 0, 0], [2.0, 0.0, 1.0])


@pytest.mark.parametrize("columns", [2, 9])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_gram(lead: tuple[int, ...], columns: int) -> None:
    a = np.random.default_rng(2).normal(size=(*lead, 3, columns, 7))
    expected = (np.swapaxes(first(a), -1, -2) @ first(a)).sum(axis=-3)
    assert_allclose(gram(a), expected, rtol=1e-12, atol=1e-12)


@every_size
def test_triangles_go_row_by_row(q: int) -> None:
    n = q * (q + 1) // 2
    values = np.arange(1.0, n + 1)
    by_hand = np.zeros((q, q))
    k = 0
    for i in range(q):
        for j in range(i + 1):
            by_hand[i, j] = values[k]
            k += 1
    both = by_hand + np.tril(by_hand, -1).T
    assert_array_equal(lower(values, q), by_hand)
    assert_array_equal(symmetric(values, q), both)
    assert_array_equal(vech(by_hand), values)
    assert_array_equal(vech(both), values)
    assert_array_equal(duplication(q) @ values, both.ravel())


@every_size
def test_triangles_of_stacks(q: int) -> None:
    values = np.random.default_rng(3).normal(size=(2, 3, q * (q + 1) // 2))
    assert_array_equal(vech(symmetric(values, q)), values)
    assert_array_equal(vech(lower(values, q)), values)
    assert_array_equal(symmetric(values, q)[1, 2], symmetric(values[1, 2], q))
    assert_array_equal(lower(values, q)[1, 2], lower(values[1, 2], q))


def test_block_diagonal() -> None:
    joined = block_diagonal([np.full((1, 2), 3.0), np.zeros((0, 0)), np.full((2, 1), 5.0)])
    assert_array_equal(joined, [[3, 3, 0], [0, 0, 5], [0, 0, 5]])
    assert block_diagonal([]).shape == (0, 0)


def test_a_singular_matrix_of_a_stack_gives_nan_and_the_others_their_solution() -> None:
    matrices = np.stack([np.eye(2), np.ones((2, 2)), 2.0 * np.eye(2)])
    found = solve_or_nan(matrices, np.ones((3, 2, 1)))[..., 0]
    assert_allclose(found, [[1.0, 1.0], [np.nan, np.nan], [0.5, 0.5]])
