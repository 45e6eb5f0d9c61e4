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
from tests.helpers import ReferenceCase, reference_cases
from tests.inference.fitted import fitted, modes_by_name

CASES = pytest.mark.parametrize("case", reference_cases(), ids=str)
WITH_MODES = [case for case in reference_cases() if case.modes is not None]


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
    if case.modes is not None:
        assert row["n_groups"] == len(case.modes.levels)


@CASES
def test_variance_components(case: ReferenceCase) -> None:
    frame = variance_components(fitted(case.id))
    estimates, roots = [], []
    for term in case.terms:
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


@pytest.mark.parametrize("case", WITH_MODES, ids=str)
def test_random_effects(case: ReferenceCase) -> None:
    assert case.modes is not None
    levels, estimates, std_errors = modes_by_name(fitted(case.id))
    assert sorted(levels) == sorted(case.modes.levels)
    order = [levels.index(level) for level in case.modes.levels]
    for k, name in enumerate(case.modes.names):
        theirs = case.modes.values[:, k]
        tolerance = 1e-4 * max(np.abs(theirs).max(), 1e-12)
        np.testing.assert_allclose(estimates[name][order], theirs, rtol=1e-4, atol=tolerance)
        np.testing.assert_allclose(
            std_errors[name][order[0]] ** 2,
            case.modes.first_covariance[k, k],
            rtol=1e-4,
            atol=1e-12,
        )


@pytest.mark.parametrize("case", [c for c in WITH_MODES if len(c.terms) == 1], ids=str)
def test_conditional_covariance_of_the_first_level(case: ReferenceCase) -> None:
    assert case.modes is not None
    result = fitted(case.id)
    first = list(result.design.terms[0].levels.cast(str)).index(case.modes.levels[0])
    theirs = case.modes.first_covariance
    np.testing.assert_allclose(
        random_effects_covariance(result)[0][first],
        theirs,
        rtol=1e-4,
        atol=1e-4 * np.abs(theirs).max(),
    )
