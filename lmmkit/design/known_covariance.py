"""Known covariances between levels, from K or from its inverse."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.design.checks import check_unmasked
from lmmkit.design.labels import distinct_labels
from lmmkit.design.relation import LevelCovariance
from lmmkit.errors import DataError, ModelSizeError, ShapeError
from lmmkit.memory import memory_shortage
from lmmkit.records import FloatArray, adopt

_ROUNDING = 1e-8
_DENSE_COPIES = 4


def level_covariance(matrix: Any, levels: Sequence[Any] | pl.Series) -> LevelCovariance:
    """A known covariance K between levels, ``b ~ N(0, K ⊗ Psi)``, from K.

    K may be singular, as it is for clones or identical twins. Eigenvalues below zero by at most
    1e-8 of the largest one are taken as rounding and set to zero.

    Parameters
    ----------
    matrix : array or scipy.sparse (m, m)
        K, symmetric positive semidefinite, such as a kinship or a phylogenetic covariance.
    levels : sequence or polars.Series (m,)
        The label of each row of K: whole numbers, text, true/false or dates, as in the data.

    Returns
    -------
    LevelCovariance
        For ``relations={"group": ...}`` of :func:`~lmmkit.design.build.build_design`.

    Raises
    ------
    ShapeError, DataError
        When K is not a covariance matrix, or the labels do not name its rows.
    ModelSizeError
        When the dense K would not fit into memory.
    """
    labels = distinct_labels(levels)
    K = _symmetric("matrix", matrix, labels)
    try:
        root = np.linalg.cholesky(K)
    except np.linalg.LinAlgError:
        root = _semidefinite_root(K, labels)
    return LevelCovariance(labels, adopt(root))


def level_precision(matrix: Any, levels: Sequence[Any] | pl.Series) -> LevelCovariance:
    """A known covariance K between levels, ``b ~ N(0, K ⊗ Psi)``, from its inverse.

    Parameters
    ----------
    matrix : array or scipy.sparse (m, m)
        The inverse of K, symmetric positive definite, such as the inverse relationship matrix of
        a pedigree, or ``D - rho W`` of a conditional autoregression with neighbours W.
    levels : sequence or polars.Series (m,)
        The label of each row: whole numbers, text, true/false or dates, as in the data.

    Returns
    -------
    LevelCovariance
        For ``relations={"group": ...}`` of :func:`~lmmkit.design.build.build_design`.

    Raises
    ------
    ShapeError, DataError
        When the matrix is not positive definite, or the labels do not name its rows.
    ModelSizeError
        When the dense matrix would not fit into memory.

    Notes
    -----
    With the rows in reverse order the Cholesky factor of the inverse is ``U`` upper triangular,
    ``K^-1 = U U'``, so that the root of K is the lower triangular ``U'^-1``.
    """
    from scipy.linalg import lapack

    labels = distinct_labels(levels)
    precision = _symmetric("matrix", matrix, labels)
    try:
        reversed_factor = np.linalg.cholesky(precision[::-1, ::-1])
        smallest = float(reversed_factor.diagonal().min()) ** 2
    except np.linalg.LinAlgError:
        smallest = 0.0
    scale = float(np.abs(precision.diagonal()).max())
    if not smallest > 10 * len(labels) * np.finfo(float).eps * scale:
        value, pair = _smallest_eigenvalue(precision, labels)
        raise DataError(
            f"matrix: a precision must be positive definite, but its smallest eigenvalue is "
            f"{value:.3g}, mostly at the levels {pair}; use a proper precision (an intrinsic "
            "autoregression has none: take rho below one), or give K to level_covariance"
        )
    upper = reversed_factor[::-1, ::-1]
    return LevelCovariance(labels, adopt(lapack.dtrtri(upper.T, lower=1)[0]))


def _symmetric(name: str, matrix: Any, labels: pl.Series) -> FloatArray:
    """The matrix, dense; refused unless its shape, its values and its symmetry are right."""
    check_unmasked(name, matrix)
    _check_size(name, getattr(matrix, "shape", ()))
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    if np.iscomplexobj(dense):
        raise ShapeError(f"{name}: expected real numbers, got complex ones; take the .real part")
    try:
        K = np.array(dense, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"{name}: expected a matrix of numbers, got {type(matrix).__name__}: {error}"
        ) from error
    m = len(labels)
    if K.ndim != 2 or K.shape[0] != K.shape[1]:
        raise ShapeError(f"{name}: expected a square matrix, got shape {K.shape}")
    if len(K) != m:
        raise ShapeError(
            f"{name}: {len(K)} rows, but {m} labels in levels; expected one label a row"
        )
    infinite = ~np.isfinite(K)
    if infinite.any():
        raise DataError(
            f"{name}: the entry of {_entry(infinite, labels)} is missing or infinite; fill it, or "
            "leave the level out"
        )
    if not K.any():
        raise DataError(f"{name}: every entry is zero, so that the levels have no variance")
    skewed = np.abs(K - K.T) > _ROUNDING * np.abs(K).max(initial=0.0)
    if skewed.any():
        raise DataError(
            f"{name}: expected a symmetric matrix, but the entry of {_entry(skewed, labels)} "
            "differs from its mirror image"
        )
    return (K + K.T) / 2


def _check_size(name: str, shape: tuple[int, ...]) -> None:
    """Refuse a sparse matrix whose dense root does not fit into memory."""
    shortage = memory_shortage(_DENSE_COPIES * math.prod(shape))
    if shortage is not None:
        needed, present = shortage
        raise ModelSizeError(
            f"{name}: {' x '.join(map(str, shape))} entries are worked on as a dense matrix, which "
            f"needs {needed:.0f} GiB of memory; this machine has {present:.0f}; "
            "keep the levels of the data and those that tie them"
        )


def _entry(wrong: NDArray[np.bool_], labels: pl.Series) -> str:
    i, j = np.argwhere(wrong)[0].tolist()
    return f"{labels[i]!r} and {labels[j]!r}"


def _semidefinite_root(K: FloatArray, labels: pl.Series) -> FloatArray:
    """The root of a singular K, component by component, so that zero blocks stay zero."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(csr_array(K), directed=False)
    root = np.zeros_like(K)
    for label in range(int(component.max()) + 1):
        members = np.flatnonzero(component == label)
        block = np.ix_(members, members)
        values, vectors = np.linalg.eigh(K[block])
        if values[0] < -_ROUNDING * np.abs(values).max():
            value, pair = _smallest_eigenvalue(K[block], labels.gather(members))
            raise DataError(
                f"matrix: a covariance must be positive semidefinite, but it has the eigenvalue "
                f"{value:.3g}, mostly at the levels {pair}; correct their entries, or add a "
                "little to the diagonal"
            )
        values[values < _ROUNDING**2 * values[-1]] = 0.0
        _, upper = np.linalg.qr((vectors * np.sqrt(values)).T)
        root[block] = np.tril(upper.T * np.where(upper.diagonal() < 0, -1.0, 1.0))
    return root


def _smallest_eigenvalue(matrix: FloatArray, labels: pl.Series) -> tuple[float, str]:
    """The smallest eigenvalue and the levels that weigh most in its vector."""
    values, vectors = np.linalg.eigh(matrix)
    largest = np.argsort(-np.abs(vectors[:, 0]), kind="stable")[:2]
    return float(values[0]), " and ".join(repr(labels[int(i)]) for i in sorted(largest))
