"""Wrong calls of build_design, each with the class of the error and the words a user needs."""

import datetime

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design
from lmmkit.errors import ArgumentError, ColumnNotFoundError, DataError, FormulaError, LmmkitError
from tests.design.frames import N, mixed_frame

FRAME = mixed_frame().with_columns(
    inf=pl.when(pl.col("x") < 2).then(float("inf")).otherwise("x"),
    gap=pl.when(pl.int_range(N) == 4).then(None).otherwise("x"),
    nothing=pl.lit(None, dtype=pl.Float64),
    constant=pl.lit(7.5),
    zero=pl.when(pl.int_range(N) == 4).then(0.0).otherwise("w"),
    one=pl.lit("only"),
    wide=pl.col("g").cast(pl.Int128),
    row=pl.int_range(N),
    pair=pl.int_range(N) // 2,
    day=pl.lit(datetime.date(2020, 1, 1)),
    listed=pl.lit([1, 2]),
)
DAYS = 7  # a formula does not see the variables around it


@pytest.mark.parametrize(
    ("formula", "kind", "words"),
    [
        ("y ~ xx + (1 | g)", ColumnNotFoundError, "column 'xx'.* did you mean 'x'"),
        ("y ~ x + (1 | gg)", ColumnNotFoundError, "column 'gg'.* did you mean 'g'"),
        ("y ~ log(xx) + (1 | g)", ColumnNotFoundError, "column 'xx'"),
        ("y ~ `no x` + (1 | g)", ColumnNotFoundError, r"'no x', .* have\. Its columns are: y"),
        ("y ~ Q('my x') + (1 | g)", FormulaError, "write the column in backticks: `my x`"),
        ("y ~ Q(f) + (1 | g)", FormulaError, "in backticks: `my column`"),
        ("y ~ x + (1 | wide)", DataError, r"'wide' is Int128.*64 bits.*cast\(pl.String\) where"),
        ("y ~ I(x * DAYS) + (1 | g)", ColumnNotFoundError, "column 'DAYS'"),
        ("y ~ lgo(x) + (1 | g)", FormulaError, r"calls lgo\(\).* did you mean log\(\)"),
        ("y ~ open('x') + (1 | g)", FormulaError, r"calls open\(\)"),
        ("f ~ x + (1 | g)", DataError, "response 'f' is String; expected numbers"),
        ("b ~ x + (1 | g)", DataError, "response 'b' is Boolean.* cast"),
        ("day ~ x + (1 | g)", DataError, "response 'day' is Date"),
        ("poly(y, 2) ~ x + (1 | g)", DataError, "expected one column of numbers"),
        ("C(i) ~ x + (1 | g)", DataError, "expected one column of numbers"),
        ("C(one) ~ x + (1 | g)", DataError, "expected one column of numbers"),
        ("y ~ offset(f) + (1 | g)", DataError, r"the offset 'f' gives the columns f\[a\], f\[b\]"),
        ("y ~ offset(poly(x, 2)) + (1 | g)", DataError, "expected one column of numbers"),
        ("constant ~ x + (1 | g)", DataError, r"'constant' is constant \(7.5 in all 60 rows\)"),
        ("y ~ inf + (1 | g)", DataError, "column 'inf' is infinite in .* first in row"),
        ("inf ~ x + (1 | g)", DataError, "column 'inf' is infinite"),
        ("y ~ nothing + (1 | g)", DataError, r"every row has a missing value: 'nothing' \(60 of"),
        ("y ~ x + (1 | x)", DataError, "'x' is Float64; expected whole numbers.* cast"),
        ("y ~ x + (1 | g:x)", DataError, "'x' is Float64"),
        ("y ~ x + (1 | one)", DataError, "one level, 'only'; at least two"),
        ("y ~ x + (1 | row)", DataError, "every one of the 60 rows has a level of its own"),
        ("y ~ x + (x | pair)", DataError, r"observations \(60\) is not larger .*2 x 30 levels"),
        ("y ~ x + (0 + x | row)", DataError, r"1 x 60 levels = 60\)"),
        ("y ~ poly(x, 30) + poly(z, 30) + (1 | g)", DataError, "60 rows leave nothing"),
        ("y ~ day + (1 | g)", DataError, "'day' is Date, which can be neither"),
        ("y ~ listed + (1 | g)", DataError, "'listed' is List"),
        ("y ~ one + (1 | g)", DataError, "one: a factor needs at least two levels.* 'only'"),
        ("y ~ C(x) + (1 | g)", DataError, r"C\(x\): .* whole numbers.*cut\(\)"),
        ("y ~ C(f, levels=['a', 'b']) + (1 | g)", DataError, "level 'c' is not one of the known"),
        ("y ~ C(f, levels=[1, 2]) + (1 | g)", DataError, "of 'f' are text, the levels number"),
        ("y ~ C(f, contr.treatment(base='q')) + (1 | g)", DataError, "contrasts do not fit"),
        ("y ~ C(poly(x, 2)) + (1 | g)", DataError, "takes one column"),
        ("y ~ log(x - 3) + (1 | g)", DataError, r"log\(x - 3\) is (nan|-inf) in .* first in row"),
        ("y ~ I(3) + (1 | g)", DataError, r"I\(3\) does not give one value a row"),
        ("y ~ log(f) + (1 | g)", FormulaError, r"'log\(f\)' could not be computed"),
        ("y ~ log(log) + (1 | g)", FormulaError, r"'log' hides the function log\(\); rename"),
        ("y ~ cut(x, 3) + (1 | g)", DataError, "break points as a list"),
        ("y ~ cut(x, [2, 3]) + (1 | g)", DataError, "in none of the intervals .*widen"),
        ("y ~ ns(x) + (1 | g)", DataError, "give either df or knots"),
        ("y ~ ns(x, df=0) + (1 | g)", DataError, "df of at least 1"),
        ("y ~ bs(x, df=1) + (1 | g)", FormulaError, "could not be computed.*df"),
        ("y ~ x:f + `x:f[a]` + (1 | g)", DataError, "rename a column"),
    ],
)  # fmt: skip
def test_formula_and_frame(formula: str, kind: type[LmmkitError], words: str) -> None:
    frame = FRAME.with_columns(pl.col("z").alias("x:f[a]"))
    with pytest.raises(kind, match=words):
        build_design(formula, frame)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"missing": "omit"}, ArgumentError, "'drop' or 'raise', got 'omit'"),
        ({"weights": "ww"}, ColumnNotFoundError, "weights needs a column 'ww'.*did you mean 'w'"),
        ({"weights": "f"}, DataError, "'f' is String"),
        ({"weights": "zero"}, DataError, "'zero' must be positive; 1 are not.*drop the rows"),
        ({"weights": -np.ones(N)}, DataError, "'weights array' must be positive; 60"),
        ({"weights": [1.0, 2.0]}, DataError, "one number a row of the frame, 60 in all, got 2"),
        ({"weights": 2.0}, DataError, "one number a row"),
        ({"weights": pl.col("w")}, DataError, "weights: .* got a Polars expression; make it"),
        ({"offset": np.ma.masked_equal(FRAME["g"], 2)}, DataError, "offset: 10 entries"),
        ({"offset": object()}, DataError, "offset"),
        ({"offset": "inf"}, DataError, "'inf' is infinite"),
        ({"offset": "y"}, DataError, "'y' is constant"),
    ],
)  # fmt: skip
def test_arguments(arguments: dict[str, object], kind: type[LmmkitError], words: str) -> None:
    with pytest.raises(kind, match=words):
        build_design("y ~ x + (1 | g)", FRAME, **arguments)  # type: ignore[arg-type]


