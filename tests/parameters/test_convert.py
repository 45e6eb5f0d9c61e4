"""Conversions both ways, and their Jacobians against numeric derivatives."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lmmkit.errors import LmmkitError, ParameterError
from lmmkit.parameters import (
    Layout,
    NaturalParams,
    ProfileParams,
    SquareRootParams,
    to_natural,
    to_natural_jacobian,
    to_profile,
    to_profile_jacobian,
    to_square_root,
    to_square_root_jacobian,
)
from lmmkit.records import FloatArray
from tests.dense_oracle import numeric_gradient

SIGMA2 = 0.7
BETA = np.array([1.0, -2.0])
SIZES = [(1,), (2,), (3,), (4,), (2, 1), (1, 3, 2), ()]
every_size = pytest.mark.parametrize("sizes", SIZES)
beta_or_not = pytest.mark.parametrize("beta", [BETA, None], ids=["beta", "no beta"])


def covariances(sizes: tuple[int, ...], seed: int = 0) -> tuple[FloatArray, ...]:
    rng = np.random.default_rng(seed)
    roots = [rng.normal(size=(q, q)) for q in sizes]
    return tuple(root @ root.T + np.eye(len(root)) for root in roots)


@every_size
@beta_or_not
def test_values(sizes: tuple[int, ...], beta: FloatArray | None) -> None:
    psi = covariances(sizes)
    natural = NaturalParams(psi, SIGMA2, beta)
    profile, root = to_profile(natural), to_square_root(natural)
    for relative, factor, matrix in zip(profile.psi_rel, root.factor, psi, strict=True):
        assert_allclose(relative, matrix / SIGMA2, rtol=1e-14)
        assert_allclose(factor, np.linalg.cholesky(matrix / SIGMA2), rtol=1e-11, atol=1e-13)
    for params in (profile, root, to_natural(profile, SIGMA2), to_natural(root, SIGMA2)):
        assert_array_equal(params.beta, beta)
    assert_array_equal(to_square_root(profile).pack(), root.pack())
    assert_allclose(to_profile(root).pack(), profile.pack(), rtol=1e-12)
    assert_allclose(to_natural(profile, SIGMA2).pack(), natural.pack(), rtol=1e-14)
    assert_allclose(to_natural(root, SIGMA2).pack(), natural.pack(), rtol=1e-12)


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "rank one": np.outer([1.0, 2.0, -1.0], [1.0, 2.0, -1.0]),
    "first variance zero": np.array([[0.0, 0, 0], [0, 2, 1], [0, 1, 3]]),
    "middle variance zero": np.array([[2.0, 0, 1], [0, 0, 0], [1, 0, 3]]),
    "tiny and singular": np.ones((3, 3)) * 1e-14,
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrices_have_a_factor(name: str) -> None:
    psi = SINGULAR[name]
    root = to_square_root(NaturalParams((psi,), SIGMA2))
    assert (np.diagonal(root.factor[0]) == 0).any()
    assert_allclose(to_natural(root, SIGMA2).psi[0], psi, rtol=1e-12, atol=1e-14 * psi.max())
    assert_allclose(to_square_root(to_profile(root)).factor[0], root.factor[0], rtol=1e-12)


@every_size
def test_leading_axes(sizes: tuple[int, ...]) -> None:
    stacks = [covariances(sizes, seed) for seed in range(3)]
    sigma2 = np.array([0.5, 1.0, 4.0])
    beta = np.arange(6.0).reshape(3, 2)
    together = NaturalParams(tuple(map(np.stack, zip(*stacks, strict=True))), sigma2, beta)
    each = [NaturalParams(psi, s, b) for psi, s, b in zip(stacks, sigma2, beta, strict=True)]
    for convert in (to_profile, to_square_root):
        assert_allclose(convert(together).pack(), [convert(one).pack() for one in each], rtol=1e-12)
    back = to_natural(to_square_root(together), sigma2)
    assert_allclose(back.pack(), together.pack(), rtol=1e-12)


def layout(sizes: tuple[int, ...], beta: FloatArray | None) -> Layout:
    return Layout(None if beta is None else len(beta), sizes)


def close(jacobian: FloatArray, numeric: FloatArray) -> None:
    assert jacobian.shape == numeric.shape
    assert_allclose(jacobian, numeric, rtol=0, atol=1e-8 * np.abs(numeric).max(initial=1.0))


STEP = 0.02


@every_size
@beta_or_not
def test_jacobians_of_to_profile(sizes: tuple[int, ...], beta: FloatArray | None) -> None:
    shape = layout(sizes, beta)
    natural = NaturalParams(covariances(sizes), SIGMA2, beta)
    numeric = numeric_gradient(
        lambda x: to_profile(NaturalParams.unpack(x, shape)).pack(), natural.pack(), STEP
    )
    close(to_profile_jacobian(natural), numeric)
    root = to_square_root(natural)
    if len(root.pack()):
        numeric = numeric_gradient(
            lambda x: to_profile(SquareRootParams.unpack(x, shape)).pack(), root.pack(), STEP
        )
        close(to_profile_jacobian(root), numeric)


@every_size
@beta_or_not
@pytest.mark.parametrize("cls", [ProfileParams, SquareRootParams])
def test_jacobian_of_to_natural(sizes: tuple[int, ...], beta: FloatArray | None, cls: Any) -> None:
    shape = layout(sizes, beta)
    natural = NaturalParams(covariances(sizes), SIGMA2, beta)
    params = to_profile(natural) if cls is ProfileParams else to_square_root(natural)
    numeric = numeric_gradient(
        lambda x: to_natural(cls.unpack(x[:-1], shape), x[-1]).pack(),
        np.append(params.pack(), SIGMA2),
        STEP,
    )
    close(to_natural_jacobian(params, SIGMA2), numeric)


@pytest.mark.parametrize("sizes", [sizes for sizes in SIZES if sizes])
@beta_or_not
@pytest.mark.parametrize("cls", [NaturalParams, ProfileParams])
def test_jacobian_of_to_square_root(
    sizes: tuple[int, ...], beta: FloatArray | None, cls: Any
) -> None:
    shape = layout(sizes, beta)
    natural = NaturalParams(covariances(sizes), SIGMA2, beta)
    params = natural if cls is NaturalParams else to_profile(natural)
    numeric = numeric_gradient(
        lambda x: to_square_root(cls.unpack(x, shape)).pack(), params.pack(), STEP
    )
    close(to_square_root_jacobian(params), numeric)


def test_a_singular_factor_still_has_its_forward_jacobian() -> None:
    root = SquareRootParams((np.array([[0.0, 0.0], [0.5, 0.0]]),))
    # psi = [[a^2, .], [a b, b^2 + c^2]] at a = 0, b = 1/2, c = 0
    assert_array_equal(to_profile_jacobian(root), [[0, 0, 0], [0.5, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("name", SINGULAR)
def test_the_square_root_is_not_differentiable_at_a_singular_matrix(name: str) -> None:
    with pytest.raises(ParameterError, match=r"term 1: expected a positive definite covariance"):
        to_square_root_jacobian(NaturalParams((np.eye(2), SINGULAR[name]), SIGMA2))


def test_a_jacobian_is_of_one_record() -> None:
    stacked = NaturalParams((np.stack([np.eye(2)] * 3),), np.ones(3))
    for jacobian in (to_profile_jacobian, to_square_root_jacobian):
        with pytest.raises(LmmkitError):
            jacobian(stacked)


@pytest.mark.parametrize(
    ("convert", "wrong"),
    [
        (to_profile, ProfileParams((np.eye(2),))),
        (to_profile, np.ones(3)),
        (to_square_root, SquareRootParams((np.eye(2),))),
        (to_square_root, None),
        (lambda params: to_natural(params, 1.0), NaturalParams((np.eye(2),), 1.0)),
        (lambda params: to_natural(params, 1.0), (np.eye(2),)),
    ],
)
def test_conversions_of_something_else(convert: Any, wrong: Any) -> None:
    with pytest.raises(ParameterError, match=type(wrong).__name__):
        convert(wrong)


@pytest.mark.parametrize("sigma2", [0.0, -1.0, np.nan])
def test_conversion_to_natural_needs_a_positive_sigma2(sigma2: float) -> None:
    with pytest.raises(ParameterError, match="expected a positive residual variance"):
        to_natural(ProfileParams((np.eye(2),)), sigma2)
