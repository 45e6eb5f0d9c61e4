"""Designs from formulas: the columns, their names, and what is done with the rows."""

import pickle
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmmkit.design import build_design
from lmmkit.errors import DataError
from lmmkit.formula import parse_formula
from lmmkit.records import FloatArray
from tests.design.frames import N, mixed_frame
from tests.helpers import ReferenceCase, reference_cases

FRAME = mixed_frame()


def dummies(name: str, levels: list[str]) -> FloatArray:
    return np.stack([(FRAME[name] == level).to_numpy().astype(float) for level in levels], axis=1)


def test_random_slope() -> None:
    design = build_design("y ~ x + (x | g)", FRAME)
    assert design.x_names == ("Intercept", "x")
    np.testing.assert_array_equal(design.X, np.column_stack([np.ones(N), FRAME["x"]]))
    np.testing.assert_array_equal(design.y, FRAME["y"])
    (term,) = design.terms
    assert (term.group, term.names) == ("g", ("Intercept", "x"))
    assert term.Z is design.X
    np.testing.assert_array_equal(term.levels.gather(term.codes), FRAME["g"])
    np.testing.assert_array_equal(design.rows, np.arange(N))
    assert design.x_terms == (("Intercept", (0,)), ("x", (1,)))
    assert design.response == "y"
    assert design.formula == parse_formula("y ~ x + (x | g)")


def test_nothing_can_be_written_to() -> None:
    design = build_design("y ~ x + (1 + z | g)", FRAME, weights="w", offset="z")
    term = design.terms[0]
    for array in (
        design.y,
        design.X,
        design.rows,
        design.weights,
        design.offset,
        term.Z,
        term.codes,
    ):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    again = pickle.loads(pickle.dumps(design))
    assert again == design
    assert not again.X.flags.writeable


def test_arrays_that_the_frame_was_made_of_can_change() -> None:
    y, x, w = (FRAME[name].to_numpy().copy() for name in ("y", "x", "w"))
    frame = pl.DataFrame({"y": y, "x": x, "w": w, "g": FRAME["g"]})
    design = build_design("y ~ x + (x | g)", frame, weights="w", offset=w)
    before = pickle.loads(pickle.dumps(design))
    y[0], x[0], w[0] = 99, 99, 99
    assert design == before


def test_other_users_of_formulaic_are_left_alone() -> None:
    build_design("y ~ x + (1 | g)", FRAME)
    from formulaic.materializers import FormulaMaterializer

    for output in (None, "numpy"):
        assert FormulaMaterializer.for_data(FRAME, output).REGISTER_NAME != "lmmkit"


def test_factors_and_interactions() -> None:
    design = build_design("y ~ x*f + b + (1 | g)", FRAME)
    assert design.x_names == (
        "Intercept", "x", "f[T.b]", "f[T.c]", "b[T.True]", "x:f[T.b]", "x:f[T.c]"
    )  # fmt: skip
    f = dummies("f", ["b", "c"])
    x = FRAME["x"].to_numpy()[:, None]
    b = FRAME["b"].to_numpy().astype(float)
    np.testing.assert_array_equal(design.X, np.column_stack([np.ones(N), x, f, b, x * f]))
    assert dict(design.x_terms)["x:f"] == (5, 6)


def test_without_an_intercept_the_first_factor_has_all_its_levels() -> None:
    design = build_design("y ~ 0 + f + (0 + f | g)", FRAME)
    assert design.x_names == ("f[a]", "f[b]", "f[c]")
    np.testing.assert_array_equal(design.X, dummies("f", ["a", "b", "c"]))
    assert design.terms[0].names == design.x_names


def test_sum_contrasts() -> None:
    design = build_design("y ~ C(f, contr.sum) + (1 | g)", FRAME)
    a, b, c = dummies("f", ["a", "b", "c"]).T
    np.testing.assert_array_equal(design.X, np.column_stack([np.ones(N), a - c, b - c]))


