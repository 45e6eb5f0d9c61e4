"""Known covariances between levels: the root of K, from K and from its inverse."""

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_matrix, eye_array

from lmmkit.design import LevelCovariance, level_covariance, level_precision
from lmmkit.errors import DataError, LmmkitError, ModelSizeError, ShapeError
from lmmkit.records import evolve

M = 12
LABELS = [f"a{i}" for i in range(M)]


def a_covariance(rank: int = M) -> NDArray[np.float64]:
    A = np.random.default_rng(rank).normal(size=(M, rank))
    return A @ A.T


def test_the_root_is_lower_triangular_and_multiplies_to_k() -> None:
    K = a_covariance()
    relation = level_covariance(K, LABELS)
    assert relation.levels.to_list() == LABELS
    np.testing.assert_array_equal(relation.root, np.tril(relation.root))
    np.testing.assert_allclose(relation.root @ relation.root.T, K, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, M - 1])
def test_a_singular_k_has_a_root(rank: int) -> None:
    K = a_covariance(rank)
    root = level_covariance(K, LABELS).root
    np.testing.assert_array_equal(root, np.tril(root))
    assert (root.diagonal() >= 0).all()
    np.testing.assert_allclose(root @ root.T, K, atol=1e-12 * np.abs(K).max())


def test_twins_leave_the_blocks_of_other_families_zero() -> None:
    twins = np.ones((2, 2))
    K = np.kron(np.eye(3), twins)
    root = level_covariance(K, range(6)).root
    np.testing.assert_allclose(root @ root.T, K, atol=1e-14)
    assert not root[K == 0].any()


def test_a_level_without_variance_is_legal() -> None:
    root = level_covariance(np.diag([1.0, 0.0, 4.0]), "abc").root
    np.testing.assert_allclose(root @ root.T, np.diag([1.0, 0.0, 4.0]), atol=1e-15)


def test_the_inverse_gives_the_root_of_k() -> None:
    K = a_covariance()
    relation = level_precision(np.linalg.inv(K), LABELS)
    np.testing.assert_array_equal(relation.root, np.tril(relation.root))
    np.testing.assert_allclose(relation.root, np.linalg.cholesky(K), rtol=1e-8, atol=1e-10)


def pedigree() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The relationships of 7 animals by the tabular method, and their inverse by Henderson's."""
    parents = [(), (), (0, 1), (0,), (2, 3), (2, 4), (4, 5)]
    n = len(parents)
    A, T = np.zeros((n, n)), np.eye(n)
    for i, known in enumerate(parents):
        A[i, :i] = A[:i, i] = sum((0.5 * A[k, :i] for k in known), start=np.zeros(i))
        A[i, i] = 1.0 + (0.5 * A[known[0], known[1]] if len(known) == 2 else 0.0)
        T[i, list(known)] = -0.5
    within = np.diag(T @ A @ T.T)
    return A, T.T @ np.diag(1 / within) @ T


def test_a_pedigree() -> None:
    A, inverse = pedigree()
    names = list("stuvwxy")
    direct = level_covariance(A, names)
    np.testing.assert_allclose(direct.root @ direct.root.T, A, atol=1e-14)
    for sparse in (csc_array, csr_matrix, coo_array):
        from_inverse = level_precision(sparse(inverse), names)
        np.testing.assert_allclose(from_inverse.root, direct.root, atol=1e-13)
        np.testing.assert_array_equal(level_covariance(sparse(A), names).root, direct.root)


@pytest.mark.parametrize(
    "levels",
    [
        range(3),
        np.array([3, 1, 2], dtype=np.int16),
        pl.Series(["c", "a", "b"], dtype=pl.Categorical),
        pl.Series(["c", "a", "b"], dtype=pl.Enum(["a", "b", "c"])),
        [datetime.date(2020, 1, day) for day in (3, 1, 2)],
    ],
)
def test_labels_of_every_groupable_type(levels: Any) -> None:
    relation = level_covariance(np.eye(3), levels)
    assert relation.levels.to_list() == list(levels)


