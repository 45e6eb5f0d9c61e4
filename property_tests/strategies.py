"""Hypothesis strategies: covariances, parameter records, designs, and ways to take these apart."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmmkit.design import Design
from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import FloatArray, evolve
from lmmkit.testing.strategies import (
    factors,
    natural_params,
    profile_params,
    square_root_params,
)

Params: TypeAlias = NaturalParams | ProfileParams | SquareRootParams

scales = st.integers(-6, 6).map(lambda k: 10.0**k)
any_params = st.one_of(natural_params(), profile_params(), square_root_params())


def layout(params: Params) -> Layout:
    matrices: tuple[FloatArray, ...]
    if isinstance(params, NaturalParams):
        matrices = params.psi
    else:
        matrices = params.psi_rel if isinstance(params, ProfileParams) else params.factor
    p = None if params.beta is None else params.beta.shape[-1]
    return Layout(p, tuple(len(matrix) for matrix in matrices))


@st.composite
def starts(draw: st.DrawFn, design: Design) -> SquareRootParams:
    """Any legal factors for the terms of ``design``."""
    return SquareRootParams(tuple(draw(factors(term.q)) for term in design.terms))


def with_rows(design: Design, rows: NDArray[np.intp]) -> Design:
    """The design of ``rows``, in that order."""

    def optional(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[rows]

    return evolve(
        design,
        y=design.y[..., rows],
        X=design.X[rows],
        terms=tuple(
            evolve(t, Z=t.Z[rows], codes=t.codes[rows], loads=optional(t.loads))
            for t in design.terms
        ),
        rows=design.rows[rows],
        weights=optional(design.weights),
        offset=optional(design.offset),
    )


def relabelled(design: Design, seed: int) -> Design:
    """The same design, the levels of every factor in another order."""
    names = {
        term.group: np.random.default_rng(seed).permutation(len(term.levels)).astype(np.int32)
        for term in design.terms
    }
    terms = tuple(evolve(t, codes=names[t.group][t.codes]) for t in design.terms)
    return evolve(design, terms=terms)


def map_columns(design: Design, change: Callable[[FloatArray], FloatArray]) -> Design:
    """``change`` applied to X and to every Z."""
    terms = tuple(evolve(term, Z=change(term.Z)) for term in design.terms)
    return evolve(design, X=change(design.X), terms=terms)


def arrays(value: Any) -> list[NDArray[Any]]:
    """Every array in a record, however deep."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [array for item in value for array in arrays(item)]
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
        return [array for name in names for array in arrays(getattr(value, name))]
    return []
