"""Our materializer beside formulaic's own on complete data without its known faults."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from formulaic import model_matrix

from lmmkit.design import build_design

N = 80
RNG = np.random.default_rng(1)
FRAME = pl.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.uniform(1, 5, N),
        "z": RNG.normal(size=N),
        "f": RNG.choice(["a", "b", "c"], N),
        "h": RNG.choice(["u", "v", "w"], N),
        "g": np.arange(N) % 5,
    }
)
PANDAS = pd.DataFrame(
    {name: np.array(FRAME[name].to_list(), dtype=object) for name in ("f", "h")}
    | {name: FRAME[name].to_numpy() for name in ("x", "z")}
)


@pytest.mark.parametrize("intercept", ["1", "0"])
@pytest.mark.parametrize(
    "terms",
    [
        "x*f",
        "f*h + x",
        "f:h + x:f",
        "x:f:h",
        "f/x + z**2",
        "log(x)*f + I(z**2)",
        "poly(x, 2):f + poly(z, 3)",
        "bs(x, df=5) + cr(z, df=4)",
        "bs(x, df=4, include_intercept=True) + cc(z, df=3)",
        "center(x):f + scale(z)",
        "C(f, contr.sum)*C(h, contr.helmert)",
        "C(f, contr.poly) + C(h, contr.diff)",
        "C(f, contr.SAS) + C(h, {'q': [1, 0, -1]}):x",
        "C(f, contr.treatment(base='b'))*z",
        "hashed(f, levels=5) + 3:x",
    ],
)
def test_the_same_columns(intercept: str, terms: str) -> None:
    theirs = model_matrix(f"{intercept} + {terms}", PANDAS)
    design = build_design(f"y ~ {intercept} + {terms} + (1 | g)", FRAME)
    names = [name for name in theirs.columns if name not in design.aliased]
    assert list(design.x_names) == names
    assert set(design.aliased) <= set(theirs.columns)
    assert np.linalg.matrix_rank(theirs.to_numpy(float)) == len(names)
    np.testing.assert_allclose(design.X, theirs[names].to_numpy(float), atol=1e-13)
