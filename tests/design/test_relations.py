"""Relations between levels in a design: levels matched by name, whatever their order and type."""

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import fit
from lmmkit.design import (
    LevelCovariance,
    RandomTerm,
    build_design,
    build_design_from_arrays,
    design_rows,
    incidence,
    level_covariance,
)
from lmmkit.errors import ArgumentError, DataError, LmmkitError
from tests.design.frames import N, mixed_frame

FRAME = mixed_frame().with_columns(
    animal=pl.Series([f"a{k}" for k in np.random.default_rng(8).integers(0, 9, N)]),
    dam=pl.Series([f"a{k}" for k in np.random.default_rng(9).integers(4, 12, N)]),
)
NAMES = [f"a{k}" for k in (7, 11, 2, 0, 9, 4, 1, 3, 10, 8, 6, 5)]


def relation_of(names: Any) -> LevelCovariance:
    """A covariance whose entries tell which two levels they belong to."""
    m = len(names)
    A = np.random.default_rng(m).normal(size=(m, m))
    return level_covariance(A @ A.T, names)


RELATION = relation_of(NAMES)


def test_all_levels_in_the_order_of_the_relation_and_rows_by_name() -> None:
    design = build_design("y ~ x + (x || animal)", FRAME, relations={"animal": RELATION})
    for term in design.terms:
        assert term.relation is RELATION
        assert term.levels.to_list() == NAMES
        assert term.levels.gather(term.codes).to_list() == FRAME["animal"].to_list()


def test_the_order_of_the_relation_does_not_matter() -> None:
    order = np.random.default_rng(2).permutation(len(NAMES))
    K = RELATION.root @ RELATION.root.T
    shuffled = level_covariance(K[np.ix_(order, order)], [NAMES[i] for i in order])
    of_rows = []
    for relation in (RELATION, shuffled):
        design = build_design("y ~ 1 + (1 | animal)", FRAME, relations={"animal": relation})
        (term,) = design.terms
        root = relation.root[term.codes]
        of_rows.append(root @ root.T)
    np.testing.assert_allclose(of_rows[0], of_rows[1], atol=1e-12)


DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (pl.col("animal").cast(pl.Categorical), NAMES),
        (pl.col("animal").cast(pl.Enum(sorted(NAMES))), pl.Series(NAMES, dtype=pl.Categorical)),
        (pl.col("animal"), pl.Series(NAMES, dtype=pl.Enum(NAMES))),
        (pl.col("i").cast(pl.Int8), [9, 4, 3, 2, 1]),
        (pl.col("i"), np.array([4, 3, 2, 1, 0], dtype=np.uint8)),
        (pl.col("b"), [True, False]),
        (pl.lit(DAY) + pl.duration(days="i"), [DAY + datetime.timedelta(k) for k in range(6)]),
    ],
)
def test_keys_of_every_type(data: pl.Expr, levels: Any) -> None:
    frame = FRAME.with_columns(k=data)
    (term,) = build_design("y ~ 1 + (1 | k)", frame, relations={"k": relation_of(levels)}).terms
    assert term.levels.to_list() == list(levels)
    assert term.levels.gather(term.codes).to_list() == frame["k"].to_list()


def test_combinations_are_matched_by_their_labels() -> None:
    labels = [f"{g}:{h}" for h in "vwu" for g in range(7)]
    design = build_design("y ~ x + (1 | g:h)", FRAME, relations={"g:h": relation_of(labels)})
    rows = [f"{g}:{h}" for g, h in FRAME.select("g", "h").rows()]
    (term,) = design.terms
    assert term.levels.gather(term.codes).to_list() == rows
    new = pl.DataFrame({"x": [1.0] * 3, "g": [6, 0, 9], "h": ["w", "u", "u"]})
    assert design_rows(design, new).codes[0].tolist() == [
        labels.index("6:w"),
        labels.index("0:u"),
        -1,
    ]


def test_memberships_take_a_relation() -> None:
    design = build_design(
        "y ~ x + (1 | mm(animal, dam)) + (1 | g)", FRAME, relations={"mm(animal, dam)": RELATION}
    )
    term, plain = design.terms
    assert plain.relation is None
    assert term.relation is RELATION
    for j, name in enumerate(("animal", "dam")):
        assert term.levels.gather(term.codes[:, j]).to_list() == FRAME[name].to_list()


