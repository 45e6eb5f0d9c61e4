"""Terms share a grouping factor where their effects belong to the same levels in the same rows."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import Design, RandomTerm, build_design_from_arrays, group, level_covariance
from lmmkit.likelihood import ml
from lmmkit.moments import cross_products
from lmmkit.parameters import NaturalParams
from tests.dense_oracle import profiled_loglik
from tests.helpers import dense_model

N = 24
RNG = np.random.default_rng(0)
CODES = np.arange(N, dtype=np.int32) % 4
PAIRS = np.column_stack([CODES, (CODES + 1) % 4]).astype(np.int32)
LOADS = (RNG.uniform(size=(N, 2)), RNG.uniform(size=(N, 2)))
RELATION = level_covariance(0.5 * np.eye(4) + 0.5, range(4))


def a_term(name: str, Z: Any, codes: Any, **parts: Any) -> RandomTerm:
    return RandomTerm("g", (name,), Z[:, None], codes, pl.Series(range(4)), **parts)


def designs() -> dict[str, Design]:
    one, x, y = np.ones(N), RNG.normal(size=N), RNG.normal(size=N)
    pairs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "the same loads": ({"loads": LOADS[0]}, {"loads": LOADS[0]}),
        "different loads": ({"loads": LOADS[0]}, {"loads": LOADS[1]}),
        "the same relation": ({"relation": RELATION}, {"relation": RELATION}),
        "a relation of one of them": ({"relation": RELATION}, {}),
    }
    found = {}
    for name, (first, second) in pairs.items():
        codes = PAIRS if "loads" in first else CODES
        terms = (a_term("one", one, codes, **first), a_term("x", x, codes, **second))
        found[name] = build_design_from_arrays(y, one[:, None], terms)
    return found


@pytest.mark.parametrize("name", designs())
def test_the_likelihood_of_two_terms_on_levels_of_one_name(name: str) -> None:
    design = designs()[name]
    factors = group(design)[0].factors
    assert factors == (((0, 1),) if "same" in name else ((0,), (1,)))
    psi = (0.5 * np.eye(1), 0.3 * np.eye(1))
    value = ml(cross_products(group(design))).loglik(NaturalParams(psi, 1.0))
    assert_allclose(
        value, profiled_loglik(dense_model(design), list(psi), 1.0, reml=False), rtol=1e-12
    )
