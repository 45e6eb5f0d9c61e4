"""Parameters that do not belong to the model, and places where there is no likelihood."""

from typing import Any

import numpy as np
import pytest

from lmmkit.errors import ParameterError
from lmmkit.parameters import NaturalParams, ProfileParams, SquareRootParams
from tests.likelihood.cases import objective

ONE, TWO, THREE = np.eye(1), np.eye(2), np.eye(3)

# design "terms of different size": random effects of sizes 2 and 1, two fixed effects
WRONG: list[tuple[Any, str]] = [
    (NaturalParams((TWO,), 1.0), r"sizes \(2, 1\), got sizes \(2,\)"),
    (NaturalParams((TWO, TWO), 1.0), r"sizes \(2, 1\), got sizes \(2, 2\)"),
    (NaturalParams((ONE, TWO), 1.0), r"sizes \(2, 1\), got sizes \(1, 2\)"),
    (NaturalParams((TWO, ONE, ONE), 1.0), r"sizes \(2, 1\), got sizes \(2, 1, 1\)"),
    (NaturalParams((), 1.0), r"sizes \(2, 1\), got sizes \(\)"),
    (ProfileParams((THREE, ONE)), r"sizes \(2, 1\), got sizes \(3, 1\)"),
    (SquareRootParams((THREE, ONE)), r"sizes \(2, 1\), got sizes \(3, 1\)"),
    (NaturalParams((TWO, ONE), 1.0, np.zeros(3)), "beta with 2 fixed effects, got 3"),
    (ProfileParams((TWO, ONE), np.zeros(1)), "beta with 2 fixed effects, got 1"),
    (SquareRootParams((TWO, ONE), np.zeros((5, 3))), "beta with 2 fixed effects, got 3"),
    (np.zeros(4), "expected NaturalParams, ProfileParams or SquareRootParams, got ndarray"),
    ((TWO, ONE), "expected NaturalParams, ProfileParams or SquareRootParams, got tuple"),
    (None, "expected NaturalParams, ProfileParams or SquareRootParams, got NoneType"),
]


@pytest.mark.parametrize(
    "method", ["loglik", "score", "hessian", "expected_information", "natural"]
)
@pytest.mark.parametrize(("params", "words"), WRONG)
def test_parameters_of_another_model(method: str, params: Any, words: str) -> None:
    at = objective("terms of different size", restricted=True)
    with pytest.raises(ParameterError, match=words):
        getattr(at, method)(params)


# Relative covariances in standard coordinates: no record can hold these, a numeric derivative may
# come by.
FAR_OFF = ([[-5.0, 0.0], [0.0, 1.0]], [[1.0, 30.0], [30.0, 1.0]])
SLIGHTLY = [[0.5, 0.0], [0.0, -1e-3]]


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("name", ["balanced slope", "unbalanced slope", "shuffled rows"])
def test_no_likelihood_where_the_covariance_is_not_positive(name: str, restricted: bool) -> None:
    at = objective(name, restricted=restricted)
    for D in FAR_OFF:
        assert np.isnan(at.locate(np.array(D)).loglik)
    assert np.isfinite(at.locate(np.array(SLIGHTLY)).loglik)


@pytest.mark.parametrize("restricted", [False, True])
def test_one_bad_place_of_a_stack_leaves_the_others_alone(restricted: bool) -> None:
    at = objective("unbalanced slope", restricted=restricted)
    good = np.array([[0.4, 0.1], [0.1, 0.3]])
    stack = np.array([good, FAR_OFF[0], 2 * good])
    values = at.locate(stack).loglik
    assert np.isnan(values).tolist() == [False, True, False]
    expected = [at.locate(stack[i]).loglik for i in (0, 2)]
    np.testing.assert_allclose(values[[0, 2]], expected, rtol=1e-14)
