"""Likelihood-ratio tests between models with different sets of grouping factors."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.optimize import nnls
from scipy.stats import chi2

from lmmkit.design import level_covariance
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference import likelihood_ratio_test
from lmmkit.inference.mixture import reference_distribution
from tests.dense_oracle import expected_information
from tests.helpers import dense_model
from tests.inference.models import crossed_frame, model, relatedness


def of(formula: str, reml: bool = True) -> Fit:
    return fit(formula, crossed_frame(), reml=reml)


def test_one_factor_more() -> None:
    small, large = of("y ~ x + (1 | s)"), of("y ~ x + (1 | s) + (1 | d)")
    row = likelihood_ratio_test(large, small).row(0, named=True)
    assert row["statistic"] == pytest.approx(2 * (large.loglik - small.loglik))
    assert row["distribution"] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert row["p_value"] == pytest.approx(0.5 * chi2.sf(row["statistic"], 1))


@pytest.mark.parametrize("reml", [False, True])
def test_two_factors_more_by_projections_of_normal_vectors(reml: bool) -> None:
    """The share of normal vectors whose nearest point of the quadrant is inside, on an edge, 0."""
    small = of("y ~ x + (1 | s)", reml)
    large = of("y ~ x + (1 | s:g) + (1 | s) + (1 | d)", reml)
    zero = np.zeros((1, 1))
    information = expected_information(
        dense_model(large.design),
        [zero, small.natural.psi[0], zero],
        float(small.natural.sigma2),
        reml=reml,
    )
    two = np.linalg.inv(np.linalg.inv(information)[np.ix_([0, 2], [0, 2])])
    root = np.linalg.cholesky(two).T
    draws = np.random.default_rng(1).normal(size=(20_000, 2))
    faces = [int((nnls(root, draw)[0] > 0).sum()) for draw in draws]
    expected = np.bincount(faces, minlength=3) / len(draws)
    weights = dict((df, w) for w, df in reference_distribution(small, large, 2, 2).parts)
    np.testing.assert_allclose([weights[df] for df in range(3)], expected, atol=0.015)
    row = likelihood_ratio_test(small, large).row(0, named=True)
    tail = sum(weights[df] * chi2.sf(row["statistic"], df) for df in (1, 2))
    assert row["p_value"] == pytest.approx(tail)
    assert row["distribution"].count("chi2") == 3


def test_correlated_variances_have_unequal_weights() -> None:
    """A nested pair: what one variance explains the other one may explain too."""
    small, large = of("y ~ x + (1 | d)"), of("y ~ x + (1 | s/g) + (1 | d)")
    (none, _), (one, _), (both, _) = reference_distribution(small, large, 2, 2).parts
    assert one == 0.5
    assert none + both == pytest.approx(0.5)
    assert both < 0.2


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | d) + (1 | s)", "y ~ x + (1 | d) + (1 | s) + (1 | a)"]
)
def test_more_effects_than_that_are_conservative(formula: str) -> None:
    row = likelihood_ratio_test(of("y ~ x"), of(formula)).row(0, named=True)
    assert row["distribution"] == f"chi2({row['df']}), conservative"
    assert row["p_value"] == pytest.approx(chi2.sf(row["statistic"], row["df"]))


def test_levels_may_have_other_names() -> None:
    renamed = crossed_frame().with_columns(s=pl.col("s").replace({"s0": "z", "s1": "b", "s8": "a"}))
    small = fit("y ~ x + (1 | s)", renamed)
    row = likelihood_ratio_test(small, of("y ~ x + (1 | s) + (1 | d)")).row(0, named=True)
    assert row["distribution"] == "0.5 chi2(0) + 0.5 chi2(1)"


def test_a_relation_in_another_order_is_the_same() -> None:
    order = np.random.default_rng(0).permutation(14)
    relation = level_covariance(relatedness()[np.ix_(order, order)], [f"a{i:02d}" for i in order])
    large = fit("y ~ x + (1 | a) + (1 | d)", crossed_frame(), relations={"a": relation})
    row = likelihood_ratio_test(model("animals"), large).row(0, named=True)
    assert row["distribution"] == "0.5 chi2(0) + 0.5 chi2(1)"


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (lambda: of("y ~ x + (1 | s)"), lambda: of("y ~ x + (1 | d) + (1 | a)")),
        (lambda: of("y ~ x + (1 | s)"), lambda: of("y ~ x + (1 | s:g) + (1 | a)")),
        (lambda: of("y ~ x + (1 | a)"), lambda: of("y ~ x + (1 | mm(a, b)) + (1 | d)")),
        (lambda: model("animals"), lambda: of("y ~ x + (1 | a) + (1 | d)")),
        (lambda: of("y ~ x + (1 | a)"), lambda: model("animals with slopes, crossed")),
        (
            lambda: of("y ~ x + (x | s)"),
            lambda: of("y ~ x + (1 | s) + (0 + x | s) + (1 | d) + (1 | a)"),
        ),
    ],
    ids=["other factors", "nested in it", "memberships", "related", "not related", "covariance"],
)
def test_what_is_not_nested(small: Callable[[], Fit], large: Callable[[], Fit]) -> None:
    with pytest.raises(ArgumentError, match=r"random effects that the second lacks.*on '[as]'"):
        likelihood_ratio_test(small(), large())
