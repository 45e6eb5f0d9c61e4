"""A sparse symmetric matrix, factored and inverted by supernodes, against dense algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lmmkit.design import build_design_from_arrays, group
from lmmkit.design.design import Design
from lmmkit.likelihood import fill, meeting
from lmmkit.likelihood.fill import supernodes
from lmmkit.likelihood.supernodal import Layout, dense_layout, factored, layout
from lmmkit.moments import cross_products
from lmmkit.records import FloatArray
from tests.likelihood.cases import CRITERIA, place
from tests.likelihood.dense import record
from tests.likelihood.test_broadcast import assert_same, evaluate, ml_and_reml


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of few effects are stored by supernodes too, none of which is worth merging."""
    monkeypatch.setattr(meeting, "FEWEST", 2)
    monkeypatch.setattr(fill, "_DENSEST", 1.0)
    monkeypatch.setattr(fill, "_REST", 1.0)
    monkeypatch.setattr(fill, "_PER_SUPERNODE", 0.0)
    monkeypatch.setattr(fill, "_PER_ENTRY", 0.0)


def _matrix(n: int, share: float, seed: int) -> FloatArray:
    """Positive definite, with pairs of effects that do not meet."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n)) * (rng.random((n, n)) < share)
    a = np.tril(a, -1)
    return np.asarray(a + a.T + np.diag(1.0 + np.abs(a + a.T).sum(axis=0)))


def _of_communities(seed: int) -> FloatArray:
    """As levels meet in practice: much within ten communities, little between them."""
    rng = np.random.default_rng(seed)
    home = rng.integers(0, 10, 400)
    met = rng.random((400, 400)) < np.where(home[:, None] == home, 0.3, 0.002)
    a = np.tril(rng.normal(size=met.shape) * met, -1)
    return np.asarray(a + a.T + np.diag(1.0 + np.abs(a + a.T).sum(axis=0)))


def _check(A: FloatArray, of: Layout) -> None:
    inverse, b = np.linalg.inv(A), np.random.default_rng(0).normal(size=(len(A), 3))
    values = of.values(A)
    assert_allclose(of.matrix(values), A)
    assert_allclose(values[of.diagonal], np.diagonal(A))
    assert_allclose(of.times(values, b), A @ b, atol=1e-12)
    factor = factored(of, values.copy())
    assert factor is not None
    assert factor.log_det() == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)
    assert_allclose(factor.back(factor.half(b)), inverse @ b, atol=1e-12)
    half = factor.half(b)
    assert_allclose(half.T @ half, b.T @ inverse @ b, atol=1e-12)
    selected = factor.selected_inverse()
    there = of.matrix(np.ones(of.size)) != 0.0
    assert there[A != 0.0].all()
    assert_allclose(of.matrix(selected)[there], inverse[there], atol=1e-12)
    assert_allclose(factor.inverse(selected), inverse, atol=1e-12)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_random_patterns(share: float, seed: int) -> None:
    A = _matrix(30, share, seed)
    of = layout(A != 0.0)
    assert len(of.blocks) > 1
    _check(A, of)


def test_communities_are_stored_sparsely() -> None:
    A = _of_communities(1)
    of = layout(A != 0.0)
    assert len(of.blocks) > 2
    assert of.size < 0.6 * A.size
    _check(A, of)


def _of_a_core(n_core: int, n_groups: int, size: int) -> FloatArray:
    """All meet a core, as all classes have the same items; the others meet in groups only."""
    n = n_core + n_groups * size
    group_of = np.append(np.full(n_core, -1), np.repeat(np.arange(n_groups), size))
    met = group_of[:, None] == group_of
    met[:n_core] = met[:, :n_core] = True
    a = np.tril(np.random.default_rng(0).normal(size=(n, n)) * met, -1)
    return np.asarray(a + a.T + np.diag(1.0 + np.abs(a + a.T).sum(axis=0)))


def test_groups_around_a_core_are_joined_and_stored_sparsely() -> None:
    A = _of_a_core(300, 200, 5)
    of = layout(A != 0.0)
    assert 2 < len(of.blocks) < 20
    assert of.size < 0.4 * A.size
    _check(A, of)


def test_dense() -> None:
    _check(_matrix(7, 1.0, 0), dense_layout(7))
    assert len(layout(np.ones((300, 300), dtype=bool)).blocks) == 1


def test_a_factor_that_fills_in_is_stored_densely() -> None:
    met = _matrix(900, 0.03, 0) != 0.0
    assert np.count_nonzero(met) < 0.05 * met.size
    assert len(layout(met).blocks) == 1


def test_merging_many_children_takes_few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    n, joined, trials = 400, fill._joined, 0

    def counted(child: fill._Node, parent: fill._Node) -> fill._Node:
        nonlocal trials
        trials += 1
        return joined(child, parent)

    monkeypatch.setattr(fill, "_joined", counted)
    star = np.eye(n, dtype=bool)
    star[0] = star[:, 0] = True
    supernodes(star)
    assert n < trials < 6 * n


@pytest.mark.usefixtures("small_blocks")
def test_no_factor_unless_positive_definite() -> None:
    A = _matrix(12, 0.2, 3)
    A[5, 5] = -1.0
    of = layout(A != 0.0)
    assert factored(of, of.values(A)) is None


@settings(max_examples=60)
@given(n=st.integers(201, 260), share=st.floats(0.0, 0.2), seed=st.integers(0, 1000))
def test_supernodes_hold_the_fill(n: int, share: float, seed: int) -> None:
    met = _matrix(n, share, seed) != 0.0
    found = supernodes(met)
    assert sorted(np.concatenate([s.pivots for s in found]).tolist()) == list(range(n))
    for pivots, rows in found:
        block = met[pivots]
        assert not block.any(axis=0)[np.setdiff1d(np.arange(n), np.append(pivots, rows))].any()
        met[np.ix_(rows, rows)] = True
        met[:, pivots] = False


def _neighbours(nested: bool) -> Design:
    """Levels that meet a few of the other factors' only: of one first stage, or of a chain."""
    rng = np.random.default_rng(5)
    n = 150
    pupil = rng.integers(0, 50, n)
    around = [pupil // 2 + rng.integers(0, 3, n), (pupil // 5 + rng.integers(0, 2, n)) % 10]
    factors = [("pupil", pupil), ("teacher", around[0]), ("room", around[1])]
    if nested:
        factors[2] = ("class", pupil // 3)
    x = rng.normal(size=n)
    slopes = np.column_stack([np.ones(n), x])
    terms = [(name, slopes[:, : 2 if name == "teacher" else 1], codes) for name, codes in factors]
    return build_design_from_arrays(rng.normal(size=n), slopes, terms)


@ml_and_reml
@pytest.mark.parametrize("point", ["interior", "perfect correlation", "no variance"])
@pytest.mark.parametrize("nested", [False, True], ids=["one stage", "a chain"])
def test_the_same_likelihood(
    nested: bool, point: str, reml: bool, request: pytest.FixtureRequest
) -> None:
    at = _neighbours(nested)
    params = record("natural", place(at, point), beta=True)
    moments = cross_products(group(at))
    expected = CRITERIA[reml](moments)
    request.getfixturevalue("small_blocks")
    found = CRITERIA[reml](moments)
    assert len(found.system.layout.blocks) > 5
    assert (found.system.pairs is None) == nested
    assert_same(
        {k: v[None] for k, v in evaluate(found, params).items()}, [evaluate(expected, params)]
    )
