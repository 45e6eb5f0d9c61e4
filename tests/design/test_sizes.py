"""Values far from one: the fit follows their unit, or says which column is too large or small."""

import math

import numpy as np
import polars as pl
import pytest

from lmmkit import fit, fit_design
from lmmkit.design import build_design_from_arrays
from lmmkit.errors import DataError
from lmmkit.residual import Residual, ar1, exponential, per_stratum
from tests.residual.dense import frame

DATA = frame(seed=5, groups=40).with_columns(w=pl.lit(1.0), shift=pl.lit(0.5) * pl.col("x"))
MODELS = {
    "one factor": ("y ~ x + (1 | id)", None),
    "slopes": ("y ~ x + (x | id)", None),
    "two factors": ("y ~ x + (1 | id) + (1 | label)", None),
    "no factor": ("y ~ x", None),
    "correlated": ("y ~ x", Residual(ar1("visit", group="id"))),
    "in the plane": ("y ~ x", Residual(exponential("east", "north", group="id"))),
    "strata": ("y ~ x + (1 | id)", Residual(variance=per_stratum("kind"))),
}


@pytest.mark.parametrize(("formula", "residual"), MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("c", [1e-34, 1e34])
def test_the_likelihood_follows_the_units(
    formula: str, residual: Residual | None, c: float
) -> None:
    plain = fit(formula, DATA, residual=residual).loglik
    scaled = DATA.with_columns(y=c * pl.col("y"), x=pl.col("x") / c, w=pl.lit(1.0 / c))
    found = fit(formula, scaled, residual=residual, weights="w")
    expected = plain - (DATA.height - 3) * math.log(c)
    assert found.loglik == pytest.approx(expected, rel=1e-9)
    assert found.certificate.converged


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-100, 1e100, 1e200, 1e300])
@pytest.mark.parametrize(
    ("column", "formula", "what"),
    [
        ("y", "y ~ x + (1 | id)", "the response 'y'"),
        ("x", "y ~ x + (1 | id)", "the column of the fixed effect 'x'"),
        ("x", "y ~ 1 + (1 | id) + (0 + x | label)", r"\(x \| label\): the column of 'x'"),
        ("w", "y ~ x", "the weights 'w'"),
        ("shift", "y ~ x + (1 | id)", "the offset"),
    ],
)
def test_sizes_beyond_arithmetic_are_refused(
    column: str, formula: str, what: str, size: float
) -> None:
    wild = DATA.with_columns(pl.col(column) * size)
    for residual in (None, Residual(variance=per_stratum("kind"))):
        with pytest.raises(DataError, match=f"{what}: the largest value is .* in size"):
            fit(formula, wild, residual=residual, weights="w", offset="shift")


def test_arrays_are_measured_too() -> None:
    draw = np.random.default_rng(0)
    X, g = draw.normal(size=(30, 2)), np.repeat(np.arange(6), 5)
    y = draw.normal(size=(2, 30))
    for name, arrays in {
        "the response 'y'": (y * [[1.0], [1e200]], X),
        "the column of the fixed effect 'x1'": (y, X * [1.0, 1e-200]),
    }.items():
        with pytest.raises(DataError, match=name):
            build_design_from_arrays(*arrays, [("g", np.ones(30), g)])
    with pytest.raises(DataError, match=r"\(z0 \| g\): the column of 'z0'"):
        build_design_from_arrays(y, X, [("g", 1e200 * X[:, 0], g)])
    with pytest.raises(DataError, match="the weights 'weights'"):
        build_design_from_arrays(y, X, [("g", np.ones(30), g)], weights=np.full(30, 1e200))
    zero = build_design_from_arrays(y[0], X, [("g", np.ones(30), g)], offset=np.zeros(30))
    assert fit_design(zero).certificate.converged
