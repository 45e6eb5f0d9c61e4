"""Records are frozen, compare by value, and their arrays stay read-only wherever they go."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import polars as pl
import pytest

from lmmkit import fit_design
from lmmkit.design import Design, GroupBlock, LevelCovariance, RandomTerm, group
from lmmkit.errors import LmmkitError, ShapeError
from lmmkit.likelihood import ml
from lmmkit.moments import Basis, FactorMoments, Moments, collapse, cross_products
from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import adopt, evolve, frozen_array, same
from tests.likelihood.cases import design

Z, CODES, LEVELS = np.ones((3, 1)), np.array([0, 1, 1]), pl.Series(["a", "b"])
PAIRS, LOADS = [[0, 1], [1, 1], [1, 0]], [[0.5, 0.5], [1.0, 0.0], [2.0, -1.0]]
LOADS_BY_GROUP = np.ones((2, 3, 2))


def make_fit() -> Any:
    # a design of the table has no encoding, so that all of the fit is plain data
    return fit_design(design("balanced intercept"))


RECORDS: dict[str, Callable[[], Any]] = {
    "RandomTerm": lambda: design("weights and offset").terms[0],
    "LevelCovariance": lambda: LevelCovariance(LEVELS, np.array([[1.0, 0.0], [0.5, 2.0]])),
    "RandomTerm with a relation and loads": lambda: a_term(
        relation=LevelCovariance(LEVELS, np.eye(2)), codes=PAIRS, loads=LOADS
    ),
    "Design": lambda: design("weights and offset"),
    "GroupBlock": lambda: group(design("weights and offset"))[0],
    "GroupBlock with loads": lambda: a_block(
        levels=(np.zeros((2, 3, 2)),), loads=(LOADS_BY_GROUP,)
    ),
    "Basis": lambda: cross_products(group(design("unbalanced slope"))).basis,
    "Moments": lambda: cross_products(group(design("unbalanced slope"))),
    "Patterns": lambda: collapse(cross_products(group(design("balanced slope")))),
    "Objective": lambda: ml(cross_products(group(design("unbalanced slope")))),
    "NaturalParams": lambda: NaturalParams((np.eye(2), np.eye(1)), 1.5, np.zeros(3)),
    "NaturalParams, stacked": lambda: NaturalParams((np.eye(2),), np.array([1.0, 2.0])),
    "ProfileParams": lambda: ProfileParams((np.eye(2), np.eye(1)), np.zeros(3)),
    "SquareRootParams": lambda: SquareRootParams((np.eye(2), np.eye(1)), np.zeros(3)),
    "Layout": lambda: Layout(3, (2, 1)),
    "Fit": make_fit,
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda record: record,
    "pickle": lambda record: pickle.loads(pickle.dumps(record)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "evolve": evolve,
}
every_record = pytest.mark.parametrize("name", RECORDS)
every_copy = pytest.mark.parametrize("how", COPIES)


def arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from arrays(item)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from arrays(getattr(value, field.name))


@every_record
@every_copy
def test_arrays_cannot_be_written(name: str, how: str) -> None:
    record = COPIES[how](RECORDS[name]())
    for array in arrays(record):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE flag"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE flag"):
            array.view().flags.writeable = True


@every_record
@every_copy
def test_a_copy_is_equal(name: str, how: str) -> None:
    record = RECORDS[name]()
    twin = COPIES[how](record)
    assert type(twin) is type(record)
    assert twin == record


@every_record
def test_fields_cannot_be_set(name: str) -> None:
    record = RECORDS[name]()
    for field in attrs.fields(type(record)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)
    with pytest.raises((AttributeError, attrs.exceptions.FrozenInstanceError)):
        record.something_else = 1


@every_record
def test_records_have_no_hash(name: str) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(RECORDS[name]())


@every_record
def test_one_changed_number_makes_a_difference(name: str) -> None:
    record = RECORDS[name]()
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        if not isinstance(value, np.ndarray) or not value.size or value.dtype.kind != "f":
            continue
        changed = value.copy()
        changed.flat[-1] += 0.5
        assert evolve(record, **{field.name: changed}) != record, field.name


def test_equality_reads_shapes_types_and_nan() -> None:
    profile: Any = ProfileParams((np.eye(2),))
    assert profile != SquareRootParams((np.eye(2),))
    assert profile != (np.eye(2),)
    assert ProfileParams((np.eye(2),)) != ProfileParams((np.eye(2), np.eye(2)))
    assert NaturalParams((), 1.0) != NaturalParams((), 1.0, np.zeros(0))
    assert same(np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    assert not same(np.zeros((1, 2)), np.zeros((2, 1)))
    assert not same(np.zeros(2), np.zeros(2, dtype=np.int32))
    assert not same(np.zeros(2), (0.0, 0.0))
    assert same(pl.Series("a", [1, 2]), pl.Series("a", [1, 2]))
    assert not same(pl.Series("a", [1, 2]), [1, 2])
    assert same({"a": np.ones(2)}, {"a": np.ones(2)})
    assert not same({"a": np.ones(2)}, {"b": np.ones(2)})


def test_a_record_keeps_a_private_copy() -> None:
    mine = np.eye(2)
    record = ProfileParams((mine,))
    mine[0, 0] = 7.0
    assert record.psi_rel[0][0, 0] == 1.0
    assert mine.flags.writeable


def test_a_read_only_view_of_a_writeable_array_is_copied() -> None:
    mine = np.eye(2)
    view = mine.view()
    view.flags.writeable = False
    record = ProfileParams((view,))
    mine[0, 0] = 7.0
    assert record.psi_rel[0][0, 0] == 1.0


def test_arrays_of_a_record_are_shared_not_copied() -> None:
    record = ProfileParams((np.eye(2),))
    assert np.shares_memory(ProfileParams(record.psi_rel).psi_rel[0], record.psi_rel[0])


def test_arrays_are_contiguous_float64() -> None:
    values = np.asfortranarray(np.arange(6).reshape(2, 3))
    frozen = frozen_array(values)
    assert frozen.dtype == np.float64
    assert frozen.flags.c_contiguous
    assert frozen.tolist() == values.tolist()
    assert frozen_array([True, False]).tolist() == [1.0, 0.0]


def test_adopt_takes_the_array_itself() -> None:
    mine = np.zeros(3)
    adopted = adopt(mine)
    assert np.shares_memory(adopted, mine)
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = 1.0
    with pytest.raises(ValueError, match="WRITEABLE flag"):
        adopted.flags.writeable = True


def a_term(**changes: Any) -> RandomTerm:
    parts = {"group": "g", "names": ("one",), "Z": Z, "codes": CODES, "levels": LEVELS}
    return RandomTerm(**{**parts, **changes})


def a_design(**changes: Any) -> Design:
    parts = {
        "y": np.arange(3.0),
        "X": np.ones((3, 1)),
        "x_names": ("one",),
        "terms": (a_term(),),
        "rows": np.arange(3),
    }
    return Design(**{**parts, **changes})


def a_block(**changes: Any) -> GroupBlock:
    parts = {
        "y": np.zeros((2, 3)),
        "X": np.zeros((2, 3, 1)),
        "Z": (np.zeros((2, 3, 1)),),
        "levels": (np.zeros((2, 3)),),
        "rows": np.zeros((2, 3)),
    }
    return GroupBlock(**{**parts, **changes})


def some_levels(**changes: Any) -> FactorMoments:
    return evolve(some_moments().factors[0], **changes)


def some_moments(**changes: Any) -> Moments:
    return evolve(cross_products(group(a_design())), **changes)


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: a_term(Z=np.ones(3)), r"RandomTerm.Z: expected 2 axes, got an array of shape \(3,\)"),
    (lambda: a_term(Z=np.ones((3, 2))), r"\(one \| g\): 2 columns in Z, 1 names"),
    (lambda: a_term(Z=np.ones((3, 0)), names=()), "needs at least one column"),
    (lambda: a_term(Z=np.ones((4, 1))), "Z has 4 rows, codes has 3"),
    (
        lambda: a_term(Z=[[1.0], [np.nan], [1.0]]),
        r"RandomTerm.Z: expected finite numbers, got nan at position \(1, 0\)",
    ),
    (lambda: a_term(codes=[0, 1, 2]), "codes run from 0 to 2, but there are 2 levels"),
    (lambda: a_term(codes=[-1, 0, 1]), "codes run from -1 to 1"),
    (lambda: a_term(codes=PAIRS), r"codes of shape \(3, 2\); expected one code a row, or loads"),
    (lambda: a_term(loads=LOADS), r"loads of shape \(3, 2\), codes of shape \(3,\)"),
    (lambda: a_term(codes=np.zeros((3, 0)), loads=np.zeros((3, 0))), r"expected \(rows, member"),
    (lambda: a_term(codes=PAIRS, loads=[[np.nan, 1.0]] * 3), "RandomTerm.loads: expected finite"),
    (lambda: a_term(codes=[[0, 2]] * 3, loads=LOADS), "codes run from 0 to 2"),
    (
        lambda: a_term(relation=LevelCovariance(LEVELS[::-1], np.eye(2))),
        "the relation's levels are not the term's levels in the same order",
    ),
    (lambda: a_term(Z="abc"), "expected an array of float64, got str"),
    (lambda: a_term(Z=[[1.0], [2.0, 3.0]]), "expected an array of float64, got list"),
    (lambda: a_design(y=1.0), "expected one response value a row, got a scalar"),
    (lambda: a_design(y=np.zeros(4)), "y has 4 rows, X has 3"),
    (
        lambda: a_design(y=[1.0, np.inf, 2.0]),
        r"Design.y: expected finite numbers, got inf at position \(1,\)",
    ),
    (lambda: a_design(x_names=("a", "b")), "X has 1 columns, x_names 2"),
    (lambda: a_design(rows=np.arange(2)), "X has 3 rows, rows has 2"),
    (lambda: a_design(weights=np.ones(2)), "X has 3 rows, weights has 2"),
    (lambda: a_design(offset=np.ones(2)), "X has 3 rows, offset has 2"),
    (lambda: a_design(weights=[1.0, 0.0, 1.0]), "Design.weights: expected positive numbers"),
    (lambda: a_design(weights=[1.0, -1.0, 1.0]), "Design.weights: expected positive numbers"),
    (
        lambda: a_design(X=np.ones((4, 1)), y=np.zeros(4), rows=np.arange(4)),
        "the Z of the term on 'g' has 3",
    ),
    (lambda: a_block(y=np.zeros((2, 4))), r"X is \(2, 3\) groups x rows, y \(2, 4\)"),
    (lambda: a_block(levels=()), "one Z and one levels a random term"),
    (
        lambda: a_block(Z=(np.zeros((2, 2, 1)),)),
        r"X is \(2, 3\) groups x rows, another part \(2, 2\)",
    ),
    (lambda: a_block(loads=(None, None)), "one entry of loads a random term"),
    (lambda: a_block(loads=(LOADS_BY_GROUP,)), r"levels: expected \(2, 3, 2\), got \(2, 3\)"),
    (lambda: a_block(levels=(np.zeros((2, 2)),)), r"levels: expected \(2, 3\), got \(2, 2\)"),
    (lambda: a_block(weights=np.ones((3, 2))), "another part"),
    (lambda: some_levels(zz=np.zeros((1, 1, 1))), r"FactorMoments: 2 levels, zz of 1"),
    (lambda: some_levels(zx=np.zeros((1, 1, 2))), r"FactorMoments.zx: expected \(2, 1\) first"),
    (lambda: some_levels(zy=np.zeros((1, 1))), r"FactorMoments.zy: expected \(2, 1\) last"),
    (
        lambda: some_moments(factors=(some_levels(zx=np.zeros((2, 1, 2))),)),
        r"expected \(1, 1\) in zx of each level, got \(1, 2\)",
    ),
    (lambda: some_moments(factors=()), r"1 terms, those of the factors are \[\]"),
    (lambda: some_moments(xy=np.zeros(2)), r"Moments.xy: expected \(1,\), got \(2,\)"),
    (lambda: Basis(origin=np.zeros(1), x=np.zeros(1), z=()), "Basis.x: expected 2 axes"),
]


@pytest.mark.parametrize(("build", "words"), WRONG)
def test_wrong_parts(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words) as raised:
        build()
    assert isinstance(raised.value, LmmkitError)
    assert isinstance(raised.value, ValueError)


def test_the_parts_that_the_wrong_ones_vary_are_right() -> None:
    assert a_design() == a_design()
    assert a_block() == a_block()
    assert some_moments().n_obs == 3


def test_unpickling_checks_the_parts_again() -> None:
    reduced: Any = a_design().__reduce__()
    rebuild, (cls, values) = reduced
    with pytest.raises(ShapeError, match="y has 4 rows"):
        rebuild(cls, (np.zeros(4), *values[1:]))
