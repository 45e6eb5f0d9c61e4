"""Every reference case against lme4: log-likelihood, beta, variances, singularity."""

from functools import cache

import numpy as np
import pytest

from lmmkit import Fit, fit
from lmmkit.optimize import Status
from tests.helpers import ReferenceCase, case_params, reference_case

ALL = pytest.mark.parametrize("case", case_params())
SINGULAR = pytest.mark.parametrize("case_id", ["dyestuff2_singular", "dyestuff2_singular_ml"])


@cache
def fitted(case: ReferenceCase) -> Fit:
    return fit(case.formula, case.frame(), reml=case.reml)


@ALL
def test_the_maximum_and_the_estimates(case: ReferenceCase) -> None:
    result = fitted(case)
    assert result.design.n_obs == case.n_obs
    assert result.design.x_names == case.names
    assert result.reml is case.reml
    assert result.loglik == pytest.approx(case.loglik, rel=1e-9)
    beta = result.natural.beta
    assert beta is not None
    assert (np.abs(beta - case.beta) < 1e-4 * case.std_error).all()
    # lme4 stops at about 1e-5 relative in a variance; sigma2 is better determined than psi
    assert result.natural.sigma2 == pytest.approx(case.sigma2, rel=1e-4)


@ALL
def test_the_covariances(case: ReferenceCase) -> None:
    result = fitted(case)
    assert len(result.design.terms) == len(case.terms)
    for term, psi in zip(result.design.terms, result.natural.psi, strict=True):
        expected = case.term(term.group, term.names)
        # a covariance in the units of its two standard deviations
        sd = np.sqrt(np.diagonal(expected.psi))
        unit = np.outer(sd, sd) if case.singular is False else np.ones_like(expected.psi)
        np.testing.assert_allclose(psi / unit, expected.psi / unit, rtol=1e-4, atol=1e-5)


@ALL
def test_the_certificate(case: ReferenceCase) -> None:
    result = fitted(case)
    certificate = result.certificate
    assert certificate.converged
    assert certificate.status is Status.CONVERGED
    assert certificate.score_norm < 1e-6
    assert certificate.inertia[2] == 0
    assert bool(certificate.singular) is case.singular
    assert result.trace.height <= 15


@ALL
def test_the_fit_is_no_worse_than_lme4(case: ReferenceCase) -> None:
    assert fitted(case).loglik >= case.loglik - 1e-9 * abs(case.loglik)


@SINGULAR
def test_dyestuff2_has_no_batch_variance(case_id: str) -> None:
    case = reference_case(case_id)
    result = fitted(case)
    assert result.natural.psi[0].item() == 0.0
    assert result.square_root.factor[0].item() == 0.0
    assert result.profile.psi_rel[0].item() == 0.0
    assert result.certificate.singular == (0,)
    assert "boundary" in str(result.certificate)
    y = case.frame()["Yield"].to_numpy()
    # with no batch variance it is the sample's mean and variance
    assert result.natural.beta == pytest.approx([y.mean()], rel=1e-12)
    assert result.natural.sigma2 == pytest.approx(y.var(ddof=int(case.reml)), rel=1e-12)


def test_dietox_random_slope_reaches_the_maximum_that_statsmodels_misses() -> None:
    result = fitted(reference_case("dietox_rs"))
    assert result.loglik == pytest.approx(-2217.0475, abs=5e-5)
    assert result.certificate.converged
