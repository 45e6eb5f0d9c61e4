"""Hypothesis strategies: covariances, parameter records, designs, and ways to take these apart."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np
import polars as pl
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmmkit.design import Design, RandomTerm
from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import FloatArray, evolve

Params: TypeAlias = NaturalParams | ProfileParams | SquareRootParams

sizes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
entries = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))
scales = st.integers(-6, 6).map(lambda k: 10.0**k)


@st.composite
def factors(draw: st.DrawFn, q: int) -> FloatArray:
    """A lower triangular matrix, diagonal >= 0; some have zeros there."""
    matrix = np.zeros((q, q))
    for i in range(q):
        for j in range(i):
            matrix[i, j] = draw(entries)
        matrix[i, i] = draw(st.just(0.0) | st.floats(0.1, 10))
    return matrix


@st.composite
def covariances(draw: st.DrawFn, q: int) -> FloatArray:
    """A positive semidefinite matrix, perhaps singular, its effects in units of their own."""
    factor = draw(factors(q))
    unit = np.array([draw(scales) for _ in range(q)])
    scaled = factor * unit[:, None]
    product: FloatArray = scaled @ scaled.T
    return product


@st.composite
def betas(draw: st.DrawFn) -> FloatArray | None:
    return draw(st.none() | st.lists(entries, max_size=4).map(np.array))


@st.composite
def natural_params(draw: st.DrawFn) -> NaturalParams:
    psi = tuple(draw(covariances(q)) for q in draw(sizes))
    sigma2 = draw(st.floats(0.01, 100)) * draw(scales)
    return NaturalParams(psi, sigma2, draw(betas()))


@st.composite
def profile_params(draw: st.DrawFn) -> ProfileParams:
    return ProfileParams(tuple(draw(covariances(q)) for q in draw(sizes)), draw(betas()))


@st.composite
def square_root_params(draw: st.DrawFn) -> SquareRootParams:
    return SquareRootParams(tuple(draw(factors(q)) for q in draw(sizes)), draw(betas()))


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
def designs(
    draw: st.DrawFn,
    *,
    max_q: int = 3,
    slope: bool = False,
) -> Design:
    """A small well-posed design: several levels, more rows than effects, noise in y.

    With ``slope`` the columns of both X and Z are 1 and x. Numbers come from a drawn seed, so that
    hypothesis looks for structure and not for digits.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_levels = draw(st.integers(5, 9))
    counts = draw(st.lists(st.integers(1, 6), min_size=n_levels, max_size=n_levels))
    q = 2 if slope else draw(st.integers(1, max_q))
    counts = [max(count, q + 2) if i < 5 else count for i, count in enumerate(counts)]
    codes = np.repeat(np.arange(n_levels, dtype=np.int32), counts)
    if draw(st.booleans()):
        codes = rng.permutation(codes)
    n = len(codes)
    p = 2 if slope else draw(st.integers(1, 3))
    columns = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    cut = 0 if slope else draw(st.integers(0, q - 1))
    pieces = [slice(0, q)] if cut == 0 else [slice(0, cut), slice(cut, q)]
    effects = rng.normal(size=(n_levels, q)) * rng.uniform(0.3, 2, q)
    y = columns[:, :p] @ rng.normal(size=p) + rng.normal(size=n)
    return Design(
        y=y + (columns[:, :q] * effects[codes]).sum(axis=1),
        X=columns[:, :p],
        x_names=tuple(f"x{i}" for i in range(p)),
        terms=tuple(
            RandomTerm(
                "g",
                tuple(f"z{i}" for i in range(piece.start, piece.stop)),
                columns[:, piece],
                codes,
                pl.Series(range(n_levels)),
            )
            for piece in pieces
        ),
        rows=np.arange(n, dtype=np.int32),
        weights=rng.uniform(0.5, 2, n) if draw(st.booleans()) else None,
        offset=rng.normal(size=n) if draw(st.booleans()) else None,
    )


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
        terms=tuple(evolve(t, Z=t.Z[rows], codes=t.codes[rows]) for t in design.terms),
        rows=design.rows[rows],
        weights=optional(design.weights),
        offset=optional(design.offset),
    )


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
