"""Groups with equal Z'Z collapse to one pattern with few stand-ins, and nothing is lost."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import group
from lmmkit.likelihood import Objective
from lmmkit.likelihood.system import system
from lmmkit.moments import Basis, FactorMoments, Moments, Patterns, collapse, cross_products
from lmmkit.records import FloatArray, evolve
from tests.likelihood.cases import CRITERIA, POINTS, design, place
from tests.likelihood.dense import KINDS, Kind, record

BALANCED = ("balanced intercept", "balanced intercept, covariate", "balanced slope")


def uncollapsed(moments: Moments) -> Patterns:
    """One pattern a group, by numpy: F = chol(Z'Z), U = F^-1 Z'[X y]."""
    (levels,) = moments.factors
    factor = np.linalg.cholesky(levels.zz)
    joined = np.concatenate([levels.zx, levels.zy[..., None]], axis=-1)
    inside = np.linalg.solve(factor, joined)
    total = np.block([[moments.xx, moments.xy[:, None]], [moments.xy, moments.yy]])
    m = len(factor)
    return Patterns(
        factor=np.moveaxis(factor, 0, -1),
        count=np.ones(m),
        inside=np.moveaxis(inside, 0, -1),
        pattern=np.arange(m, dtype=np.int32),
        outside=total - np.einsum("mki,mkj->ij", inside, inside),
    )


@pytest.mark.parametrize("name", BALANCED)
def test_equal_groups_are_one_pattern(name: str) -> None:
    moments = cross_products(group(design(name)))
    patterns = collapse(moments)
    q, p = sum(moments.sizes), len(moments.xx)
    assert patterns.count.tolist() == [13.0]
    assert patterns.inside.shape[-1] <= min(13, q * (p + 1))
    assert not patterns.one_each


def test_different_groups_stay() -> None:
    patterns = collapse(cross_products(group(design("unbalanced slope"))))
    assert patterns.count.tolist() == [1.0] * 7
    assert patterns.one_each


def test_a_pattern_a_group_size_for_an_intercept() -> None:
    whole = design("balanced intercept")
    kept = np.concatenate([np.arange(18), np.arange(18, 39).reshape(-1, 3)[:, :2].ravel()])
    terms = tuple(evolve(t, Z=t.Z[kept], codes=t.codes[kept]) for t in whole.terms)
    cut = evolve(whole, y=whole.y[kept], X=whole.X[kept], terms=terms, rows=whole.rows[kept])
    assert sorted(collapse(cross_products(group(cut))).count) == [6.0, 7.0]


@pytest.mark.parametrize("name", BALANCED)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("beta", [True, False])
def test_the_likelihood_is_that_of_all_groups(
    name: str, kind: Kind, point: str, beta: bool
) -> None:
    moments = cross_products(group(design(name)))
    params = record(kind, place(design(name), point), beta=beta)
    for criterion in CRITERIA:
        fast = criterion(moments)
        slow = Objective(
            moments, evolve(system(moments), first=uncollapsed(moments)), fast.criterion
        )
        for method in ("loglik", "score", "hessian", "expected_information"):
            expected: FloatArray = np.asarray(getattr(slow, method)(params))
            scale = np.abs(expected).max(initial=1.0)
            value = getattr(fast, method)(params)
            assert_allclose(value, expected, rtol=0, atol=1e-11 * scale, err_msg=method)


def test_patterns_that_are_nearly_equal_are_kept_apart() -> None:
    whole = design("balanced slope")
    Z = np.array(whole.terms[0].Z)
    Z[20, 1] += 1e-9
    near = evolve(whole, terms=(evolve(whole.terms[0], Z=Z),))
    assert sorted(collapse(cross_products(group(near))).count) == [1.0, 12.0]


def test_levels_whose_rows_do_not_span_the_effects() -> None:
    patterns = collapse(cross_products(group(design("q = 4"))))
    pivots = (np.diagonal(patterns.factor, axis1=0, axis2=1) > 0).sum(axis=1)
    counts = np.bincount(design("q = 4").terms[0].codes)
    assert pivots.tolist() == np.minimum(counts[counts > 0], 4).tolist()


def test_patterns_whose_difference_a_sum_would_swallow() -> None:
    basis = Basis(origin=np.zeros(0), x=np.zeros((0, 0)), z=(np.eye(2),))
    moments = Moments(
        n_obs=6,
        log_weights=0.0,
        xx=np.zeros((0, 0)),
        xy=np.zeros(0),
        yy=np.ones(()),
        factors=(
            FactorMoments(
                terms=(0,),
                levels=np.arange(3, dtype=np.int32),
                zz=np.array([np.diag([1e8, small]) for small in (1e-10, 2e-10, 1e-10)]),
                zx=np.zeros((3, 2, 0)),
                zy=np.zeros((3, 2)),
            ),
        ),
        pairs=(),
        sizes=(2,),
        basis=basis,
    )
    patterns = collapse(moments)
    squares = patterns.factor[1, 1, patterns.pattern] ** 2
    assert_allclose(sorted(squares), [1e-10, 1e-10, 2e-10], rtol=1e-12)


def test_a_difference_by_rounding_leaves_the_others_one_pattern() -> None:
    moments = cross_products(group(design("balanced slope")))
    (levels,) = moments.factors
    zz = levels.zz.copy()
    zz[3] = np.nextafter(zz[3], 1e9)
    near = evolve(moments, factors=(evolve(levels, zz=zz),))
    assert sorted(collapse(near).count) == [1.0, 12.0]
