"""What the parameter records accept, and the words with which they refuse the rest."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lmmkit.errors import LmmkitError, ParameterError, ShapeError
from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams

NOT_SYMMETRIC = np.array([[1.0, 0.5], [0.4, 1.0]])
INDEFINITE = np.array([[1.0, 1.1], [1.1, 1.0]])
NEGATIVE_VARIANCE = np.array([[1.0, 0.0], [0.0, -0.1]])
ASYMMETRIC_FACTOR = np.array([[1.0, 0.5], [0.0, 1.0]])
NEGATIVE_DIAGONAL = np.array([[1.0, 0.0], [0.5, -1.0]])
COVARIANCES: list[Callable[..., Any]] = [
    lambda *psi: NaturalParams(psi, 1.0),
    lambda *psi: ProfileParams(psi),
]
FIELDS = ("NaturalParams.psi", "ProfileParams.psi_rel")

BAD_COVARIANCES = [
    (NOT_SYMMETRIC, "expected a symmetric matrix"),
    (NOT_SYMMETRIC * 1e-12, "expected a symmetric matrix"),
    (INDEFINITE, "expected a positive semidefinite matrix"),
    (INDEFINITE * 1e-12, "expected a positive semidefinite matrix"),
    (INDEFINITE * [[1.0, 1e8], [1e8, 1e16]], "expected a positive semidefinite matrix"),
    (NEGATIVE_VARIANCE, "negative variance"),
    (-np.eye(1) * 1e-9, "negative variance"),
    (np.array([[0.0, 0.1], [0.1, 1.0]]), "expected a positive semidefinite matrix"),
    (np.ones((2, 3)), r"expected a square matrix \(q, q\), got shape \(2, 3\)"),
    (np.ones(3), r"expected a square matrix \(q, q\), got shape \(3,\)"),
    (np.array([[np.nan]]), "expected finite numbers"),
    (np.array([[np.inf]]), "expected finite numbers"),
    (np.stack([np.eye(2), INDEFINITE]), "expected a positive semidefinite matrix"),
    (np.stack([np.eye(2), NOT_SYMMETRIC]), "expected a symmetric matrix"),
]


@pytest.mark.parametrize(("matrix", "words"), BAD_COVARIANCES)
@pytest.mark.parametrize(("make", "field"), list(zip(COVARIANCES, FIELDS, strict=True)))
def test_matrices_that_are_no_covariance(
    make: Callable[..., Any], field: str, matrix: Any, words: str
) -> None:
    with pytest.raises(ParameterError, match=words) as raised:
        make(np.eye(1), matrix)
    assert str(raised.value).startswith(f"{field}[1]: ")


BAD_FACTORS = [
    (ASYMMETRIC_FACTOR, "expected a lower triangular matrix"),
    (NEGATIVE_DIAGONAL, "expected a diagonal >= 0"),
    (np.stack([np.eye(2), NEGATIVE_DIAGONAL]), "expected a diagonal >= 0"),
    (np.ones((3, 2)), r"expected a square matrix \(q, q\), got shape \(3, 2\)"),
    (np.array([[np.nan]]), "expected finite numbers"),
]


@pytest.mark.parametrize(("matrix", "words"), BAD_FACTORS)
def test_matrices_that_are_no_factor(matrix: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as raised:
        SquareRootParams((np.eye(1), matrix))
    assert str(raised.value).startswith("SquareRootParams.factor[1]: ")


@pytest.mark.parametrize("sigma2", [0.0, -1.0, np.nan, np.inf, [1.0, 0.0], [[1.0], [-2.0]]])
def test_sigma2_is_positive(sigma2: Any) -> None:
    with pytest.raises(ParameterError, match="sigma2: expected a positive residual variance"):
        NaturalParams((np.eye(1),), sigma2)


@pytest.mark.parametrize(
    "make",
    [
        lambda b: NaturalParams((), 1.0, b),
        lambda b: ProfileParams((), b),
        lambda b: SquareRootParams((), b),
    ],
)
def test_beta_is_a_finite_vector(make: Callable[[Any], Any]) -> None:
    with pytest.raises(
        ParameterError, match="beta: expected a vector of fixed effects, got a scalar"
    ):
        make(1.0)
    with pytest.raises(ParameterError, match="beta: expected finite numbers"):
        make([1.0, np.nan])


def test_values_that_are_no_numbers() -> None:
    with pytest.raises(ShapeError, match="expected an array of float64, got str"):
        ProfileParams(("psi",))  # type: ignore[arg-type]
    for sigma2 in ("one", None, np.eye(1, dtype=object)):
        with pytest.raises(LmmkitError):
            NaturalParams((), sigma2)  # type: ignore[arg-type]


LEGAL = [
    np.zeros((1, 1)),
    np.zeros((3, 3)),
    np.ones((3, 3)),
    np.diag([1.0, 0.0, 2.0]),
    np.array([[1.0, -1.0], [-1.0, 1.0]]) * 1e-14,
    np.outer([1e-8, 1.0, 1e8], [1e-8, 1.0, 1e8]),
    np.array([[1.0, 0.3], [0.3 + 1e-12, 1.0]]),
]


@pytest.mark.parametrize("matrix", LEGAL)
@pytest.mark.parametrize("make", COVARIANCES)
def test_singular_matrices_are_legal(make: Callable[..., Any], matrix: Any) -> None:
    record = make(matrix)
    assert_array_equal(getattr(record, "psi_rel", None) or record.psi, [matrix])


def test_factors_may_have_zero_columns() -> None:
    factor = np.array([[0.0, 0.0], [0.5, 0.0]])
    assert_array_equal(SquareRootParams((factor,)).factor[0], factor)


def test_sizes_are_those_of_the_layout() -> None:
    layout = Layout(2, (2, 1))
    natural = NaturalParams.unpack(np.array([8.0, 9, 1, 0, 1, 2, 5]), layout)
    assert natural == NaturalParams((np.eye(2), np.array([[2.0]])), 5.0, np.array([8.0, 9]))


# 2 + 3 + 1 numbers, and sigma2 in natural parameters
WRONG_LENGTHS: list[tuple[Any, int]] = [(NaturalParams, n) for n in (0, 1, 6, 8, 20)]
WRONG_LENGTHS += [(cls, n) for cls in (ProfileParams, SquareRootParams) for n in (0, 1, 5, 7, 20)]


@pytest.mark.parametrize(("cls", "length"), WRONG_LENGTHS)
def test_vectors_of_the_wrong_length(cls: Any, length: int) -> None:
    expected = 7 if cls is NaturalParams else 6
    with pytest.raises(LmmkitError, match=rf"{expected}\b.*\b{length}\b"):
        cls.unpack(np.ones(length), Layout(2, (2, 1)))


def test_leading_axes_broadcast() -> None:
    with pytest.raises(ParameterError, match="leading axes"):
        NaturalParams((np.stack([np.eye(2)] * 2),), np.ones(3))
    with pytest.raises(ParameterError, match="leading axes"):
        ProfileParams((np.stack([np.eye(2)] * 2), np.stack([np.eye(1)] * 3)))
    with pytest.raises(ParameterError, match="leading axes"):
        SquareRootParams((np.stack([np.eye(2)] * 2),), np.ones((3, 1)))
