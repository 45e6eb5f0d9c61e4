"""Sums in one pass over many levels give what arrays over the levels give."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lmmkit.design import build_design_from_arrays, group
from lmmkit.likelihood import totals
from lmmkit.moments import cross_products
from lmmkit.records import evolve
from tests.likelihood.cases import CRITERIA, DESIGNS, POINTS, design, objective, place
from tests.likelihood.dense import KINDS, Kind, record
from tests.likelihood.test_broadcast import assert_same, evaluate, ml_and_reml, responses, stack


def _can(name: str) -> bool:
    system = objective(name, restricted=False).system
    return system.one_factor and system.first.one_each and bool(design(name).terms)


ONE_FACTOR = [name for name in DESIGNS if _can(name)]


@contextmanager
def sums_always() -> Iterator[None]:
    """Sums however few the levels, a few levels at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(totals, "_MANY_LEVELS", 0)
        patch.setattr(totals, "_FEW_PRODUCTS", 10_000)
        patch.setattr(totals, "_CACHED", 100)
        yield


def test_the_table_has_slopes_terms_and_weights() -> None:
    needed = {"unbalanced slope", "terms of different size", "weights and offset", "q = 4"}
    assert needed < set(ONE_FACTOR)


@ml_and_reml
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ONE_FACTOR)
def test_as_arrays(name: str, kind: Kind, point: str, reml: bool) -> None:
    at = objective(name, restricted=reml)
    params = record(kind, place(design(name), point), beta=False)
    expected = evaluate(at, params)
    with sums_always():
        assert totals.better_as_totals(at.system.first)
        found = evaluate(at, params)
    assert_same({method: value[None] for method, value in found.items()}, [expected])


@ml_and_reml
def test_stacks_of_parameters(reml: bool) -> None:
    at = objective("unbalanced slope", restricted=reml)
    points = ["interior", "perfect correlation", "no variance"]
    places = [place(design("unbalanced slope"), point, seed) for seed, point in enumerate(points)]
    records = [record("natural", where, beta=True) for where in places]
    with sums_always():
        assert_same(evaluate(at, stack(records)), [evaluate(at, each) for each in records])


@ml_and_reml
def test_stacks_of_responses(reml: bool) -> None:
    one = design("unbalanced slope")
    y = responses("unbalanced slope")
    many = build_design_from_arrays(y, one.X, one.terms, x_names=one.x_names)
    params = record("square root", place(one, "interior"), beta=False)
    together = CRITERIA[reml](cross_products(group(many)))
    each = [CRITERIA[reml](cross_products(group(evolve(many, y=row)))) for row in y]
    with sums_always():
        assert_same(evaluate(together, params), [evaluate(at, params) for at in each])