def test_whole_numbers_as_a_factor() -> None:
    design = build_design("y ~ C(i) + (1 | g)", FRAME)
    assert design.x_names == ("Intercept", "C(i)[T.2]", "C(i)[T.3]", "C(i)[T.4]")
    np.testing.assert_array_equal(design.X[:, 1], (FRAME["i"] == 2).to_numpy())


def test_levels_in_the_order_asked_for() -> None:
    design = build_design("y ~ C(f, levels=['c', 'a', 'b']) + (1 | g)", FRAME)
    np.testing.assert_array_equal(design.X[:, 1:], dummies("f", ["a", "b"]))


@pytest.mark.parametrize("formula", ["y ~ f + (1 | g)", "y ~ C(f) + (1 | g)"])
def test_enum_keeps_its_order_and_loses_unused_levels(formula: str) -> None:
    frame = FRAME.with_columns(pl.col("f").cast(pl.Enum(["c", "unused", "b", "a"])))
    np.testing.assert_array_equal(build_design(formula, frame).X[:, 1:], dummies("f", ["b", "a"]))


def test_categorical_is_sorted_as_text() -> None:
    frame = FRAME.sort("f", descending=True).with_columns(pl.col("f").cast(pl.Categorical))
    assert build_design("y ~ f + (1 | g)", frame).x_names == ("Intercept", "f[T.b]", "f[T.c]")


def test_small_integers_do_not_wrap_around() -> None:
    frame = FRAME.with_columns((100 + pl.col("i")).cast(pl.Int8).alias("k"))
    design = build_design("y ~ I(k * k) + (1 | g)", frame)
    np.testing.assert_array_equal(design.X[:, 1], (100.0 + FRAME["i"].to_numpy()) ** 2)


def test_a_column_may_be_named_like_a_function() -> None:
    frame = FRAME.with_columns(log=pl.col("z"))
    design = build_design("y ~ log(x) + log + I(log**2) + (1 | g)", frame)
    x, z = FRAME["x"].to_numpy(), FRAME["z"].to_numpy()
    np.testing.assert_allclose(design.X, np.column_stack([np.ones(N), np.log(x), z, z**2]))


def test_backticked_names() -> None:
    frame = FRAME.rename({"y": "my y", "g": "my g"})
    design = build_design("`my y` ~ I(`my x` * 2) + `my x`:x + (`my x` | `my g`)", frame)
    m, x = FRAME["my x"].to_numpy(), FRAME["x"].to_numpy()
    np.testing.assert_allclose(design.X[:, 1:], np.column_stack([2 * m, m * x]))
    assert design.terms[0].group == "my g"
    np.testing.assert_array_equal(design.y, FRAME["y"])


def test_response_and_offset_are_expressions() -> None:
    design = build_design(
        "log(w) ~ x + offset(log(z)) + offset(`my x`) + (1 | g)", FRAME, offset="x"
    )
    np.testing.assert_allclose(design.y, np.log(FRAME["w"]))
    assert design.offset is not None
    np.testing.assert_allclose(
        design.offset, np.log(FRAME["z"].to_numpy()) + FRAME["my x"] + FRAME["x"]
    )


def test_weights_and_offset_by_name_or_as_arrays() -> None:
    by_name = build_design("y ~ x + (1 | g)", FRAME, weights="w", offset="z")
    as_arrays = build_design(
        "y ~ x + (1 | g)", FRAME, weights=FRAME["w"].to_numpy(), offset=FRAME["z"].to_list()
    )
    assert by_name == as_arrays
    np.testing.assert_array_equal(by_name.weights, FRAME["w"])


def test_nested_and_crossed_groups() -> None:
    design = build_design("y ~ 1 + (1 | g/h)", FRAME)
    outer, inner = design.terms
    assert (outer.group, inner.group) == ("g", "g:h")
    labels = [f"{g}:{h}" for g, h in FRAME.select("g", "h").iter_rows()]
    assert inner.levels.gather(inner.codes).to_list() == labels
    assert inner.levels.to_list() == sorted(set(labels))


