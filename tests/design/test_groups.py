"""Levels and codes of grouping factors of every type, by every way of finding them."""

import datetime

import numpy as np
import polars as pl
import pytest

from lmmkit.design import groups as module
from lmmkit.design.groups import find_groups, levels_and_codes, match_groups, match_levels

DAY = datetime.date(2020, 1, 1)
COLUMNS = {
    "dense": pl.Series([5, 3, 5, 4, 3]),
    "negative": pl.Series([-100, 100, -100, 0, 27], dtype=pl.Int8),
    "sparse": pl.Series([10**15, 3, -(10**15), 3, 8]),
    "sparse sorted": pl.Series([-(10**15), 3, 3, 3, 10**15]),
    "unsigned": pl.Series([2**63 + 5, 2**63, 2**63 + 5, 2**63 + 1, 2**63], dtype=pl.UInt64),
    "text": pl.Series(["b", "a", "b", "ä", "C"]),
    "true/false": pl.Series([True, False, True, True, False]),
    "dates": pl.Series([DAY + datetime.timedelta(days) for days in (3, 1, 3, 400, 1)]),
    "times": pl.Series([datetime.datetime(2020, 1, d) for d in (3, 1, 3, 9, 1)]),
    "categorical": pl.Series(["b", "a", "b", "z", "C"], dtype=pl.Categorical),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_codes_are_positions_among_the_sorted_levels(name: str) -> None:
    series = COLUMNS[name].alias("g")
    levels, codes = levels_and_codes(series)
    values = series.to_list()
    assert levels.to_list() == sorted(set(values))
    assert levels.gather(codes).to_list() == values
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(match_levels(series, levels), codes)


def test_enum_levels_keep_their_order() -> None:
    series = pl.Series(["c", "a", "c"], dtype=pl.Enum(["c", "b", "a"]))
    levels, codes = levels_and_codes(series)
    assert levels.to_list() == ["c", "a"]
    assert codes.tolist() == [0, 1, 0]


def test_long_text_columns_give_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    series = pl.Series(np.random.default_rng(0).integers(0, 50, 400)).cast(pl.String)
    levels, codes = levels_and_codes(series)
    monkeypatch.setattr(module, "_LARGE", 10)
    long_levels, long_codes = levels_and_codes(series)
    assert long_levels.equals(levels)
    np.testing.assert_array_equal(long_codes, codes)


def test_combinations_and_their_match() -> None:
    columns = {
        "a": pl.Series(["x", "y", "x", "y", "x"]),
        "b": pl.Series([10, 2, 2, 2, 10]),
        "c": pl.Series(["u", "u", "v", "u", "v"]),
    }
    groups, codes = find_groups(("a", "b", "c"), columns)
    assert groups.labels.to_list() == ["x:2:v", "x:10:u", "x:10:v", "y:2:u"]
    assert codes.tolist() == [1, 3, 0, 3, 2]
    new = {
        "a": pl.Series(["y", "x", "x", "q"]),
        "b": pl.Series([2, 10, 2, 2]),
        "c": pl.Series(["u", "v", "u", "u"]),
    }
    assert match_groups(groups, new).tolist() == [3, 2, -1, -1]


def test_labels_that_look_alike_stay_different_levels() -> None:
    columns = {"a": pl.Series(["p:q", "p"]), "b": pl.Series(["r", "q:r"])}
    groups, codes = find_groups(("a", "b"), columns)
    assert groups.labels.to_list() == ["p:q:r", "p:q:r"]
    assert sorted(codes.tolist()) == [0, 1]


def test_a_narrower_integer_type_matches() -> None:
    levels, _ = levels_and_codes(pl.Series([1, 2], dtype=pl.Int8))
    assert match_levels(pl.Series([2, 258, 1]), levels).tolist() == [1, -1, 0]
