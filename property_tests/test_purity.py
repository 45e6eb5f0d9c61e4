"""No public function changes its arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import given, settings

from lmmkit import fit_design
from lmmkit.design import Design, build_design_from_arrays, group
from lmmkit.likelihood import ml, reml
from lmmkit.moments import collapse, cross_products, empty_moments, standard_basis
from lmmkit.optimize import em, maximize
from lmmkit.parameters import (
    NaturalParams,
    ProfileParams,
    SquareRootParams,
    to_natural,
    to_natural_jacobian,
    to_profile,
    to_profile_jacobian,
    to_square_root,
)
from lmmkit.testing.strategies import designs, natural_params, profile_params, square_root_params
from property_tests.strategies import arrays, layout

EXAMPLES = settings(max_examples=25)


@contextmanager
def untouched(*arguments: Any) -> Iterator[None]:
    """The arrays in ``arguments`` hold the same bytes, and are as writeable, after the block."""
    before = [(a, a.copy(), a.flags.writeable) for a in arrays(arguments)]
    yield
    for array, copy, writeable in before:
        assert np.array_equal(array, copy, equal_nan=array.dtype.kind == "f")
        assert array.flags.writeable == writeable


@EXAMPLES
@given(designs())
def test_the_pipeline(design: Design) -> None:
    with untouched(design):
        blocks = group(design)
    with untouched(design, blocks):
        basis = standard_basis(blocks)
    with untouched(design, blocks, basis):
        moments = cross_products(blocks, basis)
    with untouched(design, blocks, basis, moments):
        collapse(moments)
        moments + moments
        moments + empty_moments(moments.sizes, basis)
    for criterion in (ml, reml):
        with untouched(design, blocks, basis, moments):
            objective = criterion(moments)
        start = SquareRootParams(tuple(np.eye(q) for q in objective.sizes))
        with untouched(design, moments, objective, start):
            maximize(objective, em(2), start)
            maximize(objective)
    with untouched(design):
        fit_design(design)


@EXAMPLES
@given(designs())
def test_the_objective(design: Design) -> None:
    objective = reml(cross_products(group(design)))
    root = SquareRootParams(tuple(np.eye(q) for q in objective.sizes), np.ones(design.X.shape[1]))
    for params in (root, to_profile(root), to_natural(root, 2.0)):
        with untouched(objective, params):
            objective.loglik(params)
            objective.score(params)
            objective.hessian(params)
            objective.expected_information(params)
            objective.natural(params)


@EXAMPLES
@given(designs())
def test_arrays_given_by_the_user(design: Design) -> None:
    y, X = design.y.copy(), design.X.copy()
    labels, Z = design.terms[0].codes.copy(), design.terms[0].Z.copy()
    weights, offset = np.full(len(y), 2.0), np.linspace(0, 1, len(y))
    given_arrays = (y, X, Z, labels, weights, offset)
    with untouched(*given_arrays):
        built = build_design_from_arrays(y, X, [("g", Z, labels)], weights=weights, offset=offset)
    with untouched(*given_arrays):
        fit_design(built)
    before = [array.copy() for array in arrays(built)]
    for array in given_arrays:
        array[...] = -1
    assert all(map(np.array_equal, arrays(built), before))


@EXAMPLES
@given(natural_params(), profile_params(), square_root_params())
def test_conversions(
    natural: NaturalParams, profile: ProfileParams, root: SquareRootParams
) -> None:
    with untouched(natural, profile, root):
        for params in (natural, profile, root):
            packed = params.pack()
            with untouched(packed):
                type(params).unpack(packed, layout(params))
        to_profile(natural), to_profile(root)
        to_square_root(natural), to_square_root(profile)
        to_natural(profile, 2.0), to_natural(root, 2.0)
        to_profile_jacobian(natural), to_profile_jacobian(root)
        to_natural_jacobian(profile, 2.0), to_natural_jacobian(root, 2.0)