def test_uncorrelated_effects_share_their_codes() -> None:
    intercept, slope = build_design("y ~ x + (x || g)", FRAME).terms
    assert (intercept.names, slope.names) == (("Intercept",), ("x",))
    assert intercept.codes is slope.codes


def test_a_model_without_random_terms_is_a_design() -> None:
    assert build_design("y ~ x", FRAME).terms == ()


def test_a_response_may_stand_on_both_sides() -> None:
    assert build_design("y ~ y + (1 | g)", FRAME).x_names == ("Intercept", "y")


def test_dropped_rows_are_counted_by_column() -> None:
    frame = FRAME.with_row_index("n").with_columns(
        x=pl.when(pl.col("n") == 3).then(None).otherwise("x"),
        z=pl.when(pl.col("n").is_in([3, 5])).then(float("nan")).otherwise("z"),
        g=pl.when(pl.col("n") == 7).then(None).otherwise("g"),
        unused=None,
    )
    weights = np.where(np.arange(N) == 9, np.nan, 1.0)
    design = build_design("y ~ x + (z | g)", frame, weights=weights)
    assert design.dropped.total == 4
    assert dict(design.dropped.by_column) == {"x": 1, "z": 2, "g": 1, "weights array": 1}
    np.testing.assert_array_equal(design.rows, np.setdiff1d(np.arange(N), [3, 5, 7, 9]))
    rest = build_design("y ~ x + (z | g)", FRAME[design.rows], weights=np.ones(N - 4))
    np.testing.assert_array_equal(design.X, rest.X)
    np.testing.assert_array_equal(design.terms[0].Z, rest.terms[0].Z)


def test_transforms_and_levels_come_from_the_rows_that_remain() -> None:
    frame = FRAME.with_columns(
        x=pl.when(pl.col("f") == "a").then(None).otherwise("x"), z=pl.col("z") - 3
    )
    design = build_design("y ~ center(x) + f + (1 | g)", frame)
    assert design.x_names == ("Intercept", "center(x)", "f[T.c]")
    assert abs(design.X[:, 1].sum()) < 1e-12


def test_a_lazy_frame_and_a_mapping_are_frames() -> None:
    expected = build_design("y ~ x + (x | g)", FRAME)
    assert build_design("y ~ x + (x | g)", FRAME.lazy()) == expected
    assert build_design("y ~ x + (x | g)", FRAME.to_dict(as_series=False)) == expected


def test_a_pandas_frame_is_converted() -> None:
    pandas = pytest.importorskip("pandas")
    numbers = FRAME.select("y", "x", "g")
    frame = pandas.DataFrame({name: numbers[name].to_numpy() for name in numbers.columns})
    assert build_design("y ~ x + (x | g)", frame) == build_design("y ~ x + (x | g)", FRAME)


def test_pandas_columns_of_every_kind_need_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    kinds = {"f": "category", "g": "Int64", "b": "boolean", "y": "Float64"}
    frame = pandas.DataFrame(FRAME.select("y", "x", "f", "b", "g").to_dict(as_series=False))
    text = frame.astype({"f": "object"})
    for same in (frame, text, frame.astype(kinds), frame.astype({"f": "string"})):
        for formula in ("y ~ x + f + b + (x | g)", "y ~ x + (1 | f)"):
            ours, expected = build_design(formula, same), build_design(formula, FRAME)
            np.testing.assert_array_equal(ours.X, expected.X)
            np.testing.assert_array_equal(ours.terms[0].codes, expected.terms[0].codes)
            assert ours.x_names == expected.x_names
    gaps = frame.astype(kinds | {"g": "float"}).astype({"g": "Int64"})
    gaps.loc[3, "f"] = gaps.loc[4, "g"] = gaps.loc[5, "b"] = None
    gaps.loc[[5, 6], "x"] = np.nan
    dropped = build_design("y ~ x + f + b + (x | g)", gaps).dropped
    assert dropped.total == 4
    assert dict(dropped.by_column) == {"x": 2, "f": 1, "b": 1, "g": 1}