def test_missing_values_can_be_refused() -> None:
    with pytest.raises(DataError, match=r"missing values in 'gap' \(1 of 60\)"):
        build_design("y ~ gap + (1 | g)", FRAME, missing="raise")


def test_an_empty_frame() -> None:
    with pytest.raises(DataError, match="the frame has no rows"):
        build_design("y ~ x + (1 | g)", FRAME.clear())


@pytest.mark.parametrize("frame", [None, 3, [1, 2], np.ones((3, 2)), {"y": [1], "x": [1, 2]}])
def test_what_is_no_frame(frame: object) -> None:
    with pytest.raises(DataError, match="polars"):
        build_design("y ~ x + (1 | g)", frame)


def test_one_row_a_level_is_estimable_with_unequal_weights() -> None:
    design = build_design("y ~ x + (1 | row)", FRAME, weights="w")
    assert len(design.terms[0].levels) == N


def test_the_first_row_named_is_the_users_row() -> None:
    frame = FRAME.with_columns(
        bad=pl.when(pl.int_range(N) == 20).then(-1.0).otherwise(1.0 + pl.col("x")),
    )
    with pytest.raises(DataError, match=r"nan in 1 rows .* first in row 20"):
        build_design("y ~ sqrt(bad) + gap + (1 | g)", frame)
