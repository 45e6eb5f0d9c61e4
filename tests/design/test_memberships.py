"""Multiple membership and incidence matrices: codes, loads, levels, and what is refused."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import coo_array, csc_matrix, csr_array

from lmmkit.design import (
    Memberships,
    build_design,
    build_design_from_arrays,
    design_rows,
    incidence,
    memberships,
)
from lmmkit.errors import ColumnNotFoundError, DataError, FormulaError, LmmkitError, ShapeError
from lmmkit.records import evolve

FRAME = pl.DataFrame(
    {
        "y": [1.0, 2.5, 0.5, 4.0, 3.0, 2.0],
        "x": [0.5, 1.0, 1.5, 2.5, 3.0, 4.5],
        "a": ["s", "t", None, "u", "s", "t"],
        "b": ["t", None, "v", "u", "t", "s"],
        "wa": [0.2, 1.0, None, 3.0, 0.0, -1.0],
        "wb": [0.8, float("nan"), 2.0, 1.0, 0.0, 0.5],
        "i": [4, 1, None, 9, 4, 1],
    }
)
LEVELS = ["s", "t", "u", "v"]
CODES = [[0, 1], [1, 1], [3, 3], [2, 2], [0, 1], [1, 0]]
EQUAL = [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
WEIGHTED = [[0.2, 0.8], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [0.0, 0.0], [-1.0, 0.5]]


def test_equal_loads_by_hand() -> None:
    (term,) = build_design("y ~ 1 + (1 | mm(a, b))", FRAME).terms
    assert term.group == "mm(a, b)"
    assert term.levels.to_list() == LEVELS
    assert term.codes.tolist() == CODES
    assert term.loads is not None
    assert term.loads.tolist() == EQUAL


def test_loads_from_columns_are_taken_as_they_are() -> None:
    design = build_design("y ~ 1 + (x | mm(a, b, weights=(wa, wb)))", FRAME)
    (term,) = design.terms
    assert design.dropped.total == 0
    assert (term.group, term.names) == ("mm(a, b)", ("Intercept", "x"))
    assert term.codes.tolist() == CODES
    assert term.loads is not None
    assert term.loads.tolist() == WEIGHTED
    np.testing.assert_array_equal(term.Z[:, 1], FRAME["x"])


def test_two_terms_share_codes() -> None:
    one, other = build_design("y ~ 1 + (x || mm(a, b))", FRAME).terms
    assert one.codes is other.codes
    assert one.loads is other.loads


def test_rows_without_a_membership_or_a_load_that_they_need_are_dropped() -> None:
    frame = FRAME.with_columns(
        a=pl.Series(["s", "t", None, "u", "s", "t"]),
        b=pl.Series(["t", None, None, "u", "t", "s"]),
        wa=pl.Series([None, 1.0, None, 3.0, 0.0, -1.0]),
    )
    design = build_design("y ~ 1 + (1 | mm(a, b, weights=(wa, wb)))", frame)
    assert design.rows.tolist() == [1, 3, 4, 5]
    assert dict(design.dropped.by_column) == {"mm(a, b)": 1, "wa": 1}
    assert design.terms[0].levels.to_list() == ["s", "t", "u"]
    with pytest.raises(
        DataError, match=r"missing values in 'mm\(a, b\)' \(1 of 6\), 'wa' \(1 of 6"
    ):
        build_design("y ~ 1 + (1 | mm(a, b, weights=(wa, wb)))", frame, missing="raise")


def test_a_column_that_is_needed_otherwise_must_be_whole() -> None:
    design = build_design("y ~ wb + (1 | mm(a, b, weights=(wa, wb)))", FRAME)
    assert design.rows.tolist() == [0, 2, 3, 4, 5]
    design = build_design("y ~ 1 + (1 | b) + (0 + x | mm(a, b))", FRAME)
    assert design.rows.tolist() == [0, 2, 3, 4, 5]
    design = build_design("y ~ 1 + (1 | i) + (1 | mm(a, b, weights=(i, x)))", FRAME)
    assert design.rows.tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    "types",
    [
        (pl.Categorical, pl.String),
        (pl.Categorical, pl.Categorical),
        (pl.Enum(["v", "u", "t", "s"]), pl.Categorical),
        (pl.Enum(LEVELS), pl.Enum(["v", "u", "t", "s"])),
    ],
)
def test_text_columns_of_any_type(types: tuple[Any, Any]) -> None:
    frame = FRAME.with_columns(pl.col("a").cast(types[0]), pl.col("b").cast(types[1]))
    (term,) = build_design("y ~ 1 + (1 | mm(a, b))", frame).terms
    assert term.levels.to_list() == LEVELS
    assert term.codes.tolist() == CODES


def test_one_enum_keeps_its_order_and_integers_of_any_width_go_together() -> None:
    enum = pl.Enum(["v", "u", "t", "s"])
    (term,) = build_design("y ~ 1 + (1 | mm(a, b))", FRAME.cast({"a": enum, "b": enum})).terms
    assert term.levels.to_list() == ["v", "u", "t", "s"]
    frame = FRAME.with_columns(j=pl.Series([4, None, 7, 1, 1, 9], dtype=pl.Int8))
    (term,) = build_design("y ~ 1 + (1 | mm(i, j))", frame).terms
    assert term.levels.to_list() == [1, 4, 7, 9]
    assert term.codes.tolist() == [[1, 1], [0, 0], [2, 2], [3, 0], [1, 0], [0, 3]]


@pytest.mark.parametrize(
    ("changes", "formula", "kind", "words"),
    [
        ({}, "mm(a, i)", DataError, r"mm\(a, i\): the column 'a' is text, 'i' is number"),
        ({}, "mm(a, x)", DataError, "grouping factor 'x' is Float64"),
        ({}, "mm(a, q)", ColumnNotFoundError, "needs a column 'q'"),
        ({}, "mm(a, b, weights=(wa, q))", ColumnNotFoundError, "needs a column 'q'"),
        ({}, "mm(a, b, weights=(wa, a))", DataError, "column 'a' of loads is String"),
        (
            {"wa": float("inf")},
            "mm(a, b, weights=(wa, wb))",
            DataError,
            "'wa' is infinite in 5 rows",
        ),
        ({"wa": 0.0, "wb": 0}, "mm(a, b, weights=(wa, wb))", DataError, "all loads are zero"),
        ({"a": "s", "b": "s"}, "mm(a, b)", DataError, "has one level, 's'"),
    ],
)
def test_frames_that_do_not_fit(
    changes: dict[str, Any], formula: str, kind: type[LmmkitError], words: str
) -> None:
    frame = FRAME.with_columns(**{name: pl.lit(value) for name, value in changes.items()})
    with pytest.raises(kind, match=words):
        build_design(f"y ~ 1 + (1 | {formula})", frame)


def test_memberships_are_no_fixed_effects() -> None:
    with pytest.raises(FormulaError, match=r"as in \(1 \| mm\(a, b\)\)"):
        build_design("y ~ mm(a, b) + (1 | i)", FRAME)


def test_new_rows() -> None:
    design = build_design("y ~ 1 + (x | mm(a, b, weights=(wa, wb))) + (1 | i)", FRAME)
    new = pl.DataFrame(
        {
            "x": [1.0, 2.0, 3.0, 4.0],
            "a": ["u", "new", None, "s"],
            "b": ["s", "t", None, None],
            "wa": [0.25, 2.0, 1.0, 1.0],
            "wb": [0.75, 3.0, 1.0, None],
            "i": [4, 4, 4, 77],
        }
    )
    rows = design_rows(design, new)
    assert rows.rows.tolist() == [0, 1, 3]
    assert dict(rows.dropped.by_column) == {"mm(a, b)": 1}
    assert rows.codes[0].tolist() == [[2, 0], [-1, 1], [0, 0]]
    assert rows.codes[1].tolist() == [1, 1, -1]
    assert rows.loads[0] is not None
    assert rows.loads[0].tolist() == [[0.25, 0.75], [2.0, 3.0], [1.0, 0.0]]
    assert rows.loads[1] is None
    population = design_rows(design, new.select("x"), random=False)
    assert (population.codes, population.loads) == ((), ())
    none = design_rows(design, new[:0])
    assert none.codes[0].shape == (0, 2)
    assert none.loads[0] is not None
    assert none.loads[0].shape == (0, 2)
    with pytest.raises(DataError, match="'b', a grouping factor, was text in the fit"):
        design_rows(design, new.with_columns(b=pl.lit(1)))


def test_new_rows_with_one_membership_each() -> None:
    design = build_design("y ~ 1 + (x | mm(a, b))", FRAME)
    rows = design_rows(design, {"x": [1.0, 2.0], "a": ["u", "?"], "b": [None, None]})
    assert rows.codes[0].tolist() == [[2, 2], [-1, -1]]
    assert rows.loads[0] is not None
    assert rows.loads[0].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_rows_of_the_fit_come_out_as_in_the_fit() -> None:
    for formula in ("mm(a, b)", "mm(a, b, weights=(wa, wb))"):
        design = build_design(f"y ~ 1 + (x | {formula})", FRAME)
        rows = design_rows(design, FRAME)
        np.testing.assert_array_equal(rows.codes[0], design.terms[0].codes)
        np.testing.assert_array_equal(rows.loads[0], design.terms[0].loads)


def as_matrix(belongs: Memberships) -> Any:
    """The incidence matrix, row by row and membership by membership."""
    matrix = np.zeros((len(belongs.codes), len(belongs.levels)))
    for row, (codes, loads) in enumerate(zip(belongs.codes, belongs.loads, strict=True)):
        for code, load in zip(codes, loads, strict=True):
            matrix[row, code] += load
    return matrix


def test_labels_of_arrays() -> None:
    labels = FRAME.select("a", "b")
    loads = FRAME.select("wa", "wb").to_numpy()
    for given in (labels, labels.to_numpy(), labels.rows()):
        equal = memberships(given)
        assert equal.levels.to_list() == LEVELS
        assert (equal.codes.tolist(), equal.loads.tolist()) == (CODES, EQUAL)
        assert memberships(given, loads).loads.tolist() == WEIGHTED


@pytest.mark.parametrize("density", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("kind", [np.asarray, csr_array, csc_matrix, coo_array])
def test_a_matrix_is_its_codes_and_loads(density: float, kind: Any) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(20, 7)) * (rng.random((20, 7)) < density)
    belongs = incidence(kind(matrix), list("gfedcba"))
    np.testing.assert_array_equal(as_matrix(belongs), matrix)
    assert belongs.levels.to_list() == list("gfedcba")
    assert belongs.codes.shape[1] == max(1, (matrix != 0).sum(axis=1).max())
    assert incidence(kind(matrix)).levels.to_list() == list(range(7))


def test_a_matrix_is_not_changed_and_its_duplicates_add_up() -> None:
    table = coo_array(([1.0, 2.0, 0.0, 5.0], ([0, 0, 1, 1], [1, 1, 0, 0])), shape=(2, 2))
    compressed = csr_array(table)
    compressed.data[:] = [3.0, 0.0]
    for matrix in (table, compressed):
        before = matrix.data.copy()
        np.testing.assert_array_equal(as_matrix(incidence(matrix)), matrix.toarray())
        np.testing.assert_array_equal(matrix.data, before)


def test_padding_repeats_a_membership_of_the_row() -> None:
    belongs = incidence(np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 3.0]]))
    assert belongs.codes.tolist() == [[2, 2], [0, 2]]
    assert belongs.loads.tolist() == [[2.0, 0.0], [1.0, 3.0]]


def test_arrays_and_formulas_give_one_term() -> None:
    by_formula = build_design("y ~ 1 + (1 | mm(a, b, weights=(wa, wb)))", FRAME)
    loads = FRAME.select("wa", "wb").to_numpy()
    belongs = memberships(FRAME.select("a", "b"), loads)
    term = ("mm(a, b)", np.ones(6), belongs)
    by_arrays = build_design_from_arrays(FRAME["y"], np.ones(6), [term])
    assert by_arrays.terms == by_formula.terms


def test_more_columns_than_rows_are_legal() -> None:
    markers = np.random.default_rng(0).normal(size=(6, 30))
    term = ("markers", np.ones(6), incidence(markers))
    design = build_design_from_arrays(FRAME["y"], np.ones(6), [term])
    assert design.terms[0].codes.shape == (6, 30)


@pytest.mark.parametrize(
    ("build", "kind", "words"),
    [
        (lambda: memberships(["a", "b"]), ShapeError, r"\(rows, memberships\) labels, got shape"),
        (lambda: memberships([["a"], ["b", "c"]]), ShapeError, r"got shape \(2,\)"),
        (lambda: memberships([np.eye(2), np.ones((2, 3))]), ShapeError, "got unequal rows"),
        (lambda: memberships(np.zeros((0, 2))), ShapeError, r"got shape \(0, 2\)"),
        (lambda: memberships([[1.5, 2.0]]), DataError, r"'labels\[:, 0\]' is Float64"),
        (lambda: memberships([["a", 1]]), DataError, r"text, 'labels\[:, 1\]' is number"),
        (lambda: memberships([["a", "b"], [None, None]]), DataError, "1 rows have no .* row 1"),
        (lambda: memberships([["a", "b"]], [1.0, 2.0]), ShapeError, r"shape \(1, 2\), got \(2,\)"),
        (lambda: memberships([["a", "b"]], [[1.0, np.nan]]), DataError, r"the first at \(0, 1\)"),
        (lambda: memberships([["a", "b"]], "x"), ShapeError, "float64"),
        (
            lambda: memberships([["a", "b"]], np.ma.masked_equal([[1.0, 2.0]], 2)),
            DataError,
            "loads: 1 entries of the masked array",
        ),
        (lambda: incidence(np.ma.masked_equal(np.eye(2), 1)), DataError, "2 entries of the masked"),
        (lambda: incidence(np.ones(3)), ShapeError, r"a matrix \(rows, levels\), got shape \(3,\)"),
        (lambda: incidence(1j * np.eye(2)), ShapeError, "expected real numbers"),
        (lambda: incidence(csr_array(1j * np.eye(2))), ShapeError, "expected real numbers"),
        (lambda: incidence(np.ones((0, 3))), ShapeError, "a matrix"),
        (lambda: incidence("x"), ShapeError, "float64"),
        (lambda: incidence(np.diag([1.0, np.inf])), DataError, r"1 entries .* first at \(1, 1\)"),
        (lambda: incidence(np.eye(2), ["a"]), ShapeError, "2 columns, but 1 labels"),
        (lambda: incidence(np.eye(2), ["a", "a"]), DataError, "'a' stands 2 times"),
        (
            lambda: build_design_from_arrays(
                [1.0, 2.0], np.zeros((2, 0)), [("g", np.ones(2), incidence(np.eye(3)))]
            ),
            ShapeError,
            r"terms\[0\] on 'g': expected memberships of 2 rows as in y, got 3",
        ),
        (lambda: evolve(incidence(np.eye(3)), loads=np.ones((3, 2))), ShapeError, "loads of shape"),
        (lambda: evolve(incidence(np.eye(3)), levels=pl.Series([1])), ShapeError, "codes run from"),
    ],
)
def test_wrong_arrays(build: Any, kind: type[LmmkitError], words: str) -> None:
    with pytest.raises(kind, match=words):
        build()
