"""Wald tests: the quadratic form, the language of hypotheses, and wrong ones."""

import math
from typing import Any

import numpy as np
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import fit
from lmmkit.inference import fixed_covariance, fixed_effects, wald_test
from lmmkit.records import FloatArray
from tests.inference.fitted import fitted, simulated

INTERACTIONS = ["Time:Cu[T.Cu035]", "Time:Cu[T.Cu175]"]


def statistic(case_id: str, L: FloatArray, c: FloatArray) -> float:
    """The quadratic form, written out."""
    result = fitted(case_id)
    difference = L @ fixed_effects(result)["estimate"].to_numpy() - c
    return float(difference @ np.linalg.inv(L @ fixed_covariance(result) @ L.T) @ difference)


def coefficients(**of: float) -> FloatArray:
    names = fitted("dietox_cu").design.x_names
    row = np.zeros(len(names))
    for name, value in of.items():
        row[names.index({"cu35": "Cu[T.Cu035]", "cu175": "Cu[T.Cu175]"}.get(name, name))] = value
    return row


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("Time", coefficients(Time=1), 0.0),
        ("Time = 7", coefficients(Time=1), 7.0),
        ("Time - 2*Cu[T.Cu035] = 0", coefficients(Time=1, cu35=-2), 0.0),
        ("Time=2*Cu[T.Cu035]", coefficients(Time=1, cu35=-2), 0.0),
        ("-Time + Cu[T.Cu175]/4 - 1 = -8.5", coefficients(Time=-1, cu175=0.25), -7.5),
        ("`Cu[T.Cu035]` * 3 = 1.5e1", coefficients(cu35=3), 15.0),
        ("2 * 3 * Time = 1/2", coefficients(Time=6), 0.5),
        ("Time - -Time = 14", coefficients(Time=2), 14.0),
    ],
)
def test_text(text: str, row: FloatArray, value: float) -> None:
    frame = wald_test(fitted("dietox_cu"), text)
    assert frame.columns == ["hypothesis", "statistic", "df", "p_value"]
    expected = statistic("dietox_cu", row[None], np.array([value]))
    assert frame["statistic"].item() == pytest.approx(expected, rel=1e-9)
    assert frame["df"].item() == 1
    p = math.erfc(math.sqrt(frame["statistic"].item() / 2))
    assert frame["p_value"].item() == pytest.approx(p, rel=1e-9)


def test_several_jointly() -> None:
    L = np.stack([coefficients(cu35=1), coefficients(Time=1)])
    expected = statistic("dietox_cu", L, np.array([0.0, 7.0]))
    for frame in (
        wald_test(fitted("dietox_cu"), ["Cu[T.Cu035]", "Time = 7"]),
        wald_test(fitted("dietox_cu"), L, [0.0, 7.0]),
        wald_test(fitted("dietox_cu"), [*L.tolist(), (2 * L[0] - L[1]).tolist()], [0, 7, -7]),
    ):
        assert frame["statistic"].item() == pytest.approx(expected, rel=1e-9)
        assert frame["df"].item() == 2
        assert frame["p_value"].item() == pytest.approx(math.exp(-expected / 2), rel=1e-9)


def test_the_name_of_a_term_means_all_its_columns() -> None:
    result = fitted("dietox_cu")
    by_term, by_name = wald_test(result, "Time:Cu"), wald_test(result, INTERACTIONS)
    assert by_term.row(0)[1:] == by_name.row(0)[1:]
    assert by_term["df"].item() == 2


def test_a_term_with_a_single_column() -> None:
    result = fitted("orthodont")
    z = fixed_effects(result)["statistic"].to_list()
    assert wald_test(result, "Sex")["statistic"].item() == pytest.approx(z[2] ** 2)


def test_names_with_arithmetic_in_them() -> None:
    result = fitted("sleep_quad")
    z = fixed_effects(result)["statistic"].to_list()
    frame = wald_test(result, "I(Days ** 2) = 0")
    assert frame["statistic"].item() == pytest.approx(z[2] ** 2)


def test_one_row_as_a_vector() -> None:
    frame = wald_test(fitted("sleep_rs"), [0, 1], 10)
    assert frame["hypothesis"].item() == "1*Days = 10"
    expected = statistic("sleep_rs", np.array([[0.0, 1.0]]), np.array([10.0]))
    assert frame["statistic"].item() == pytest.approx(expected)


def test_without_fixed_effects_there_is_nothing_to_test() -> None:
    result = fit("y ~ 0 + (1 | g)", simulated(1, 0.8))
    with pytest.raises(ArgumentError, match="wald_test: the model has no fixed effects"):
        wald_test(result, "x = 0")


def test_held_effects_count_as_known() -> None:
    result = fit("y ~ x + (1 | g)", simulated(1, 0.8), fixed={"x": 0.25})
    (with_held,) = wald_test(result, "Intercept - 4*x = 1")["statistic"]
    (alone,) = wald_test(result, "Intercept = 2")["statistic"]
    assert with_held == pytest.approx(alone)
    with pytest.raises(ArgumentError, match="row 0 involves no fixed effect that was estimated"):
        wald_test(result, "x = 0")


@pytest.mark.parametrize(
    ("hypothesis", "rhs", "words"),
    [
        ("time = 7", None, "'time' is no fixed effect; they are .* did you mean 'Time'"),
        ("Cu[T.Cu999]", None, "is no fixed effect"),
        ("Time = 7 = 8", None, "expected something like 'Time = 7'"),
        ("Time =", None, "it ends"),
        ("", None, "it ends"),
        ("Time Time", None, "got 'T' at position 5"),
        ("Time * Time = 1", None, "a product or a quotient"),
        ("1 / Time = 1", None, "a product or a quotient"),
        ("Time / 0 = 1", None, "divides by zero"),
        ("1 = 1", None, "expected some fixed effect in it"),
        ("Time = Time", None, "expected some fixed effect in it"),
        ("(Time)", None, "is no fixed effect"),
        ("Time", 7, "rhs goes with an array"),
        (["Time = 7", "Time = 8"], None, "contradict one another"),
        ([], None, "expected L of shape"),
        (np.eye(3), None, "expected L of shape"),
        (np.zeros((1, 8)), None, "row 0 involves no fixed effect"),
        (np.eye(8), [1, 2], "expected L of shape"),
        (np.full(8, np.nan), None, "expected finite numbers"),
        ([1, "Time"], None, "expected text, a list of text, or numbers"),
    ],
)
def test_wrong_hypotheses(hypothesis: Any, rhs: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        wald_test(fitted("dietox_cu"), hypothesis, rhs)
