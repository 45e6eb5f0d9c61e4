"""Moments add: any split of the rows, in any order, in any basis, is the same data."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from lmmkit.design import Design, group
from lmmkit.errors import DataError
from lmmkit.moments import Basis, Moments, cross_products, empty_moments, standard_basis
from lmmkit.records import evolve
from tests.dense_oracle import profiled_loglik
from tests.helpers import dense_model
from tests.likelihood.cases import CRITERIA, DESIGNS, Place, design, place
from tests.likelihood.dense import record

every_design = pytest.mark.parametrize("name", DESIGNS)


def chosen(whole: Design, rows: NDArray[np.intp]) -> Design:
    """The design of some of the rows."""
    return evolve(
        whole,
        y=whole.y[..., rows],
        X=whole.X[rows],
        terms=tuple(evolve(t, Z=t.Z[rows], codes=t.codes[rows]) for t in whole.terms),
        rows=whole.rows[rows],
        weights=None if whole.weights is None else whole.weights[rows],
        offset=None if whole.offset is None else whole.offset[rows],
    )


def pieces(whole: Design, n: int, basis: Basis | None, seed: int = 0) -> list[Moments]:
    """Rows dealt out at random: a level's rows come in several pieces."""
    order = np.random.default_rng(seed).permutation(whole.n_obs)
    return [
        cross_products(group(chosen(whole, np.sort(part))), basis)
        for part in np.array_split(order, n)
    ]


def assert_close(a: Moments, b: Moments) -> None:
    assert (a.n_obs, a.sizes, a.basis) == (b.n_obs, b.sizes, b.basis)
    for name in ("log_weights", "xx", "xy", "yy"):
        assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-10, atol=1e-10, err_msg=name)
    for one, other in zip(a.factors, b.factors, strict=True):
        assert one.terms == other.terms
        assert one.levels.tolist() == other.levels.tolist()
        for name in ("zz", "zx", "zy"):
            assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-10, err_msg=name
            )


def logliks(moments: Moments, where: Place) -> list[float]:
    params = [record("natural", where, beta=beta) for beta in (False, True)]
    return [float(criterion(moments).loglik(p)) for criterion in CRITERIA for p in params]


@every_design
@pytest.mark.parametrize("n", [2, 3, 12])
def test_moments_of_pieces_add_up(name: str, n: int) -> None:
    whole = cross_products(group(design(name)))
    parts = pieces(design(name), n, whole.basis)
    assert_close(reduce(add, parts), whole)
    assert_close(reduce(add, parts[::-1]), whole)


@every_design
def test_pieces_may_be_whole_blocks(name: str) -> None:
    blocks = group(design(name))
    whole = cross_products(blocks)
    parts = [cross_products(block, whole.basis) for block in blocks]
    assert_close(reduce(add, parts), whole)


@every_design
def test_addition_is_associative(name: str) -> None:
    basis = standard_basis(group(design(name)))
    a, b, c = pieces(design(name), 3, basis)
    assert_close((a + b) + c, a + (b + c))


@every_design
def test_the_empty_element(name: str) -> None:
    moments = cross_products(group(design(name)))
    factors = tuple(factor.terms for factor in moments.factors)
    neutral = empty_moments(moments.sizes, moments.basis, factors)
    assert moments + neutral == moments
    assert neutral + moments == moments
    assert neutral + neutral == neutral
    assert sum([moments], neutral) == moments


@every_design
@pytest.mark.parametrize("n", [2, 5])
def test_pieces_in_bases_of_their_own(name: str, n: int) -> None:
    # a piece of few rows has a basis in which its columns are dependent
    parts = pieces(design(name), n, None)
    assert parts[0].basis != parts[1].basis
    where = place(design(name), "interior")
    expected = logliks(cross_products(group(design(name))), where)
    assert_allclose(logliks(reduce(add, parts), where), expected, rtol=1e-10)
    assert_allclose(logliks(reduce(add, parts[::-1]), where), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["balanced intercept", "unbalanced slope", "weights and offset"])
def test_row_by_row_in_bases_of_their_own(name: str) -> None:
    whole = design(name)
    rows = [cross_products(group(chosen(whole, np.array([i])))) for i in range(whole.n_obs)]
    where = place(whole, "interior")
    expected = logliks(cross_products(group(whole)), where)
    assert_allclose(logliks(reduce(add, rows), where), expected, rtol=1e-8)


def test_responses_lead() -> None:
    whole = design("weights and offset")
    many = evolve(whole, y=np.stack([whole.y, whole.y**2]))
    basis = standard_basis(group(many))
    together = cross_products(group(many), basis)
    assert_close(reduce(add, pieces(many, 3, basis)), together)
    for k, y in enumerate(many.y):
        one = cross_products(group(evolve(whole, y=y)))
        where = place(whole, "interior")
        params = record("natural", where, beta=False)
        for criterion in CRITERIA:
            value = np.asarray(criterion(together).loglik(params))
            assert_allclose(value[k], criterion(one).loglik(params), rtol=1e-11)


def test_leaving_one_group_out() -> None:
    whole = design("unbalanced slope")
    codes = whole.terms[0].codes
    where = place(whole, "interior")
    parts = {
        level: cross_products(group(chosen(whole, np.flatnonzero(codes == level))))
        for level in np.unique(codes)
    }
    for left_out in parts:
        rest = reduce(add, (part for level, part in parts.items() if level != left_out))
        model = dense_model(chosen(whole, np.flatnonzero(codes != left_out)))
        psi = [where.sigma2 * t @ t.T for t in where.factors]
        for reml, criterion in enumerate(CRITERIA):
            assert_allclose(
                criterion(rest).loglik(record("natural", where, beta=False)),
                profiled_loglik(model, psi, where.sigma2, reml=bool(reml)),
                rtol=1e-10,
            )


def test_moments_of_different_models_do_not_add() -> None:
    names = ("balanced slope", "unbalanced slope", "shuffled rows", "two terms on one factor")
    moments = {name: cross_products(group(design(name))) for name in names}
    words = "moments of two different models do not add: X has 2 and 3 columns"
    with pytest.raises(DataError, match=words):
        moments["balanced slope"] + moments["unbalanced slope"]
    with pytest.raises(DataError, match=r"the random terms \(2,\) and \(1, 1\)"):
        moments["shuffled rows"] + moments["two terms on one factor"]
    with pytest.raises(TypeError, match="unsupported operand"):
        moments["shuffled rows"] + 1  # type: ignore[operator]


def test_no_block() -> None:
    with pytest.raises(DataError, match="expected blocks of rows"):
        cross_products(())


def test_blocks_of_different_models() -> None:
    one, two = group(design("shuffled rows")), group(design("two terms on one factor"))
    three = group(design("unbalanced slope"))
    for mixed in (one + two, one + three):
        with pytest.raises(DataError, match="different models"):
            cross_products(mixed)
