"""The surface of covariance matrices of one rank: its tangent and its curvature."""

import numpy as np
import pytest

from lmmkit.inference.face import faces
from lmmkit.linalg import symmetric, vech
from lmmkit.moments.basis import Basis
from lmmkit.records import FloatArray
from tests.dense_oracle import numeric_hessian


def random_basis(q: int) -> Basis:
    c = np.triu(np.random.default_rng(q).normal(size=(q, q))) + 2 * np.eye(q)
    return Basis(origin=np.zeros(0), x=np.zeros((0, 0)), z=(c,))


def factor(q: int, r: int) -> FloatArray:
    return np.random.default_rng(10 * q + r).normal(size=(q, r))


@pytest.mark.parametrize(("q", "r", "n"), [(1, 0, 0), (1, 1, 1), (2, 1, 2), (3, 1, 3), (3, 2, 5)])
def test_the_surface_has_as_many_coordinates_as_matrices_of_that_rank(
    q: int, r: int, n: int
) -> None:
    T = factor(q, r)
    (face,) = faces((T @ T.T,), 1.0, random_basis(q))
    assert face.directions.shape == (q * (q + 1) // 2, n)
    assert np.linalg.matrix_rank(face.directions) == n
    assert np.linalg.matrix_rank(face.psi) == r


def test_an_eigenvalue_far_below_sigma2_counts_as_zero() -> None:
    identity = Basis(origin=np.zeros(0), x=np.zeros((0, 0)), z=(np.eye(2),))
    psi = np.diag([1e-3, 1e-11])
    assert len(faces((psi,), 1.0, identity)[0].values) == 1
    assert len(faces((psi,), 1e-5, identity)[0].values) == 2


def test_rows_that_are_zero_stay_zero() -> None:
    psi = np.zeros((3, 3))
    psi[:2, :2] = [[2.0, 0.5], [0.5, 1.0]]
    basis = random_basis(3)
    (face,) = faces((psi,), 1.0, basis)
    assert face.directions.shape[1] == 3
    for direction in face.directions.T:
        change = basis.z[0] @ symmetric(direction, 3) @ basis.z[0].T
        np.testing.assert_allclose(change[2], 0.0, atol=1e-12)


@pytest.mark.parametrize(("q", "r"), [(2, 1), (3, 1), (3, 2)])
def test_curvature_of_a_linear_function_on_the_surface(q: int, r: int) -> None:
    """``<score, psi>`` is linear in psi: along the surface its Hessian is all curvature."""
    T = factor(q, r)
    (face,) = faces((T @ T.T,), 1.0, random_basis(q))
    score = np.random.default_rng(5).normal(size=q * (q + 1) // 2)
    frame = np.linalg.eigh(face.psi)[1][:, ::-1]

    def on_surface(coordinates: FloatArray) -> float:
        psi = face.psi + symmetric(face.directions @ coordinates, q)
        kept = frame[:, :r]
        across = frame[:, r:].T @ psi @ kept
        corner = across @ np.linalg.solve(kept.T @ psi @ kept, across.T)
        return float(score @ vech(psi + frame[:, r:] @ corner @ frame[:, r:].T))

    size = face.directions.shape[1]
    expected = numeric_hessian(on_surface, np.zeros(size), step=face.values.min() / 50)
    np.testing.assert_allclose(face.curvature(score), expected, atol=1e-6 * np.abs(expected).max())