def test_a_pandas_categorical_keeps_its_order() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(FRAME.select("y", "i", "g").to_dict(as_series=False))
    levels = sorted(set(frame["i"]), reverse=True)
    frame["i"] = pandas.Categorical(frame["i"], levels)
    names = build_design("y ~ i + (1 | g)", frame).x_names
    assert names == ("Intercept", *(f"i[T.{level}]" for level in levels[1:]))


def test_pandas_columns_that_cannot_be_read() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"pandas column 'f' \(object\) could not be read"):
        build_design("y ~ f", pandas.DataFrame({"y": [1.0, 2.0], "f": ["a", 1]}))
    with pytest.raises(DataError, match="two columns named 'y'"):
        build_design("y ~ 1", pandas.DataFrame([[1.0, 2.0]], columns=["y", "y"]))
    with pytest.raises(DataError, match="expected a frame, got a pandas Series"):
        build_design("y ~ 1", pandas.Series([1.0, 2.0], name="y"))


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Decimal(10, 2), pl.Int16, pl.UInt64])
def test_numbers_of_every_type_become_float64(dtype: pl.DataType) -> None:
    frame = FRAME.with_columns((pl.col("x") * 8).round().cast(dtype))
    design = build_design("x ~ x + I(x / 2) + (x | g)", frame)
    expected = (8 * FRAME["x"]).round()
    np.testing.assert_array_equal(design.X[:, 1], expected)
    np.testing.assert_array_equal(design.y, expected)
    assert design.aliased == ("I(x / 2)",)


def test_dependent_columns_are_dropped_from_the_right() -> None:
    design = build_design("y ~ x + I(2*x + 1) + f + C(f) + z + (1 | g)", FRAME)
    assert design.x_names == ("Intercept", "x", "f[T.b]", "f[T.c]", "z")
    assert design.aliased == ("I(2 * x + 1)", "C(f)[T.b]", "C(f)[T.c]")
    assert design.x_terms == (("Intercept", (0,)), ("x", (1,)), ("f", (2, 3)), ("z", (4,)))
    np.testing.assert_array_equal(design.X[:, 4], FRAME["z"])


@given(order=st.permutations(range(N)))
def test_row_order_only_permutes_the_rows(order: list[int]) -> None:
    formula = "y ~ x*f + (f | g/h)"
    design, shuffled = build_design(formula, FRAME), build_design(formula, FRAME[order])
    np.testing.assert_array_equal(shuffled.X, design.X[order])
    for term, other in zip(design.terms, shuffled.terms, strict=True):
        np.testing.assert_array_equal(other.codes, term.codes[order])
        np.testing.assert_array_equal(other.Z, term.Z[order])
        assert other.levels.equals(term.levels)


@pytest.mark.parametrize("case", [c for c in reference_cases() if c.modes], ids=str)
def test_columns_and_levels_are_those_of_lme4(case: ReferenceCase) -> None:
    """Our X and Z times lme4's estimates give lme4's fitted values and residuals."""
    design = build_design(case.formula, case.frame())
    assert design.n_obs == case.n_obs
    assert design.x_names == case.names
    by_group = {modes.group: modes for modes in case.modes}
    fitted = design.X @ case.beta
    for term in design.terms:
        theirs = by_group[term.group]
        order = [theirs.levels.index(str(label)) for label in term.levels]
        effects = [theirs.names.index(name) for name in term.names]
        modes = theirs.values[np.ix_(order, effects)]
        fitted = fitted + (term.Z * modes[term.codes]).sum(axis=1)
    np.testing.assert_allclose(fitted[: len(case.fitted_head)], case.fitted_head, rtol=1e-8)
    np.testing.assert_allclose(((design.y - fitted) ** 2).sum(), case.rss_conditional, rtol=1e-8)
