"""Pairs of later effects, written once, give what sparse products give."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from lmmkit.design import group
from lmmkit.likelihood import pairs
from lmmkit.likelihood.pairs import pairs_of, seen, weighed
from lmmkit.likelihood.supernodal import dense_layout
from lmmkit.moments import cross_products
from lmmkit.records import FloatArray
from tests.likelihood.cases import CRITERIA, DESIGNS, design, objective, place
from tests.likelihood.dense import record
from tests.likelihood.test_broadcast import assert_same, evaluate, ml_and_reml

PAIRED = [name for name in DESIGNS if objective(name, restricted=False).system.pairs is not None]


def _symmetric(rng: np.random.Generator, *shape: int) -> FloatArray:
    a = rng.normal(size=shape)
    return np.asarray(a + np.swapaxes(a, 0, 1))


@pytest.mark.parametrize("q", [1, 2, 3])
def test_against_products(q: int) -> None:
    rng = np.random.default_rng(q)
    m, n = 7, 5
    U = rng.normal(size=(m, q, n)) * (rng.random((m, 1, n)) < 0.6)
    U[2] = 0.0
    U[3, 0] = 0.0
    found = pairs_of(csr_array(U.reshape(m * q, n)), q)
    assert found is not None
    M, K = _symmetric(rng, q, q, m), _symmetric(rng, n, n)
    of = dense_layout(n)
    total = of.matrix(weighed(found, M))
    assert_allclose(total, np.einsum("mia,ijm,mjb->ab", U, M, U), atol=1e-12)
    assert_allclose(seen(found, of.values(K)), np.einsum("mia,ab,mjb->mij", U, K, U), atol=1e-12)


def test_the_table_has_intercepts_and_slopes() -> None:
    assert {"crossed", "crossed slopes, weights and offset", "three factors crossed"} <= set(PAIRED)


@ml_and_reml
@pytest.mark.parametrize("point", ["interior", "perfect correlation", "no variance"])
@pytest.mark.parametrize("name", PAIRED)
def test_without_them(name: str, point: str, reml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    params = record("natural", place(design(name), point), beta=True)
    expected = evaluate(objective(name, restricted=reml), params)
    monkeypatch.setattr(pairs, "_MOST_ENTRIES", 0)
    at = CRITERIA[reml](cross_products(group(design(name))))
    assert at.system.pairs is None
    assert_same({k: v[None] for k, v in evaluate(at, params).items()}, [expected])
