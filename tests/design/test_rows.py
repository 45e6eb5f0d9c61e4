"""New rows through the columns of a fitted design."""

import pickle

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design, build_design_from_arrays, design_rows
from lmmkit.errors import ArgumentError, ColumnNotFoundError, DataError, FormulaError, LmmkitError
from tests.design.frames import N, mixed_frame

FRAME = mixed_frame()
FORMULAS = [
    "y ~ x*f + (x | g)",
    "y ~ center(x) + scale(z) + center(`my x`) + (1 | g)",
    "y ~ poly(x, 3) + (poly(x, 2) | g)",
    "y ~ bs(x, df=5) + ns(z, df=3) + (1 | g)",
    "y ~ cr(x, df=4) + cc(z, df=3) + (1 | g)",
    "y ~ C(f, contr.sum)*b + (1 | g/h)",
    "y ~ C(i) + C(f, levels=['c', 'b', 'a']) + (1 | h:g)",
    "y ~ x + I(2*x) + cut(z, [0, 2, 6]) + (0 + f | g)",
    "log(w) ~ 0 + f + x:f + offset(log(z)) + (b || h)",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_some_of_the_rows_give_the_same_columns(formula: str) -> None:
    design = pickle.loads(pickle.dumps(build_design(formula, FRAME)))
    part = design_rows(design, FRAME.drop("y")[[7, 3, 20]])
    np.testing.assert_allclose(part.X, design.X[[7, 3, 20]], atol=1e-14)
    for Z, codes, term in zip(part.Z, part.codes, design.terms, strict=True):
        np.testing.assert_allclose(Z, term.Z[[7, 3, 20]], atol=1e-14)
        np.testing.assert_array_equal(codes, term.codes[[7, 3, 20]])
    if design.offset is not None:
        assert part.offset is not None
        np.testing.assert_array_equal(part.offset, design.offset[[7, 3, 20]])


def test_like_named_columns_keep_their_own_means() -> None:
    frame = FRAME.with_columns(my_x=10 * pl.col("my x"))
    for formula in (
        "y ~ center(`my x`) + center(my_x) + (1 | g)",
        "y ~ I(center(`my x`) - center(my_x)) + (1 | g)",
    ):
        design = build_design(formula, frame)
        np.testing.assert_allclose(design_rows(design, frame[:5]).X, design.X[:5])


def test_unseen_groups_are_minus_one() -> None:
    design = build_design("y ~ x + (1 | g/h)", FRAME)
    new = FRAME[:3].with_columns(g=pl.Series([0, 77, 1]), h=pl.Series(["u", "u", "new"]))
    outer, inner = design_rows(design, new).codes
    assert outer.tolist() == [0, -1, 1]
    assert inner.tolist() == [design.terms[1].levels.to_list().index("0:u"), -1, -1]


def test_population_prediction_needs_no_groups() -> None:
    design = build_design("y ~ x + (z | g)", FRAME)
    rows = design_rows(design, FRAME.select("x"), random=False)
    np.testing.assert_array_equal(rows.X, design.X)
    assert (rows.Z, rows.codes) == ((), ())


def test_incomplete_rows_are_left_out_and_counted() -> None:
    design = build_design("y ~ x + (z | g)", FRAME)
    new = FRAME[:4].with_columns(
        x=pl.Series([1.0, None, 3.0, 4.0]), z=pl.Series([1.0, 2.0, 3.0, float("nan")])
    )
    rows = design_rows(design, new)
    assert rows.rows.tolist() == [0, 2]
    assert rows.n_rows == 4
    assert rows.dropped.total == 2
    assert dict(rows.dropped.by_column) == {"x": 1, "z": 1}
    assert design_rows(design, new, random=False).rows.tolist() == [0, 2, 3]
    with pytest.raises(DataError, match="missing values in 'x'"):
        design_rows(design, new, missing="raise")


def test_text_enum_and_categorical_are_one_kind() -> None:
    design = build_design("y ~ f + (1 | h)", FRAME)
    as_enum = FRAME.with_columns(
        pl.col("f").cast(pl.Enum(["c", "b", "a"])), pl.col("h").cast(pl.Categorical)
    )
    rows = design_rows(design, as_enum)
    np.testing.assert_array_equal(rows.X, design.X)
    np.testing.assert_array_equal(rows.codes[0], design.terms[0].codes)


def test_offset_argument() -> None:
    by_name = build_design("y ~ x + (1 | g)", FRAME, offset="z")
    np.testing.assert_array_equal(design_rows(by_name, FRAME[:3]).offset, FRAME["z"][:3])
    by_array = build_design("y ~ x + (1 | g)", FRAME, offset=np.arange(N))
    with pytest.raises(DataError, match="give offset= for them"):
        design_rows(by_array, FRAME[:3])
    rows = design_rows(by_array, FRAME[:3], offset=[1, 2, 3])
    assert rows.offset is not None
    assert rows.offset.tolist() == [1, 2, 3]


def test_extrapolation() -> None:
    beyond = FRAME[:2].with_columns(x=pl.lit(99.0))
    with pytest.raises(FormulaError, match="extrapolation='extend'"):
        design_rows(build_design("y ~ bs(x, df=4) + (1 | g)", FRAME), beyond)
    extended = build_design("y ~ bs(x, df=4, extrapolation='extend') + (1 | g)", FRAME)
    assert np.abs(design_rows(extended, beyond).X).max() > 10


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"f": pl.lit(1.0)}, DataError, "'f', a variable, was text in the fit.* number"),
        ({"x": pl.lit("a")}, DataError, "'x', a variable, was number in the fit.* text"),
        ({"b": pl.lit("a")}, DataError, "'b', a variable, was true/false"),
        ({"g": pl.lit("a")}, DataError, "'g', a grouping factor, was number"),
        ({"f": pl.lit("zz")}, DataError, "f: the level 'zz' is not one of the known .*'a', 'b'"),
        ({"i": pl.lit(9)}, DataError, r"C\(i\): the level 9 is not one of the known"),
        ({"x": pl.lit(float("inf"))}, DataError, "'x' is infinite"),
        ({"z": pl.lit(-1.0)}, DataError, r"log\(z\) is nan"),
    ],
)
def test_frames_that_do_not_fit(
    change: dict[str, pl.Expr], kind: type[LmmkitError], words: str
) -> None:
    design = build_design("y ~ x + f + b + C(i) + log(z) + (1 | g)", FRAME)
    with pytest.raises(kind, match=words):
        design_rows(design, FRAME[:3].with_columns(**change))


def test_a_missing_column() -> None:
    design = build_design("y ~ x + (1 | g)", FRAME)
    with pytest.raises(ColumnNotFoundError, match="needs a column 'g'"):
        design_rows(design, FRAME.drop("g"))


def test_a_design_from_arrays_has_no_formula() -> None:
    x = FRAME["x"].to_numpy()
    design = build_design_from_arrays(FRAME["y"], x, [("g", np.ones(N), FRAME["g"])])
    with pytest.raises(ArgumentError, match="built from arrays"):
        design_rows(design, FRAME)
