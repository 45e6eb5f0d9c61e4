"""Several factors: the likelihood is the dense one, however the data are written down."""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lmmkit.design import Design, build_design, build_design_from_arrays, group
from lmmkit.likelihood import Objective, ml, reml
from lmmkit.moments import cross_products, empty_moments
from lmmkit.parameters import NaturalParams
from lmmkit.records import FloatArray, evolve
from lmmkit.testing.strategies import factors
from property_tests.crossing import crossed_designs, tied_designs
from property_tests.strategies import relabelled, with_rows
from tests.dense_oracle import dense_loglik, expected_information, gls
from tests.helpers import dense_model
from tests.likelihood.cases import Place
from tests.likelihood.dense import KINDS, Dense, Kind, derivative, record

EXAMPLES = settings(max_examples=60)
FEWER = settings(max_examples=25)  # each compares many evaluations
METHODS = ("loglik", "score", "hessian", "expected_information")
CRITERIA = (ml, reml)
kinds = st.sampled_from(KINDS)


@st.composite
def places(draw: st.DrawFn, design: Design) -> Place:
    """Relative factors, zero variances and singular ones among them, and fixed effects."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    relative = tuple(draw(factors(term.q)) / 5 for term in design.terms)
    return Place(relative, rng.normal(size=design.X.shape[1:]), draw(st.floats(0.2, 5)))


def at_places(designs: st.SearchStrategy[Design]) -> st.SearchStrategy[tuple[Design, Place]]:
    return designs.flatmap(lambda design: st.tuples(st.just(design), places(design)))


def objective(design: Design, *, restricted: bool) -> Objective:
    return CRITERIA[restricted](cross_products(group(design)))


def close(actual: Any, expected: Any, tolerance: float, name: str = "") -> None:
    """Agreement relative to the largest entry."""
    largest = np.abs(expected).max(initial=1.0)
    assert_allclose(actual, expected, rtol=0, atol=tolerance * largest, err_msg=name)


def check_against_the_oracle(
    design: Design, place: Place, kind: Kind, beta: bool, restricted: bool
) -> None:
    at = objective(design, restricted=restricted)
    params = record(kind, place, beta=beta)
    dense = Dense(dense_model(design), kind, restricted, beta)
    packed = params.pack()
    best, psi, sigma2 = dense.natural(packed)
    expected = dense_loglik(dense.model, best, psi, sigma2, reml=restricted)
    close(at.loglik(params), expected, 1e-10, "loglik")
    close(at.beta(params), best, 1e-8, "beta")
    close(at.sigma2(params), sigma2, 1e-9, "sigma2")
    close(at.score(params), derivative(dense.loglik, packed), 1e-8, "score")
    hessian = derivative(dense.score, packed).reshape(len(packed), len(packed))
    close(at.hessian(params), hessian, 1e-8, "hessian")
    if kind == "natural":
        p = design.X.shape[1] if beta else 0
        information = np.zeros((len(packed), len(packed)))
        if p:
            information[:p, :p] = np.linalg.inv(gls(dense.model, psi, sigma2)[1])
        information[p:, p:] = expected_information(dense.model, psi, sigma2, reml=restricted)
        close(at.expected_information(params), information, 1e-8, "expected information")


@EXAMPLES
@given(at_places(crossed_designs()), kinds, st.booleans(), st.booleans())
def test_value_and_derivatives_are_the_dense_ones(
    case: tuple[Design, Place], kind: Kind, beta: bool, restricted: bool
) -> None:
    check_against_the_oracle(*case, kind, beta, restricted)


@EXAMPLES
@given(at_places(tied_designs()), kinds, st.booleans(), st.booleans())
def test_relations_and_memberships_are_the_dense_ones(
    case: tuple[Design, Place], kind: Kind, beta: bool, restricted: bool
) -> None:
    check_against_the_oracle(*case, kind, beta, restricted)


def values(at: Objective, params: NaturalParams) -> list[FloatArray]:
    return [np.asarray(getattr(at, method)(params)) for method in METHODS]


def natural(place: Place) -> NaturalParams:
    params = record("natural", place, beta=True)
    assert isinstance(params, NaturalParams)
    return params


@FEWER
@given(at_places(crossed_designs()), st.booleans(), st.randoms(use_true_random=False))
def test_order_of_terms_rows_and_levels(
    case: tuple[Design, Place], restricted: bool, random: Any
) -> None:
    design, place = case
    expected = values(objective(design, restricted=restricted), natural(place))

    rng = np.random.default_rng(random.randrange(2**16))
    moved = with_rows(design, rng.permutation(design.n_obs))
    again = objective(relabelled(moved, random.randrange(2**16)), restricted=restricted)
    for method, one, other in zip(METHODS, expected, values(again, natural(place)), strict=True):
        close(other, one, 1e-9, method)

    order = rng.permutation(len(design.terms)).tolist()
    swapped = evolve(design, terms=tuple(design.terms[k] for k in order))
    factors_then = tuple(place.factors[k] for k in order)
    params = natural(Place(factors_then, place.beta, place.sigma2))
    index = packed_order(design, order)
    found = values(objective(swapped, restricted=restricted), params)
    close(found[0], expected[0], 1e-9, "loglik")
    close(found[1], expected[1][index], 1e-9, "score")
    for method, one, other in zip(METHODS[2:], expected[2:], found[2:], strict=True):
        close(other, one[np.ix_(index, index)], 1e-9, method)


def packed_order(design: Design, order: list[int]) -> list[int]:
    """Where the packed natural parameters of reordered terms stood before."""
    start = design.X.shape[1]
    index, pieces = list(range(start)), []
    for term in design.terms:
        size = term.q * (term.q + 1) // 2
        pieces.append(list(range(start, start + size)))
        start += size
    return [*index, *(i for k in order for i in pieces[k]), start]


labels = st.lists(st.integers(0, 2), min_size=32, max_size=32)


@FEWER
@given(at_places(crossed_designs() | tied_designs()), labels, st.booleans())
def test_moments_of_any_split_add_up(
    case: tuple[Design, Place], labels: list[int], restricted: bool
) -> None:
    design, place = case
    whole = cross_products(group(design))
    where = np.array(labels[: design.n_obs])
    rows = [np.flatnonzero(where == label) for label in set(labels)]
    blocks = [group(with_rows(design, each)) for each in rows if len(each)]
    expected = values(CRITERIA[restricted](whole), natural(place))
    for basis in (whole.basis, None):
        parts = [cross_products(each, basis) for each in blocks]
        for moments in (reduce(add, parts), reduce(lambda a, b: b + a, parts)):
            assert moments.n_obs == design.n_obs
            found = values(CRITERIA[restricted](moments), natural(place))
            # a piece of one row has a basis of its own that costs digits
            tolerance = 1e-8 if basis is not None else 1e-6
            for method, one, other in zip(METHODS, expected, found, strict=True):
                close(other, one, tolerance, method)


@FEWER
@given(at_places(crossed_designs()), st.booleans())
def test_moments_of_single_blocks_add_up(case: tuple[Design, Place], restricted: bool) -> None:
    design, place = case
    blocks = group(design)
    whole = cross_products(blocks)
    parts = [cross_products(block, whole.basis) for block in blocks]
    shared = tuple(factor.terms for factor in whole.factors)
    together = sum(parts, empty_moments(whole.sizes, whole.basis, shared))
    expected = values(CRITERIA[restricted](whole), natural(place))
    found = values(CRITERIA[restricted](together), natural(place))
    for method, one, other in zip(METHODS, expected, found, strict=True):
        close(other, one, 1e-9, method)


@EXAMPLES
@given(at_places(crossed_designs()), st.integers(-6, 6), st.booleans())
def test_scale_of_the_response(case: tuple[Design, Place], power: int, restricted: bool) -> None:
    """``-2 loglik`` grows by ``2 m log c``: the density of c y."""
    design, place = case
    c = 10.0**power
    offset = None if design.offset is None else c * design.offset
    scaled = objective(evolve(design, y=c * design.y, offset=offset), restricted=restricted)
    plain = objective(design, restricted=restricted)
    there = Place(place.factors, c * place.beta, c**2 * place.sigma2)
    expected = plain.loglik(natural(place)) - plain.degrees_of_freedom * np.log(c)
    close(scaled.loglik(natural(there)), expected, 1e-10)
    profiled = record("square root", place, beta=False)
    close(scaled.score(profiled), plain.score(profiled), 1e-8)


@st.composite
def nested_frames(draw: st.DrawFn) -> pl.DataFrame:
    """Casks in batches, labelled afresh in each batch, a covariate, and a response."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    batches = draw(st.lists(st.integers(1, 4), min_size=3, max_size=6))
    batch = np.repeat(np.arange(len(batches)), 3 * np.array(batches))
    cask = np.concatenate([rng.integers(0, count, 3 * count) for count in batches])
    x = rng.normal(size=len(batch))
    y = rng.normal(size=(6, 4))[batch, cask] + rng.normal(size=6)[batch] * x
    y = y + rng.normal(size=len(batch))
    frame = pl.DataFrame(
        {
            "y": y,
            "x": x,
            "batch": batch,
            "cask": [f"c{i}" for i in cask],
            "unique": batch * 7 + cask,
        }
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=draw(st.integers(0, 99)))


@FEWER
@given(nested_frames(), st.booleans())
def test_nesting_however_it_is_written(frame: pl.DataFrame, restricted: bool) -> None:
    columns = np.column_stack([np.ones(frame.height), frame["x"]])
    ones = columns[:, :1]
    pairs = (frame["batch"].cast(pl.String) + "/" + frame["cask"]).to_list()
    designs = [
        build_design("y ~ x + (1 | batch/cask)", frame),
        build_design("y ~ x + (1 | batch) + (1 | batch:cask)", frame),
        build_design("y ~ x + (1 | batch) + (1 | cask:batch)", frame),
        build_design("y ~ x + (1 | batch) + (1 | unique)", frame),
        build_design("y ~ x + (1 | batch) + (1 | batch:unique)", frame),
        build_design_from_arrays(
            frame["y"].to_numpy(),
            columns,
            [("a", ones, frame["batch"]), ("b", ones, pairs)],
        ),
    ]
    params = NaturalParams((np.array([[0.7]]), np.array([[0.4]])), 0.9)
    first, *others = [values(objective(d, restricted=restricted), params) for d in designs]
    for other in others:
        for method, one, again in zip(METHODS, first, other, strict=True):
            close(again, one, 1e-10, method)
