"""Laws of blocks and moments."""

from functools import reduce
from operator import add

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lmmkit.design import Design, group
from lmmkit.likelihood import ml, reml
from lmmkit.moments import Basis, Moments, cross_products, empty_moments
from lmmkit.parameters import ProfileParams
from lmmkit.testing.strategies import designs
from property_tests.strategies import with_rows
from tests.moments.test_moments import assert_close

EXAMPLES = settings(max_examples=40)


def split(design: Design, labels: list[int], basis: Basis | None) -> list[Moments]:
    """Moments of the rows with each label."""
    parts = [np.flatnonzero(np.array(labels[: design.n_obs]) == part) for part in set(labels)]
    return [cross_products(group(with_rows(design, rows)), basis) for rows in parts if len(rows)]


labels = st.lists(st.integers(0, 3), min_size=54, max_size=54)


@EXAMPLES
@given(designs(), labels)
def test_any_split_of_the_rows_adds_up(design: Design, labels: list[int]) -> None:
    whole = cross_products(group(design))
    parts = split(design, labels, whole.basis)
    assert_close(reduce(add, parts), whole)
    assert_close(reduce(lambda a, b: b + a, parts), whole)
    assert sum(parts, empty_moments(whole.sizes, whole.basis)) == reduce(add, parts)


@EXAMPLES
@given(designs(), labels)
def test_any_split_in_any_bases_has_the_same_likelihood(design: Design, labels: list[int]) -> None:
    whole = cross_products(group(design))
    together = reduce(add, split(design, labels, None))
    params = ProfileParams(tuple(0.8 * np.eye(q) + 0.2 for q in whole.sizes))
    for criterion in (ml, reml):
        expected = criterion(whole).loglik(params)
        assert_allclose(criterion(together).loglik(params), expected, rtol=1e-9)


@EXAMPLES
@given(designs())
def test_blocks_hold_every_row_once_in_any_order(design: Design) -> None:
    order = np.random.default_rng(design.n_obs).permutation(design.n_obs)
    for each in (design, with_rows(design, order)):
        blocks = group(each)
        rows = np.concatenate([block.rows.ravel() for block in blocks])
        assert sorted(rows.tolist()) == list(range(each.n_obs))
        sizes = [block.rows.shape[1] for block in blocks]
        assert sizes == sorted(set(sizes))
        for block in blocks:
            assert (block.levels[0] == block.levels[0][:, :1]).all()
