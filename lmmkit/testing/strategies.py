"""Hypothesis strategies: covariance matrices, parameters, designs and blocks.

Raises :class:`~lmmkit.errors.MissingExtraError` when it is imported without hypothesis.
"""

import numpy as np
import polars as pl

from lmmkit.design import Design, GroupBlock, RandomTerm, group
from lmmkit.errors import MissingExtraError
from lmmkit.parameters import NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import FloatArray

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtraError(
        "lmmkit.testing.strategies needs hypothesis, which the extra 'test' brings: "
        "pip install 'lmmkit[test]'"
    ) from error

__all__ = [
    "blocks",
    "covariances",
    "designs",
    "factors",
    "natural_params",
    "profile_params",
    "square_root_params",
]

_sizes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
_entries = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))
_scales = st.integers(-6, 6).map(lambda k: 10.0**k)


@st.composite
def factors(draw: st.DrawFn, q: int) -> FloatArray:
    """A lower triangular matrix, diagonal >= 0; some have zeros there."""
    matrix = np.zeros((q, q))
    for i in range(q):
        for j in range(i):
            matrix[i, j] = draw(_entries)
        matrix[i, i] = draw(st.just(0.0) | st.floats(0.1, 10))
    return matrix


@st.composite
def covariances(draw: st.DrawFn, q: int) -> FloatArray:
    """A positive semidefinite matrix, perhaps singular, its effects in units of their own."""
    factor = draw(factors(q))
    unit = np.array([draw(_scales) for _ in range(q)])
    scaled = factor * unit[:, None]
    product: FloatArray = scaled @ scaled.T
    return product


@st.composite
def _betas(draw: st.DrawFn) -> FloatArray | None:
    """Fixed effects, or None."""
    return draw(st.none() | st.lists(_entries, max_size=4).map(np.array))


@st.composite
def natural_params(draw: st.DrawFn) -> NaturalParams:
    """Up to three terms, with beta or without."""
    psi = tuple(draw(covariances(q)) for q in draw(_sizes))
    sigma2 = draw(st.floats(0.01, 100)) * draw(_scales)
    return NaturalParams(psi, sigma2, draw(_betas()))


@st.composite
def profile_params(draw: st.DrawFn) -> ProfileParams:
    """Up to three terms, with beta or without."""
    return ProfileParams(tuple(draw(covariances(q)) for q in draw(_sizes)), draw(_betas()))


@st.composite
def square_root_params(draw: st.DrawFn) -> SquareRootParams:
    """Up to three terms, with beta or without."""
    return SquareRootParams(tuple(draw(factors(q)) for q in draw(_sizes)), draw(_betas()))


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
def blocks(draw: st.DrawFn, *, max_q: int = 3, slope: bool = False) -> tuple[GroupBlock, ...]:
    """The blocks of a small design, see :func:`designs`."""
    return group(draw(designs(max_q=max_q, slope=slope)))
