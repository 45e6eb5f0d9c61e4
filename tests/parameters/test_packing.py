"""The packed order: beta, each term's lower triangle row by row, sigma2."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams

PSI = np.array([[10.0, 1, 2], [1, 20, 3], [2, 3, 30]])
FACTOR = np.array([[10.0, 0, 0], [1, 20, 0], [2, 3, 30]])
TRIANGLE = [10.0, 1, 20, 2, 3, 30]
BETA = np.array([-1.0, -2.0])
LAYOUT = Layout(2, (3, 1))


def test_natural() -> None:
    params = NaturalParams((PSI, np.array([[7.0]])), 0.5, BETA)
    assert_array_equal(params.pack(), [-1, -2, *TRIANGLE, 7, 0.5])
    assert NaturalParams.unpack(params.pack(), LAYOUT) == params


def test_profile() -> None:
    params = ProfileParams((PSI, np.array([[7.0]])), BETA)
    assert_array_equal(params.pack(), [-1, -2, *TRIANGLE, 7])
    assert ProfileParams.unpack(params.pack(), LAYOUT) == params


def test_square_root() -> None:
    params = SquareRootParams((FACTOR, np.array([[7.0]])), BETA)
    assert_array_equal(params.pack(), [-1, -2, *TRIANGLE, 7])
    assert SquareRootParams.unpack(params.pack(), LAYOUT) == params


RECORDS = [
    NaturalParams((PSI,), 0.5),
    NaturalParams((), 0.5),
    NaturalParams((), 0.5, BETA),
    NaturalParams((PSI,), 0.5, np.zeros(0)),
    ProfileParams((PSI,)),
    ProfileParams((), BETA),
    ProfileParams((np.zeros((2, 2)),)),
    SquareRootParams((FACTOR,)),
    SquareRootParams((), BETA),
    SquareRootParams((np.zeros((2, 2)),)),
    NaturalParams((np.stack([PSI, 2 * PSI]),), np.array([0.5, 1.5]), np.stack([BETA, 2 * BETA])),
    ProfileParams((np.stack([PSI, 2 * PSI]),), np.stack([BETA, 2 * BETA])),
    SquareRootParams((np.stack([FACTOR] * 3),)),
    SquareRootParams((np.stack([[FACTOR] * 3] * 2), np.ones((2, 3, 1, 1)))),
]


def layout(params: Any) -> Layout:
    (matrices,) = (getattr(params, n) for n in ("psi", "psi_rel", "factor") if hasattr(params, n))
    p = None if params.beta is None else params.beta.shape[-1]
    return Layout(p, tuple(m.shape[-1] for m in matrices))


@pytest.mark.parametrize("params", RECORDS)
def test_unpack_inverts_pack(params: Any) -> None:
    assert type(params).unpack(params.pack(), layout(params)) == params


@pytest.mark.parametrize("cls", [ProfileParams, SquareRootParams])
def test_nothing_at_all_packs_to_an_empty_vector(cls: Any) -> None:
    assert cls(()).pack().shape == (0,)
    assert cls.unpack(np.zeros(0), Layout(None, ())) == cls(())


def test_parts_broadcast_when_packed() -> None:
    params = NaturalParams((np.eye(2),), np.array([1.0, 2.0, 3.0]), np.zeros((3, 1)))
    assert_array_equal(params.pack(), [[0, 1, 0, 1, 1], [0, 1, 0, 1, 2], [0, 1, 0, 1, 3]])


def test_unpacking_a_factor_flips_columns_to_a_diagonal_that_is_not_negative() -> None:
    wild = np.array([[-1.0, 2.0, -3.0], [1.0, -2.0, 3.0]])
    params = SquareRootParams.unpack(wild, Layout(None, (2,)))
    assert_array_equal(params.factor[0], [[[1, 0], [-2, 3]], [[1, 0], [-2, 3]]])


def test_a_single_value_of_sigma2_is_a_float() -> None:
    assert type(NaturalParams((), np.float64(2.0)).sigma2) is float
    assert type(NaturalParams.unpack(np.array([2.0]), Layout(None, ())).sigma2) is float