def test_new_rows_may_name_any_level_of_the_relation() -> None:
    assert not {"a9", "a10"} & set(FRAME["animal"])
    formula = "y ~ x + (1 | animal) + (1 | mm(animal, dam))"
    relations = {"animal": RELATION, "mm(animal, dam)": RELATION}
    design = build_design(formula, FRAME, relations=relations)
    new = pl.DataFrame(
        {"x": [1.0, 2.0, 3.0], "animal": ["a9", "a0", "?"], "dam": ["a10", None, "a7"]}
    )
    one, several = design_rows(design, new).codes
    assert one.tolist() == [4, 3, -1]
    assert several.tolist() == [[4, 8], [3, 3], [-1, 0]]


def test_arrays_and_records_take_relations() -> None:
    by_formula = build_design("y ~ 1 + (1 | animal)", FRAME, relations={"animal": RELATION})
    ones, animals = np.ones(N), FRAME["animal"]
    levels = animals.unique().sort()
    codes = np.array([levels.to_list().index(name) for name in animals], dtype=np.int32)
    record = RandomTerm("animal", ("Intercept",), ones[:, None], codes, levels)
    for term in (("animal", ones, animals), record):
        design = build_design_from_arrays(FRAME["y"], ones, [term], relations={"animal": RELATION})
        assert design.terms == by_formula.terms
    again = build_design_from_arrays(FRAME["y"], ones, by_formula.terms)
    assert again.terms == by_formula.terms
    matrix = np.random.default_rng(0).normal(size=(N, 3))
    loaded = ("animal", ones, incidence(matrix, ["a2", "a0", "a11"]))
    design = build_design_from_arrays(FRAME["y"], ones, [loaded], relations={"animal": RELATION})
    assert design.terms[0].codes[0].tolist() == [2, 3, 1]


def test_as_many_animals_as_records_are_legal() -> None:
    frame = FRAME.with_columns(animal=pl.int_range(N))
    with pytest.raises(DataError, match="a level of its own"):
        build_design("y ~ x + (1 | animal)", frame)
    relation = relation_of(range(N + 3))
    (term,) = build_design("y ~ x + (1 | animal)", frame, relations={"animal": relation}).terms
    assert len(term.levels) == N + 3
    for multiple, words in ((1.0, "a level of its own"), (3.0, "a level of its own")):
        same = level_covariance(multiple * np.eye(N), range(N))
        with pytest.raises(DataError, match=words):
            build_design("y ~ x + (1 | animal)", frame, relations={"animal": same})


def test_levels_without_rows_do_not_count() -> None:
    identity = level_covariance(np.eye(2 * N), range(2 * N))
    (term,) = build_design("y ~ x + (1 | g)", FRAME, relations={"g": identity}).terms
    assert len(term.levels) == 2 * N
    frame = FRAME.with_columns(g=pl.lit(7))
    with pytest.raises(DataError, match="has one level, 7"):
        build_design("y ~ x + (1 | g)", frame, relations={"g": identity})


@pytest.mark.parametrize(
    ("relations", "kind", "words"),
    [
        (
            {"beast": RELATION},
            ArgumentError,
            "no random term has the grouping factor 'beast'; .* are: 'animal', 'g'",
        ),
        ([("animal", RELATION)], ArgumentError, "relations: expected a dictionary.* got list"),
        ({"animal": np.eye(9)}, ArgumentError, r"relations\['animal'\]: expected .* got ndarray"),
        (
            {"animal": relation_of(range(12))},
            DataError,
            r"its levels are number \(Int64\), those of the data text \(String\)",
        ),
        (
            {"animal": relation_of(NAMES[:3])},
            DataError,
            r"lacks 7 of the 9 levels of the data: 'a0', 'a1', 'a3', 'a4', 'a5', \.\.\.; add",
        ),
        ({"animal": relation_of([*NAMES[:-1], "?"])}, DataError, "lacks 1 of .*: 'a5'; add them"),
    ],
)
def test_wrong_relations(relations: Any, kind: type[LmmkitError], words: str) -> None:
    with pytest.raises(kind, match=words):
        build_design("y ~ x + (1 | animal) + (1 | g)", FRAME, relations=relations)


def test_a_model_without_random_terms_has_no_group() -> None:
    with pytest.raises(ArgumentError, match="those of this model are: none"):
        build_design("y ~ x", FRAME, relations={"animal": RELATION})


def test_a_term_has_one_relation() -> None:
    terms = build_design("y ~ 1 + (1 | animal)", FRAME, relations={"animal": RELATION}).terms
    with pytest.raises(ArgumentError, match="on 'animal' has a relation already"):
        build_design_from_arrays(FRAME["y"], np.ones(N), terms, relations={"animal": RELATION})


def test_fit_passes_relations_on() -> None:
    with pytest.raises(ArgumentError, match="no random term has the grouping factor 'beast'"):
        fit("y ~ x + (1 | animal)", FRAME, relations={"beast": RELATION})
