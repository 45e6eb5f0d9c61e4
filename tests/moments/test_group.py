"""Blocks: rows cut into groups that share no level, and stacked by size."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from lmmkit.design import Design, RandomTerm, group
from lmmkit.records import evolve
from tests.likelihood.cases import DESIGNS, design

every_design = pytest.mark.parametrize("name", DESIGNS)


def sets_of_rows(a: Design) -> set[frozenset[int]]:
    return {frozenset(rows.tolist()) for block in group(a) for rows in block.rows}


def connected(terms: tuple[RandomTerm, ...]) -> set[frozenset[int]]:
    """Rows joined while any two share a level, by brute force."""
    n = len(terms[0].codes)
    together = np.any([t.codes[:, None] == t.codes for t in terms], axis=0)
    reach = np.linalg.matrix_power(together.astype(float), n) > 0
    return {frozenset(np.flatnonzero(row).tolist()) for row in reach}


@every_design
def test_every_row_is_in_one_block_with_its_own_numbers(name: str) -> None:
    whole = design(name)
    blocks = group(whole)
    assert sorted(np.concatenate([b.rows.ravel() for b in blocks])) == list(range(whole.n_obs))
    shift = np.zeros(whole.n_obs) if whole.offset is None else whole.offset
    for block in blocks:
        assert_array_equal(block.y, whole.y[block.rows] - shift[block.rows])
        assert_array_equal(block.X, whole.X[block.rows])
        for Z, levels, term in zip(block.Z, block.levels, whole.terms, strict=True):
            assert_array_equal(Z, term.Z[block.rows])
            assert_array_equal(levels, term.codes[block.rows])
        if whole.weights is None:
            assert block.weights is None
        else:
            assert_array_equal(block.weights, whole.weights[block.rows])


@every_design
def test_one_block_a_size_the_smallest_first(name: str) -> None:
    sizes = [block.rows.shape[1] for block in group(design(name))]
    assert all(small < large for small, large in pairwise(sizes))
    if design(name).terms:
        assert sizes == sorted({len(rows) for rows in connected(design(name).terms)})


@every_design
def test_rows_keep_their_order_inside_a_group(name: str) -> None:
    for block in group(design(name)):
        assert (np.diff(block.rows, axis=1) > 0).all()


def test_without_random_terms_all_rows_are_one_group() -> None:
    (block,) = group(design("no random term"))
    assert_array_equal(block.rows, [range(23)])
    assert (block.Z, block.levels) == ((), ())


def shuffled(a: Design, order: NDArray[np.intp]) -> Design:
    terms = tuple(evolve(t, Z=t.Z[order], codes=t.codes[order]) for t in a.terms)
    return evolve(a, y=a.y[order], X=a.X[order], terms=terms)


@pytest.mark.parametrize("name", ["balanced slope", "unbalanced slope", "two terms on one factor"])
def test_any_row_order_gives_the_same_groups(name: str) -> None:
    whole = design(name)
    order = np.random.default_rng(0).permutation(whole.n_obs)
    again = {frozenset(order[list(rows)].tolist()) for rows in sets_of_rows(shuffled(whole, order))}
    assert again == sets_of_rows(whole)


def crossed(*codes: list[int]) -> Design:
    n = len(codes[0])
    terms = tuple(
        RandomTerm(f"g{k}", ("one",), np.ones((n, 1)), c, pl.Series(range(max(c) + 1)))
        for k, c in enumerate(np.array(c, dtype=np.int32) for c in codes)
    )
    return Design(
        np.arange(1.0, n + 1), np.ones((n, 1)), ("one",), terms, np.arange(n, dtype=np.int32)
    )


CROSSED = {
    "nested": ([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5]),
    "fully crossed": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "two islands": ([0, 0, 1, 2, 2, 3], [0, 1, 1, 2, 3, 3]),
    "a chain": ([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 3]),
    "three factors": ([0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [0, 1, 1, 2, 3]),
    "the same factor": ([2, 0, 1, 0, 2], [2, 0, 1, 0, 2]),
    "the same factor, other codes": ([2, 0, 1, 0, 2], [0, 1, 2, 1, 0]),
}


@pytest.mark.parametrize("name", CROSSED)
def test_crossed_terms_are_cut_where_no_level_is_shared(name: str) -> None:
    whole = crossed(*CROSSED[name])
    assert sets_of_rows(whole) == connected(whole.terms)


@pytest.mark.parametrize("seed", range(5))
def test_random_crossings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = crossed(*(rng.integers(0, 14, 20).tolist() for _ in range(2)))
    assert sets_of_rows(whole) == connected(whole.terms)


def test_sorted_groups_of_one_size_are_not_copied() -> None:
    (block,) = group(design("balanced slope"))
    assert np.shares_memory(block.X, design("balanced slope").X)
    assert np.shares_memory(block.y, design("balanced slope").y)


def test_responses_lead() -> None:
    whole = design("weights and offset")
    many = evolve(whole, y=np.stack([whole.y, 2 * whole.y]))
    for block, one in zip(group(many), group(whole), strict=True):
        assert block.y.shape == (2, *one.y.shape)
        assert_array_equal(block.y[0], one.y)
