"""Likelihood-ratio tests between covariance structures."""

import functools

import pytest

from lmmkit import Fit, datasets, fit, likelihood_ratio_test
from lmmkit.errors import ArgumentError
from lmmkit.inference.checks import chi2_tail


@functools.cache
def machines(random: str) -> Fit:
    return fit(f"score ~ Machine + {random}", datasets.load("Machines"))


@pytest.mark.parametrize(
    ("small", "large", "df"),
    [
        ("homdiag(0 + Machine | Worker)", "diag(0 + Machine | Worker)", 2),
        ("homdiag(0 + Machine | Worker)", "homcs(0 + Machine | Worker)", 1),
        ("homcs(0 + Machine | Worker)", "cs(0 + Machine | Worker)", 2),
        ("hetar1(0 + Machine | Worker)", "(0 + Machine | Worker)", 2),
    ],
)
def test_nested_structures(small: str, large: str, df: int) -> None:
    row = likelihood_ratio_test(machines(small), machines(large)).row(0, named=True)
    statistic = 2.0 * (machines(large).loglik - machines(small).loglik)
    assert row["df"] == df
    assert row["statistic"] == pytest.approx(statistic)
    assert row["p_value"] == pytest.approx(chi2_tail(statistic, df))


def test_an_intercept_is_compound_symmetry_with_a_correlation_of_one() -> None:
    table = likelihood_ratio_test(machines("(1 | Worker)"), machines("homcs(0 + Machine | Worker)"))
    assert table["df"].item() == 1


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("homcs(0 + Machine | Worker)", "diag(0 + Machine | Worker)"),
        ("(1 | Worker)", "diag(0 + Machine | Worker)"),
    ],
)
def test_structures_that_are_not_nested(small: str, large: str) -> None:
    with pytest.raises(ArgumentError, match="not nested: Diagonal on 'Worker'"):
        likelihood_ratio_test(machines(small), machines(large))
