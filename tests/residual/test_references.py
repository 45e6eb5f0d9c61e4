"""Every nlme case: likelihood, parameters, standard errors, fitted values."""

import numpy as np
import pytest

from lmmkit.inference import fixed_effects, information_criteria, residuals
from lmmkit.inference.residual_parameters import residual_parameters
from tests.residual.cases import MODELS, NlmeCase, fitted, nlme_cases

# nlme's own order of strata and of pairs of visits, by position in ours
_ORDER = {"ratpup_varident": [1, 0], "ortho_gls_un": [0, 1, 3, 2, 4, 5, 6, 7, 8]}
# at the bound of rho, where the likelihood of R's fit and ours still rises
_ON_A_BOUND = ("ortho_comb", "dialyzer_constpower")


def test_every_case_has_a_model() -> None:
    assert {str(case) for case in nlme_cases()} == set(MODELS)


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_log_likelihood_and_count_of_parameters(case: NlmeCase) -> None:
    found = fitted(str(case))
    assert found.certificate.converged
    assert found.loglik == pytest.approx(case.raw["loglik"], rel=1e-6)
    assert information_criteria(found)["n_parameters"].item() == case.raw["npar"]


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_estimates(case: NlmeCase) -> None:
    found = fitted(str(case))
    assert found.residual is not None
    assert found.natural.beta is not None
    own = found.residual.estimates
    own = own[_ORDER.get(str(case), slice(None))]
    theirs = [value for _, value in case.structure]
    assert own == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    assert float(found.natural.sigma2) == pytest.approx(case.raw["sigma2"], rel=1e-3)
    beta = np.array(list(case.raw["fixef"].values()))
    error = np.array(list(case.raw["se"].values()))
    assert np.abs(found.natural.beta - beta).max() < 1e-3 * error.max()


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_random_effects_covariance(case: NlmeCase) -> None:
    found = fitted(str(case))
    for theirs in case.raw.get("random", {}).values():
        matrix = np.zeros((len(theirs["values"]),) * 2)
        start = 0
        for psi in found.natural.psi:
            stop = start + len(psi)
            matrix[start:stop, start:stop] = psi
            start = stop
        small = 1e-3 * max(np.abs(theirs["values"]).max(), case.raw["sigma2"])
        assert matrix == pytest.approx(np.array(theirs["values"]), rel=1e-3, abs=small)


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_standard_errors(case: NlmeCase) -> None:
    found = fitted(str(case))
    n, p = found.design.X.shape
    # gls divides by N - p in its standard errors also after maximum likelihood
    gls = case.raw["call"].startswith("gls") and not found.reml
    adjusted = np.sqrt(n / (n - p)) if gls else 1.0
    own = fixed_effects(found)["std_error"].to_numpy() * adjusted
    assert own == pytest.approx(np.array(list(case.raw["se"].values())), rel=1e-3)


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_fitted_values_and_pearson_residuals(case: NlmeCase) -> None:
    found = fitted(str(case))
    head = np.array(case.raw["fitted_head"])
    scale = np.sqrt(case.raw["sigma2"])
    table = residuals(found, "pearson")
    assert np.abs(table["fitted"].to_numpy()[: len(head)] - head).max() < 1e-3 * scale
    if "pearson_head" in case.raw:
        pearson = np.array(case.raw["pearson_head"])
        assert table["residual"].to_numpy()[: len(pearson)] == pytest.approx(pearson, abs=2e-3)


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_normalized_residuals(case: NlmeCase) -> None:
    # nlme's are not those of the fitted ARMA matrix: under REML the sum has to be N - p
    if "normalized_sumsq" in case.raw and str(case) != "ovary_gls_ar3":
        normalized = residuals(fitted(str(case)), "normalized")["residual"].to_numpy()
        assert normalized @ normalized == pytest.approx(case.raw["normalized_sumsq"], rel=1e-4)


@pytest.mark.parametrize("case", nlme_cases(), ids=str)
def test_wald_intervals_of_elementwise_structures(case: NlmeCase) -> None:
    """nlme's spherical range has another bound, and its ARMA intervals mix the coefficients."""
    different = "arma" in str(case) or "ovary" in str(case) or "bodyweight_spher" in str(case)
    if different or str(case) in _ON_A_BOUND or str(case) in _ORDER:
        return
    table = residual_parameters(fitted(str(case)))
    theirs = [case.raw.get(f"interval_{part}") or {} for part in ("correlation", "variance")]
    for side in ("lower", "upper"):
        limits = [value for part in theirs for value in part.get(side, [])]
        if limits:
            own = table["conf_low" if side == "lower" else "conf_high"].to_numpy()
            assert own == pytest.approx(np.array(limits), rel=5e-3, abs=2e-3)
