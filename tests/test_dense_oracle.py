"""The oracle itself, against scipy's normal density, lme4's figures and textbook identities."""

import numpy as np
import polars as pl
import pytest
import scipy.stats

from lmmkit.design import build_design
from tests.dense_oracle import (
    Array,
    DenseModel,
    DenseTerm,
    conditional_modes,
    dense_loglik,
    expected_information,
    gls,
    marginal_covariance,
    numeric_gradient,
    numeric_hessian,
    profiled_loglik,
    spread,
    vech_directions,
)
from tests.helpers import dense_model, reference_case


def simulated(seed: int = 0) -> tuple[DenseModel, list[Array], float]:
    """40 rows, 6 levels of unequal size, a random slope and a second term, weights and offset."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.integers(0, 6, 40))
    x = rng.normal(size=40)
    model = DenseModel(
        y=rng.normal(size=40),
        X=np.column_stack([np.ones(40), x, x**2]),
        terms=(
            DenseTerm(np.column_stack([np.ones(40), x]), codes),
            DenseTerm(rng.normal(size=(40, 1)), codes),
        ),
        weights=rng.uniform(0.5, 2, 40),
        offset=rng.normal(size=40),
    )
    return model, [np.array([[1.3, 0.4], [0.4, 0.6]]), np.array([[0.3]])], 0.7


def unpack(theta: Array) -> tuple[list[Array], float]:
    psi = np.array([[theta[0], theta[1]], [theta[1], theta[2]]])
    return [psi, theta[3:4, None]], float(theta[4])


THETA = np.array([1.3, 0.4, 0.6, 0.3, 0.7])


def lme4_model(case_id: str, slope: str | None) -> DenseModel:
    """One grouping factor, intercept and perhaps a slope, fixed and random."""
    case = reference_case(case_id)
    frame = case.frame()
    columns = np.ones((frame.height, 1))
    if slope is not None:
        columns = np.column_stack([columns, frame[slope]])
    group = case.terms[0].group
    codes = frame[group].cast(pl.Enum(sorted(frame[group].unique()))).to_physical().to_numpy()
    response = case.formula.split("~")[0].strip()
    return DenseModel(frame[response].to_numpy(), columns, (DenseTerm(columns, codes),))


CASES = [
    ("sleep_rs", "Days"),
    ("sleep_rs_ml", "Days"),
    ("dietox_rs", "Time"),
    ("dietox_rs_ml", "Time"),
    ("dyestuff", None),
    ("dyestuff2_singular", None),
    ("dyestuff2_singular_ml", None),
    ("rail", None),
]


@pytest.mark.parametrize(("case_id", "slope"), CASES)
def test_lme4_figures(case_id: str, slope: str | None) -> None:
    case = reference_case(case_id)
    model = lme4_model(case_id, slope)
    psi = [term.psi for term in case.terms]
    beta, cov = gls(model, psi, case.sigma2)
    np.testing.assert_allclose(beta, case.beta, rtol=1e-9)
    np.testing.assert_allclose(cov, case.beta_cov, rtol=1e-7)
    loglik = profiled_loglik(model, psi, case.sigma2, reml=case.reml)
    np.testing.assert_allclose(loglik, case.loglik, rtol=1e-10)
    for theirs in case.modes:
        ((modes, covariances),) = conditional_modes(model, psi, case.sigma2)
        np.testing.assert_allclose(modes, theirs.values, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(covariances[0], theirs.first_covariance, rtol=1e-6)


SEVERAL = ["penicillin", "penicillin_ml", "pastes_nested", "oats", "machines_wm", "pixel"]


@pytest.mark.parametrize("case_id", SEVERAL)
def test_lme4_figures_of_several_factors(case_id: str) -> None:
    case = reference_case(case_id)
    design = build_design(case.formula, case.frame())
    model = dense_model(design)
    psi = [case.term(term.group, term.names).psi for term in design.terms]
    beta, cov = gls(model, psi, case.sigma2)
    np.testing.assert_allclose(beta, case.beta, rtol=1e-8)
    np.testing.assert_allclose(cov, case.beta_cov, rtol=1e-7, atol=1e-7 * cov.max())
    loglik = profiled_loglik(model, psi, case.sigma2, reml=case.reml)
    np.testing.assert_allclose(loglik, case.loglik, rtol=1e-10)
    found = conditional_modes(model, psi, case.sigma2)
    by_group = {term.group: (term, *one) for term, one in zip(design.terms, found, strict=True)}
    for theirs in case.modes:
        term, modes, covariances = by_group[theirs.group]
        order = [list(term.levels).index(level) for level in theirs.levels]
        np.testing.assert_allclose(modes[order], theirs.values, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(covariances[order[0]], theirs.first_covariance, rtol=1e-6)


def memberships() -> tuple[DenseModel, list[Array], float, Array]:
    """Rows that load on several of 5 correlated levels; also Z and Cov(b) written out."""
    rng = np.random.default_rng(3)
    Z, loadings = rng.normal(size=(20, 2)), rng.uniform(size=(20, 5)) * rng.integers(0, 2, (20, 5))
    root = rng.normal(size=(5, 5))
    term = DenseTerm(Z, np.zeros(20, dtype=int), loadings, root @ root.T)
    model = DenseModel(rng.normal(size=20), np.ones((20, 1)), (term,))
    wide = (loadings[:, :, None] * Z[:, None, :]).reshape(20, 10)
    return model, [np.array([[1.3, 0.4], [0.4, 0.6]])], 0.7, wide


def test_multiple_membership_and_known_covariance_are_the_long_form() -> None:
    model, psi, sigma2, wide = memberships()
    (term,) = model.terms
    prior = np.kron(term.between, psi[0])
    V = sigma2 * np.eye(20) + wide @ prior @ wide.T
    np.testing.assert_allclose(marginal_covariance(model, psi, sigma2), V, rtol=1e-12)
    r = model.y - model.X @ gls(model, psi, sigma2)[0]
    ((modes, covariances),) = conditional_modes(model, psi, sigma2)
    C = prior @ wide.T
    np.testing.assert_allclose(modes.ravel(), C @ np.linalg.solve(V, r), rtol=1e-9, atol=1e-12)
    posterior = prior - C @ np.linalg.solve(V, C.T)
    for level in range(5):
        at = slice(2 * level, 2 * level + 2)
        np.testing.assert_allclose(covariances[level], posterior[at, at], rtol=1e-9)


def test_the_ml_value_is_the_normal_density() -> None:
    model, psi, sigma2 = simulated()
    beta = np.array([0.2, -0.5, 0.1])
    V = marginal_covariance(model, psi, sigma2)
    expected = scipy.stats.multivariate_normal.logpdf(model.y, model.offset + model.X @ beta, V)
    np.testing.assert_allclose(
        dense_loglik(model, beta, psi, sigma2, reml=False), expected, rtol=1e-12
    )


def test_the_reml_value_is_the_density_of_error_contrasts() -> None:
    # Harville (1974): for orthonormal K with K'X = 0 the density of K'y has a further factor
    # |X'X|^(1/2), which lme4 and this oracle leave out.
    model, psi, sigma2 = simulated()
    Q = np.linalg.qr(model.X, mode="complete")[0]
    K = Q[:, model.X.shape[1] :]
    V = marginal_covariance(model, psi, sigma2)
    density = scipy.stats.multivariate_normal.logpdf(
        K.T @ (model.y - model.offset), cov=K.T @ V @ K
    )
    constant = 0.5 * np.linalg.slogdet(model.X.T @ model.X)[1]
    np.testing.assert_allclose(
        profiled_loglik(model, psi, sigma2, reml=True), density - constant, rtol=1e-12
    )


@pytest.mark.parametrize("reml", [False, True])
def test_gls_maximizes_over_beta(reml: bool) -> None:
    model, psi, sigma2 = simulated()
    beta, cov = gls(model, psi, sigma2)

    def loglik(at: Array) -> float:
        return dense_loglik(model, at, psi, sigma2, reml=reml)

    np.testing.assert_allclose(numeric_gradient(loglik, beta), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.inv(-numeric_hessian(loglik, beta)), cov, rtol=1e-8)


def test_conditional_modes_solve_hendersons_equations() -> None:
    model, psi, sigma2 = simulated()
    beta, _ = gls(model, psi, sigma2)
    indicator = [np.eye(6)[term.codes] for term in model.terms]
    Z = np.hstack(
        [
            (one_hot[:, :, None] * term.Z[:, None, :]).reshape(40, -1)
            for one_hot, term in zip(indicator, model.terms, strict=True)
        ]
    )
    prior = np.zeros((18, 18))
    prior[:12, :12] = np.kron(np.eye(6), psi[0])
    prior[12:, 12:] = np.kron(np.eye(6), psi[1])
    assert model.weights is not None
    weighted = Z.T * model.weights / sigma2
    posterior = np.linalg.inv(weighted @ Z + np.linalg.inv(prior))
    b = posterior @ weighted @ (model.y - model.offset - model.X @ beta)
    (first, first_cov), (second, second_cov) = conditional_modes(model, psi, sigma2)
    np.testing.assert_allclose(np.concatenate([first.ravel(), second.ravel()]), b, rtol=1e-9)
    for level in range(6):
        at = slice(2 * level, 2 * level + 2)
        np.testing.assert_allclose(first_cov[level], posterior[at, at], rtol=1e-9)
        np.testing.assert_allclose(
            second_cov[level, 0, 0], posterior[12 + level, 12 + level], rtol=1e-9
        )


def test_directions_are_the_derivatives_of_the_covariance() -> None:
    model, _, _ = simulated()
    derivative = numeric_gradient(lambda at: marginal_covariance(model, *unpack(at)), THETA)
    for k, E in enumerate(vech_directions(2)):
        np.testing.assert_allclose(derivative[..., k], spread(model.terms[0], E), atol=1e-10)


def test_ml_expected_information_is_the_mean_hessian() -> None:
    # Over y the Hessian of the log-likelihood is linear in r r', whose mean is V: the average over
    # r = sqrt(N) times the columns of V's Cholesky factor is exact.
    model, psi, sigma2 = simulated()
    root = np.sqrt(len(model.y)) * np.linalg.cholesky(marginal_covariance(model, psi, sigma2))

    def mean_loglik(at: Array) -> float:
        V = marginal_covariance(model, *unpack(at))
        fit = np.mean(np.sum(root * np.linalg.solve(V, root), axis=0))
        return float(-0.5 * (np.linalg.slogdet(V)[1] + fit))

    np.testing.assert_allclose(
        expected_information(model, psi, sigma2, reml=False),
        -numeric_hessian(mean_loglik, THETA),
        rtol=1e-6,
        atol=1e-7,
    )


def test_reml_expected_information_is_that_of_error_contrasts() -> None:
    model, psi, sigma2 = simulated()
    K = np.linalg.qr(model.X, mode="complete")[0][:, 3:]
    V = K.T @ marginal_covariance(model, psi, sigma2) @ K
    derivative = numeric_gradient(
        lambda at: K.T @ marginal_covariance(model, *unpack(at)) @ K, THETA
    )
    products = [np.linalg.solve(V, derivative[..., k]) for k in range(5)]
    expected = [[0.5 * np.trace(a @ b) for b in products] for a in products]
    np.testing.assert_allclose(
        expected_information(model, psi, sigma2, reml=True), expected, rtol=1e-8
    )


def test_numeric_derivatives_of_known_functions() -> None:
    x = np.array([0.3, -2.0, 40.0])
    gradient = numeric_gradient(lambda at: np.array([np.exp(at[0]) * at[1], np.log(at[2])]), x)
    expected = [[np.exp(0.3) * -2, np.exp(0.3), 0], [0, 0, 1 / 40]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-12)
    hessian = numeric_hessian(lambda at: float(np.exp(at[0]) * at[1] ** 3), x[:2])
    e = np.exp(0.3)
    np.testing.assert_allclose(hessian, [[-8 * e, 12 * e], [12 * e, -12 * e]], rtol=1e-8)