def test_the_callers_matrix_stays_theirs() -> None:
    K = a_covariance()
    before = K.copy()
    relation = level_covariance(K, LABELS)
    np.testing.assert_array_equal(K, before)
    K[:] = 0
    assert relation == level_covariance(before, LABELS)


SKEWED = np.eye(3)
SKEWED[2, 0] = 0.5
ADJACENT = np.array([[1.0, -1, 0], [-1, 2, -1], [0, -1, 1]])


@pytest.mark.parametrize(
    ("matrix", "levels", "kind", "words"),
    [
        (np.eye(3), "ab", ShapeError, "3 rows, but 2 labels in levels"),
        (np.ones((3, 2)), "abc", ShapeError, r"a square matrix, got shape \(3, 2\)"),
        (np.ones(3), "abc", ShapeError, "a square matrix"),
        ("abc", "abc", ShapeError, "a matrix of numbers, got str"),
        (SKEWED, "abc", DataError, "symmetric matrix, but the entry of 'a' and 'c' differs"),
        (np.diag([1.0, np.nan, 1.0]), "abc", DataError, "of 'b' and 'b' is missing or infinite"),
        (np.diag([1.0, np.inf, 1.0]), "abc", DataError, "of 'b' and 'b' is missing or infinite"),
        (np.eye(3), "aba", DataError, "'a' stands 2 times"),
        (np.eye(3), ["a", None, "c"], DataError, "label 1 is missing"),
        (np.eye(3), [1.0, 2.0, 3.0], DataError, "'level' is Float64; expected whole numbers"),
        (np.eye(3), [1, "b", 3], DataError, "levels cannot be read as one column"),
        (np.eye(3), 7, DataError, "levels cannot be read as one column"),
        (np.zeros((0, 0)), [], DataError, "levels: expected labels of levels, got none"),
        (np.zeros((3, 3)), "abc", DataError, "every entry is zero"),
        (1j * np.eye(3), "abc", ShapeError, "expected real numbers"),
        (csr_matrix(1j * np.eye(3)), "abc", ShapeError, "expected real numbers"),
        (np.ma.masked_equal(np.eye(3), 0), "abc", DataError, "6 entries of the masked array"),
        (pl.DataFrame({"a": [1.0], "b": [2.0]}), "ab", ShapeError, r"got shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize("build", [level_covariance, level_precision])
def test_wrong_matrices_and_labels(
    build: Any, matrix: Any, levels: Any, kind: type[LmmkitError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        build(matrix, list(levels) if isinstance(levels, str) else levels)


def test_an_indefinite_covariance_names_its_levels() -> None:
    K = np.eye(4)
    K[1, 3] = K[3, 1] = 1.5
    with pytest.raises(DataError, match=r"the eigenvalue -0.5, mostly at the levels 'b' and 'd'"):
        level_covariance(K, list("abcd"))


@pytest.mark.parametrize("matrix", [ADJACENT, np.diag([1.0, 0.0, 1.0]), -np.eye(3)])
def test_a_precision_must_be_positive_definite(matrix: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match=r"smallest eigenvalue is .*take rho below one"):
        level_precision(matrix, list("abc"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"root": np.eye(3)}, r"root: expected shape \(2, 2\).* got \(3, 3\)"),
        ({"root": np.ones((2, 2))}, "expected a lower triangular matrix"),
        ({"root": -np.eye(2)}, "without negative numbers"),
        ({"levels": pl.Series(["a", "a"])}, "all different"),
        ({"levels": pl.Series(["a", None])}, "none missing"),
        ({"levels": pl.Series([], dtype=pl.String), "root": np.eye(0)}, "at least one level"),
    ],
)
def test_wrong_records(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        evolve(LevelCovariance(pl.Series(["a", "b"]), np.eye(2)), **change)


@pytest.mark.parametrize("build", [level_covariance, level_precision])
def test_a_sparse_matrix_too_large_to_be_dense_is_refused(build: Any) -> None:
    n = 4_000_000
    with pytest.raises(ModelSizeError, match=r"4000000 x 4000000 entries .* GiB of memory"):
        build(eye_array(n, format="csr"), range(n))
