"""Designs from arrays."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.design import RandomTerm, build_design, build_design_from_arrays
from lmmkit.errors import DataError, LmmkitError, ShapeError
from tests.design.frames import N, mixed_frame

FRAME = mixed_frame()
Y = FRAME["y"].to_numpy()
X = np.column_stack([np.ones(N), FRAME["x"]])
G = FRAME["g"].to_numpy()
TERM = ("g", X, G)
TWO = np.array([0, 1], dtype=np.int32)


def test_the_same_design_as_from_a_formula() -> None:
    by_formula = build_design("y ~ x + (x | g)", FRAME, weights="w", offset="z")
    names = ("Intercept", "x")
    by_arrays = build_design_from_arrays(
        Y, X, [(*TERM, names)], x_names=names, weights=FRAME["w"], offset=FRAME["z"]
    )
    for part in ("y", "X", "x_names", "terms", "rows", "weights", "offset", "x_terms"):
        mine, other = getattr(by_arrays, part), getattr(by_formula, part)
        assert np.all(mine == other), part


def test_default_names() -> None:
    design = build_design_from_arrays(Y, X, [("g", G + 1.0, G), ("g", X, G)])
    assert design.x_names == ("Intercept", "x1")
    assert [term.names for term in design.terms] == [("z0",), ("Intercept", "z1")]


def test_labels_may_be_text_or_a_series_and_terms_records() -> None:
    text = [f"level {g}" for g in G]
    by_text = build_design_from_arrays(Y, X, [("g", np.ones(N), text)])
    np.testing.assert_array_equal(by_text.terms[0].codes, G)
    assert by_text.terms[0].levels[0] == "level 0"
    record = RandomTerm("g", ("Intercept",), np.ones((N, 1)), G, pl.Series(range(6)))
    assert build_design_from_arrays(Y, X, [record]).terms == (record,)


def test_several_responses() -> None:
    responses = np.stack([Y, 2 * Y, Y**2])
    design = build_design_from_arrays(responses, X, [TERM])
    np.testing.assert_array_equal(design.y, responses)
    responses[1] = 3
    with pytest.raises(DataError, match=r"'y' \(number \(1,\)\) is constant"):
        build_design_from_arrays(responses, X, [TERM])


def test_dependent_columns() -> None:
    design = build_design_from_arrays(
        Y, np.column_stack([X, X[:, 1] * 3]), [TERM], x_names=["a", "b", "c"]
    )
    assert (design.x_names, design.aliased) == (("a", "b"), ("c",))


def test_the_callers_arrays_stay_theirs() -> None:
    y, x = Y.copy(), X.copy()
    design = build_design_from_arrays(y, x, [("g", x, G)])
    y[0], x[0] = 99, 99
    assert design.y[0] == Y[0]
    assert design.X[0, 1] == X[0, 1] == design.terms[0].Z[0, 1]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"y": 3.0}, ShapeError, r"y: expected \(..., N\)"),
        ({"y": []}, ShapeError, r"y: expected \(..., N\)"),
        ({"y": ["a"] * N}, ShapeError, "y: expected an array of float64"),
        ({"y": np.where(G == 3, np.nan, Y)}, DataError, "y: 10 values are missing or infinite"),
        ({"y": np.ones(N)}, DataError, "constant"),
        (
            {"y": Y[:, None]},
            ShapeError,
            r"N = 60, the rows of X; got \(60, 1\); use y.ravel\(\)",
        ),
        ({"y": np.stack([Y] * 3, 1)}, ShapeError, r"y: .* got \(60, 3\); use numpy.moveaxis"),
        ({"y": np.ma.masked_greater(Y, Y[3])}, DataError, r"y: \d+ entries .* are masked"),
        ({"X": np.ma.masked_equal(X, 1.0)}, DataError, "X: 60 entries .* are masked"),
        ({"y": Y + 0j}, ShapeError, "y: expected real numbers, got complex128"),
        ({"weights": Y + 0j}, ShapeError, "weights: expected real numbers"),
        ({"X": X[:5]}, ShapeError, "X: expected one row for each of the 60"),
        ({"X": X[None]}, ShapeError, "X: expected one row"),
        ({"X": X * np.inf}, DataError, "X: .* missing or infinite"),
        ({"X": np.random.default_rng(0).normal(size=(N, N))}, DataError, "nothing to estimate"),
        ({"x_names": ["a"]}, ShapeError, "x_names: expected 2 names, one a column, got 1"),
        ({"x_names": ["a", "a"]}, ShapeError, "x_names: expected distinct"),
        ({"weights": [1.0]}, ShapeError, "weights: expected one number for each"),
        ({"weights": np.zeros(N)}, DataError, "must be positive"),
        ({"offset": np.ones((N, 2))}, ShapeError, "offset: expected one number"),
        ({"terms": [3]}, ShapeError, r"terms\[0\]: expected a RandomTerm or \(group name"),
        ({"terms": [("g", X)]}, ShapeError, r"terms\[0\]: expected a RandomTerm"),
        ({"terms": [(3, X, G)]}, ShapeError, "the group's name first"),
        ({"terms": [("g", X[:3], G)]}, ShapeError, "on 'g': Z: expected one row"),
        ({"terms": [("g", X[:, :0], G)]}, ShapeError, "Z has no columns"),
        ({"terms": [("g", X, G[:3])]}, ShapeError, "expected 60 labels, one a row of y, got 3"),
        ({"terms": [("g", X, G, ["a"])]}, ShapeError, "names: expected 2 names"),
        ({"terms": [("g", X, Y)]}, DataError, "'g' is Float64; expected whole numbers"),
        ({"terms": [("g", X, [None] * 3 + [1] * (N - 3))]}, DataError, "3 labels are missing"),
        (
            {"terms": [("g", X, np.ma.masked_equal(G, 2))]},
            DataError,
            r"terms\[0\] on 'g': labels: 10 entries .* are masked",
        ),
        ({"terms": [("g", X, [1, "a"] * 30)]}, DataError, "one column; expected .*all text"),
        ({"terms": [("g", X, np.array([1, "a"] * 30, object))]}, DataError, "all text"),
        ({"terms": [("g", X, np.ones(N, int))]}, DataError, "one level"),
        ({"terms": [("g", np.ones(N), np.arange(N))]}, DataError, "level of its own"),
        ({"terms": [("g", X, np.arange(N) // 2)]}, DataError, "2 x 30 levels"),
        (
            {"terms": [RandomTerm("g", ("a",), np.ones((2, 1)), TWO, pl.Series([1, 2]))]},
            ShapeError,
            r"terms\[0\] on 'g': expected 60 rows as in y, got 2",
        ),
    ],
)
def test_wrong_arrays(change: dict[str, Any], kind: type[LmmkitError], words: str) -> None:
    arguments: dict[str, Any] = {"y": Y, "X": X, "terms": [TERM]} | change
    with pytest.raises(kind, match=words):
        build_design_from_arrays(**arguments)


def test_a_masked_array_without_masked_entries_is_an_array() -> None:
    design = build_design_from_arrays(np.ma.masked_array(Y), X, [TERM])
    np.testing.assert_array_equal(design.y, Y)
