"""The bundled tables: shape, types, missing values, provenance, and facts known from print."""

import polars as pl
import pytest

from lmmkit import datasets
from lmmkit.errors import DataError, LmmkitError

ROWS = {
    "cake": 270,
    "dietox": 861,
    "Dyestuff": 30,
    "Dyestuff2": 30,
    "ergoStool": 36,
    "Machines": 54,
    "Oats": 72,
    "Orthodont": 108,
    "Pastes": 60,
    "Penicillin": 144,
    "Rail": 18,
    "sleepstudy": 180,
}
LEVELS = {
    ("cake", "replicate"): 15,
    ("cake", "recipe"): 3,
    ("cake", "temperature"): 6,
    ("dietox", "Pig"): 72,
    ("dietox", "Evit"): 3,
    ("dietox", "Cu"): 3,
    ("dietox", "Litter"): 21,
    ("Dyestuff", "Batch"): 6,
    ("Dyestuff2", "Batch"): 6,
    ("ergoStool", "Type"): 4,
    ("ergoStool", "Subject"): 9,
    ("Machines", "Worker"): 6,
    ("Machines", "Machine"): 3,
    ("Oats", "Block"): 6,
    ("Oats", "Variety"): 3,
    ("Orthodont", "Subject"): 27,
    ("Orthodont", "Sex"): 2,
    ("Pastes", "batch"): 10,
    ("Pastes", "cask"): 3,
    ("Pastes", "sample"): 30,
    ("Penicillin", "plate"): 24,
    ("Penicillin", "sample"): 6,
    ("Rail", "Rail"): 6,
    ("sleepstudy", "Subject"): 18,
}


def test_names_lists_every_table_in_order() -> None:
    assert datasets.names() == tuple(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_rows_columns_and_missing_values(name: str) -> None:
    frame = datasets.load(name)
    assert frame.height == ROWS[name]
    assert frame.columns == [column.name for column in datasets.describe(name).columns]
    missing = {column: n for column in frame.columns if (n := frame[column].null_count())}
    assert missing == ({"Feed": 72} if name == "dietox" else {})


@pytest.mark.parametrize("name", ROWS)
def test_factors_are_text_with_the_known_number_of_levels(name: str) -> None:
    frame = datasets.load(name)
    text = {c: frame[c].n_unique() for c, t in frame.schema.items() if t == pl.String}
    assert text == {column: n for (table, column), n in LEVELS.items() if table == name}
    assert all(t in (pl.Int64, pl.Float64, pl.String) for t in frame.dtypes)
    for column in text:
        assert frame[column].str.strip_chars().str.len_chars().min() != 0


@pytest.mark.parametrize("name", ROWS)
def test_every_table_says_where_it_is_from(name: str) -> None:
    text = str(datasets.describe(name))
    assert text.startswith(f"{name}: ")
    assert "Publication: " in text
    assert "Table from: R package " in text
    assert "Licence: measurements as published" in text
    for column in datasets.load(name).columns:
        assert f"\n  {column} " in text


def test_known_values() -> None:
    # Davies & Goldsmith 1972: the mean yield is 1527.5; Belenky 2003 as in lme4: 249.5600 first.
    assert datasets.load("Dyestuff")["Yield"].mean() == 1527.5
    assert datasets.load("sleepstudy").row(0) == (249.56, 0, "308")
    assert datasets.load("dietox").row(1)[:2] == ("4601", "Evit000")
    # Potthoff & Roy 1964: 16 boys and 11 girls, four visits each.
    counts = datasets.load("Orthodont")["Sex"].value_counts()
    assert dict(counts.iter_rows()) == {"Male": 64, "Female": 44}


def test_designs_are_balanced_as_published() -> None:
    for name, factors in {
        "Penicillin": ["plate", "sample"],
        "Oats": ["Block", "Variety"],
        "Machines": ["Worker", "Machine"],
        "cake": ["recipe", "replicate"],
        "ergoStool": ["Subject", "Type"],
    }.items():
        assert datasets.load(name).group_by(factors).len()["len"].n_unique() == 1


def test_load_returns_independent_frames() -> None:
    first = datasets.load("Rail")
    first[0, "travel"] = -1
    assert datasets.load("Rail")["travel"].min() != -1


@pytest.mark.parametrize(
    ("name", "near"),
    [("diettox", "'dietox'"), ("orthodont", "'Orthodont'"), ("SleepStudy", "'sleepstudy'")],
)
def test_an_unknown_name_suggests_the_nearest(name: str, near: str) -> None:
    for function in (datasets.load, datasets.describe):
        with pytest.raises(DataError, match=f"got '{name}'. Did you mean {near}"):
            function(name)


def test_a_name_near_nothing_lists_the_tables() -> None:
    with pytest.raises(LmmkitError, match=r"The tables are: cake, dietox, Dyestuff"):
        datasets.load("qqqq")
