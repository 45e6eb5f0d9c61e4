"""Every table against lme4's figures."""

import numpy as np
import pytest

from lmmkit.inference import (
    fixed_covariance,
    fixed_effects,
    glance,
    information_criteria,
    random_effects_covariance,
    variance_components,
)
from tests.helpers import ReferenceCase, case_params
from tests.inference.fitted import fitted, modes_by_name

CASES = pytest.mark.parametrize("case", case_params())
WITH_MODES = pytest.mark.parametrize("case", case_params(lambda case: case.modes))


@CASES
def test_fixed_effects(case: ReferenceCase) -> None:
    frame = fixed_effects(fitted(case.id))
    assert tuple(frame["term"]) == case.names
    assert np.abs(frame["estimate"].to_numpy() - case.beta).max() < 1e-4 * case.std_error.min()
    np.testing.assert_allclose(frame["std_error"], case.std_error, rtol=1e-4)
    scale = np.outer(case.std_error, case.std_error)
    np.testing.assert_allclose(
        fixed_covariance(fitted(case.id)) / scale, case.beta_cov / scale, atol=2e-4
    )
    z = case.beta / case.std_error
    np.testing.assert_allclose(frame["statistic"], z, rtol=1e-3, atol=1e-3)


@CASES
def test_information_criteria(case: ReferenceCase) -> None:
    row = information_criteria(fitted(case.id)).row(0, named=True)
    assert row["n_parameters"] == case.n_params
    assert row["loglik"] == pytest.approx(case.loglik, rel=1e-9)
    assert row["aic"] == pytest.approx(case.aic, rel=1e-9)
    assert row["bic"] == pytest.approx(case.bic, rel=1e-9)
    k, n = case.n_params, case.n_obs
    assert row["aicc"] == pytest.approx(case.aic + 2 * k * (k + 1) / (n - k - 1), rel=1e-9)


@CASES
def test_glance(case: ReferenceCase) -> None:
    row = glance(fitted(case.id)).row(0, named=True)
    assert row["n_obs"] == case.n_obs
    assert row["criterion"] == ("REML" if case.reml else "ML")
    assert row["deviance"] == pytest.approx(-2 * case.loglik, rel=1e-9)
    assert row["sigma"] == pytest.approx(np.sqrt(case.sigma2), rel=1e-4)
    assert row["df_residual"] == case.n_obs - case.n_params
    assert row["singular"] == case.singular
    assert row["converged"]
    if len(case.modes) == 1:
        assert row["n_groups"] == len(case.modes[0].levels)


@CASES
def test_variance_components(case: ReferenceCase) -> None:
    result = fitted(case.id)
    frame = variance_components(result)
    estimates, roots = [], []
    for term in (case.term(ours.group, ours.names) for ours in result.design.terms):
        sd = np.sqrt(np.diagonal(term.psi))
        for i in range(len(sd)):
            for j in range(i):
                estimates.append(term.psi[i, j])
                roots.append(term.psi[i, j] / (sd[i] * sd[j]))
            estimates.append(term.psi[i, i])
            roots.append(sd[i])
    estimates.append(case.sigma2)
    roots.append(np.sqrt(case.sigma2))
    scale = np.abs(estimates).max()
    np.testing.assert_allclose(frame["estimate"], estimates, rtol=1e-4, atol=1e-6 * scale)
    np.testing.assert_allclose(frame["sd_cor"], roots, rtol=1e-4, atol=1e-5)
    assert frame.row(-1)[:3] == ("Residual", "Residual", "residual")


@WITH_MODES
def test_random_effects(case: ReferenceCase) -> None:
    for modes in case.modes:
        levels, estimates, std_errors = modes_by_name(fitted(case.id), modes.group)
        assert sorted(levels) == sorted(modes.levels)
        order = [levels.index(level) for level in modes.levels]
        for k, name in enumerate(modes.names):
            theirs = modes.values[:, k]
            tolerance = 1e-4 * max(np.abs(theirs).max(), 1e-12)
            np.testing.assert_allclose(estimates[name][order], theirs, rtol=1e-4, atol=tolerance)
            np.testing.assert_allclose(
                std_errors[name][order[0]] ** 2,
                modes.first_covariance[k, k],
                rtol=1e-4,
                atol=1e-12,
            )


@WITH_MODES
def test_conditional_covariance_of_the_first_level(case: ReferenceCase) -> None:
    result = fitted(case.id)
    by_group = {modes.group: modes for modes in case.modes}
    for term, covariances in zip(
        result.design.terms, random_effects_covariance(result), strict=True
    ):
        modes = by_group[term.group]
        if modes.names != term.names:  # a factor with several terms: lme4's is of all together
            continue
        first = list(term.levels.cast(str)).index(modes.levels[0])
        theirs = modes.first_covariance
        np.testing.assert_allclose(
            covariances[first], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max()
        )
