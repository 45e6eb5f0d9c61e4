"""Laws of the parameter records."""

import copy
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from lmmkit.linalg import psd_factor
from lmmkit.parameters import (
    NaturalParams,
    ProfileParams,
    SquareRootParams,
    to_natural,
    to_profile,
    to_square_root,
)
from lmmkit.records import FloatArray, evolve
from lmmkit.testing.strategies import (
    covariances,
    natural_params,
    profile_params,
    square_root_params,
)
from property_tests.strategies import Params, any_params, arrays, layout

EXAMPLES = settings(max_examples=60)


@EXAMPLES
@given(any_params)
def test_unpack_inverts_pack(params: Params) -> None:
    assert type(params).unpack(params.pack(), layout(params)) == params


@EXAMPLES
@given(any_params)
def test_copies_are_equal_and_read_only(params: Params) -> None:
    for twin in (pickle.loads(pickle.dumps(params)), copy.deepcopy(params), evolve(params)):
        assert twin == params
        assert not any(array.flags.writeable for array in arrays(twin))


def assert_same_covariances(a: tuple[FloatArray, ...], b: tuple[FloatArray, ...]) -> None:
    """Entry by entry, relative to the two standard deviations."""
    for x, y in zip(a, b, strict=True):
        unit = np.sqrt(np.diagonal(y))
        assert_allclose(x, y, rtol=1e-12, atol=0, err_msg="variances") if len(x) == 1 else None
        assert (np.abs(x - y) <= 1e-11 * np.outer(unit, unit)).all()


@EXAMPLES
@given(natural_params())
def test_natural_to_profile_and_back(params: NaturalParams) -> None:
    back = to_natural(to_profile(params), params.sigma2)
    assert_same_covariances(back.psi, params.psi)
    assert_array_equal(back.beta, params.beta)


@EXAMPLES
@given(natural_params())
def test_natural_to_square_root_and_back(params: NaturalParams) -> None:
    back = to_natural(to_square_root(params), params.sigma2)
    assert_same_covariances(back.psi, params.psi)


@EXAMPLES
@given(profile_params())
def test_profile_to_square_root_and_back(params: ProfileParams) -> None:
    root = to_square_root(params)
    assert_same_covariances(to_profile(root).psi_rel, params.psi_rel)
    for factor in root.factor:
        assert (np.diagonal(factor) >= 0).all()
        assert_array_equal(np.triu(factor, 1), 0.0)


@EXAMPLES
@given(square_root_params())
def test_a_positive_definite_covariance_has_one_factor(params: SquareRootParams) -> None:
    regular = SquareRootParams(tuple(t + np.eye(len(t)) for t in params.factor))
    again = to_square_root(to_profile(regular))
    for factor, original in zip(again.factor, regular.factor, strict=True):
        condition = np.linalg.cond(original)
        assert_allclose(
            factor, original, rtol=0, atol=1e-14 * condition**2 * np.abs(original).max()
        )


@EXAMPLES
@given(st.integers(1, 4).flatmap(covariances), st.integers(-30, 30))
def test_a_factor_scales_with_its_covariance(psi: FloatArray, k: int) -> None:
    assert_array_equal(psd_factor(psi * 4.0**k), psd_factor(psi) * 2.0**k)
