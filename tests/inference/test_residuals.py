"""Residuals against lme4 and the dense oracle."""

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference.residuals import residuals
from tests.dense_oracle import marginal_covariance
from tests.helpers import ReferenceCase, case_params, dense_model, reference_case
from tests.inference.fitted import fitted


def _weighted(reverse: bool = False) -> Fit:
    """Unequal groups, prior weights, an offset, a missing response and groups out of order."""
    frame = reference_case("sleep_rs").frame()
    generator = np.random.default_rng(5)
    frame = frame.with_columns(
        w=generator.uniform(0.5, 2.0, frame.height), shift=generator.normal(size=frame.height)
    )
    frame = frame.filter(generator.uniform(size=frame.height) < 0.6).sample(
        fraction=1.0, shuffle=True, seed=3
    )
    frame = frame.with_columns(
        Reaction=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise(pl.col("Reaction"))
    )
    if reverse:
        frame = frame.reverse()
    return fit("Reaction ~ Days + (Days | Subject)", frame, weights="w", offset="shift")


@pytest.mark.parametrize("case", case_params())
def test_conditional_fitted_values_are_those_of_lme4(case: ReferenceCase) -> None:
    table = residuals(fitted(case.id))
    head = case.fitted_head
    scale = np.sqrt(case.sigma2)
    assert np.abs(table["fitted"].to_numpy()[: len(head)] - head).max() < 1e-4 * scale
    assert (table["residual"].to_numpy() ** 2).sum() == pytest.approx(
        case.rss_conditional, rel=1e-5
    )


def test_marginal_residuals_are_what_fixed_effects_and_offset_leave() -> None:
    fitted = _weighted()
    design = fitted.design
    table = residuals(fitted, "marginal")
    assert design.offset is not None
    expected = design.y - design.offset - design.X @ np.asarray(fitted.natural.beta)
    np.testing.assert_allclose(table["residual"], expected, rtol=1e-12)
    assert table["row"].to_list() == design.rows.tolist()
    assert 4 not in table["row"].to_list()


def test_pearson_residuals_are_in_units_of_their_standard_deviation() -> None:
    fitted = _weighted()
    conditional = residuals(fitted, "conditional")["residual"].to_numpy()
    pearson = residuals(fitted, "pearson")["residual"].to_numpy()
    weights = np.asarray(fitted.design.weights)
    np.testing.assert_allclose(pearson, conditional * np.sqrt(weights / fitted.natural.sigma2))


@pytest.mark.parametrize("reverse", [False, True])
def test_normalized_residuals_are_the_cholesky_solution_group_by_group(reverse: bool) -> None:
    fitted = _weighted(reverse)
    design, model = fitted.design, dense_model(fitted.design)
    V = marginal_covariance(model, fitted.natural.psi, float(fitted.natural.sigma2))
    marginal = residuals(fitted, "marginal")["residual"].to_numpy()
    normalized = residuals(fitted, "normalized")["residual"].to_numpy()
    assert (normalized**2).sum() == pytest.approx(marginal @ np.linalg.solve(V, marginal))
    for code in range(len(design.terms[0].levels)):
        rows = np.flatnonzero(design.terms[0].codes == code)
        root = np.linalg.cholesky(V[np.ix_(rows, rows)])
        expected = np.linalg.solve(root, marginal[rows])
        np.testing.assert_allclose(normalized[rows], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case_id", ["dyestuff2_singular", "dyestuff"])
def test_normalized_residuals_where_the_covariance_may_be_singular(case_id: str) -> None:
    case = reference_case(case_id)
    fitted = fit(case.formula, case.frame(), reml=case.reml)
    V = marginal_covariance(
        dense_model(fitted.design), fitted.natural.psi, float(fitted.natural.sigma2)
    )
    marginal = residuals(fitted, "marginal")["residual"].to_numpy()
    normalized = residuals(fitted, "normalized")["residual"].to_numpy()
    assert (normalized**2).sum() == pytest.approx(marginal @ np.linalg.solve(V, marginal))


def test_another_kind_is_an_error_that_lists_the_kinds() -> None:
    with pytest.raises(ArgumentError, match=r"conditional.*normalized.*'response'"):
        residuals(_weighted(), "response")
