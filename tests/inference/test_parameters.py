"""Names of the parameters; their covariance against second derivatives of the dense oracle."""

import numpy as np
import polars as pl
import pytest

from lmmkit.fit import Fit, fit, fit_design
from lmmkit.inference import Parameter, parameter_covariance, parameters, variance_components
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import dense_loglik, numeric_gradient, numeric_hessian
from tests.helpers import dense_model, reference_frame
from tests.inference.fitted import fitted, simulated

SLOPES = "y ~ x + (x | g)"


def oracle_covariance(result: Fit, free: list[int]) -> FloatArray:
    """Inverse of minus the Hessian of the dense log-likelihood, over the entries ``free``."""
    model, at = dense_model(result.design), result.natural.pack()
    p = model.X.shape[1]
    sizes = [term.q for term in result.design.terms]

    def loglik(values: FloatArray) -> float:
        packed = at.copy()
        packed[free] = values
        return dense_loglik(
            model, packed[:p], matrices(packed[p:-1], sizes), packed[-1], reml=result.reml
        )

    step = np.maximum(np.abs(at[free]), 1e-3 * at[-1]) / 50
    return np.asarray(np.linalg.inv(-numeric_hessian(loglik, at[free], step)))


def matrices(values: FloatArray, sizes: list[int]) -> list[FloatArray]:
    found: list[FloatArray] = []
    for q in sizes:
        part, values = values[: q * (q + 1) // 2], values[q * (q + 1) // 2 :]
        full = np.zeros((q, q))
        full[np.tril_indices(q)] = part
        found.append(full + full.T - np.diag(np.diagonal(full)))
    return found


def assert_same(ours: FloatArray, theirs: FloatArray, tolerance: float = 1e-5) -> None:
    scale = np.sqrt(np.diagonal(theirs))
    scale = np.outer(scale, scale)
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance)


def test_names_in_packed_order() -> None:
    assert parameters(fitted("sleep_rs")) == (
        Parameter(0, None, "Intercept", "fixed"),
        Parameter(1, None, "Days", "fixed"),
        Parameter(2, "Subject", "Intercept", "variance"),
        Parameter(3, "Subject", "Intercept, Days", "covariance", (2, 4)),
        Parameter(4, "Subject", "Days", "variance"),
        Parameter(5, "Residual", "Residual", "residual"),
    )


def test_three_effects_in_packed_order() -> None:
    found = {p.index: p for p in parameters(fitted("machines_vec"))}
    for p in found.values():
        if p.variances is not None:
            first, second = (found[i].term for i in p.variances)
            assert p.term == f"{first}, {second}"
    kinds = ["variance", "covariance", "variance", "covariance", "covariance", "variance"]
    assert [found[i].kind for i in range(3, 9)] == kinds


def test_the_same_effect_in_two_terms_on_one_factor_has_two_names() -> None:
    names = [p.term for p in parameters(twice()) if p.group == "g"]
    assert names == ["Intercept", "Intercept.1"]


def twice() -> Fit:
    """Two equal terms: only the sum of their variances is identified."""
    once = fit("y ~ x + (1 | g)", simulated(1, 0.8))
    return fit_design(evolve(once.design, terms=once.design.terms * 2))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", [SLOPES, "y ~ x + (1 | g)", "y ~ 1 + (x || g)"])
def test_covariance_is_the_inverse_of_the_observed_information(formula: str, reml: bool) -> None:
    result = fit(formula, simulated(1, 0.8), reml=reml, weights="w")
    everything = list(range(len(parameters(result))))
    assert_same(parameter_covariance(result), oracle_covariance(result, everything))


def test_held_parameters_have_none_and_the_rest_is_conditional_on_them() -> None:
    result = fit(SLOPES, simulated(1, 0.8), fixed={"sigma2": 1.1, ("g", "x"): 0.5})
    ours = parameter_covariance(result)
    free = [0, 1, 2, 3]
    assert np.isnan(ours[4:]).all()
    assert np.isnan(ours[:, 4:]).all()
    assert_same(ours[:4, :4], oracle_covariance(result, free))


def test_a_held_fixed_effect_under_ml() -> None:
    result = fit(SLOPES, simulated(1, 0.8), fixed={"x": 0.3}, reml=False)
    ours = parameter_covariance(result)
    free = [0, 2, 3, 4, 5]
    assert np.isnan(ours[1]).all()
    assert_same(ours[np.ix_(free, free)], oracle_covariance(result, free))


def test_an_effect_held_at_zero_is_left_out() -> None:
    frame = simulated(1, 0.8)
    result = fit(SLOPES, frame, fixed={("g", "x"): 0.0})
    smaller = parameter_covariance(fit("y ~ x + (1 | g)", frame))
    ours = parameter_covariance(result)
    assert np.isnan(ours[3:5]).all()
    free = [0, 1, 2, 5]
    assert_same(ours[np.ix_(free, free)], smaller)


@pytest.mark.parametrize("case_id", ["dyestuff2_singular", "dyestuff2_singular_ml"])
def test_zero_variance(case_id: str) -> None:
    result = fitted(case_id)
    ours = parameter_covariance(result)
    assert np.isnan(ours[1]).all()
    n, sigma2 = result.design.n_obs, float(result.natural.sigma2)
    df = n - 1 if result.reml else n
    np.testing.assert_allclose(ours[[0, 2], [0, 2]], [sigma2 / n, 2 * sigma2**2 / df], rtol=1e-8)
    errors = variance_components(result)["std_error"]
    assert errors[0] is None
    assert errors[1] is not None


@pytest.mark.parametrize("held", [{}, {("g", "x"): 0.05}])
def test_a_singular_covariance_keeps_its_rank(held: dict[tuple[str, str], float]) -> None:
    """A correlation of one: Psi is singular, no variance is zero. Psi = t t' for a vector t."""
    result = fit(SLOPES, simulated(39, 0.3), fixed=held)
    assert result.certificate.singular == (0,)
    psi, beta = result.natural.psi[0], result.natural.beta
    assert beta is not None
    assert psi[1, 1] > 0
    model = dense_model(result.design)
    first = np.sqrt(psi[0, 0])
    at = np.array([*beta, result.natural.sigma2, first, psi[1, 0] / first])
    free = slice(0, 4 if held else 5)

    def natural(values: FloatArray) -> FloatArray:
        full = np.concatenate([values, at[len(values) :]])
        a, b = full[3:]
        return np.array([full[0], full[1], a * a, a * b, b * b, full[2]])

    def loglik(values: FloatArray) -> float:
        packed = natural(values)
        return dense_loglik(model, packed[:2], matrices(packed[2:5], [2]), packed[5], reml=True)

    step = np.abs(at[free]) / 50
    inner = np.linalg.inv(-numeric_hessian(loglik, at[free], step))
    jacobian = numeric_gradient(natural, at[free], step)
    expected = jacobian @ inner @ jacobian.T
    kept = np.flatnonzero(np.diagonal(expected) > 0)
    ours = parameter_covariance(result)
    assert_same(ours[np.ix_(kept, kept)], expected[np.ix_(kept, kept)], tolerance=1e-4)
    assert np.isnan(ours[4, 4]) == bool(held)


def test_a_held_singular_matrix_does_not_depend_on_the_order_of_rows() -> None:
    frame = simulated(39, 0.3)
    direction = np.array([1.0, 0.4])
    held = {("g",): 0.5 * np.outer(direction, direction)}
    errors = [
        variance_components(fit(SLOPES, rows, fixed=held))["std_error"].to_list()
        for rows in (frame, frame.reverse(), frame.sample(fraction=1.0, shuffle=True, seed=3))
    ]
    assert errors[0][-1] is not None
    for other in errors[1:]:
        assert other[:-1] == errors[0][:-1]
        assert other[-1] == pytest.approx(errors[0][-1], rel=1e-8)


def test_variances_that_the_data_do_not_identify_have_no_standard_error() -> None:
    ours = parameter_covariance(twice())
    identified = parameter_covariance(fit("y ~ x + (1 | g)", simulated(1, 0.8)))
    assert np.isnan(ours[2:4]).all()
    assert_same(ours[np.ix_([0, 1, 4], [0, 1, 4])], identified[np.ix_([0, 1, 3], [0, 1, 3])])


@pytest.mark.parametrize("c", [1e-6, 1e-2, 1e3, 1e6])
def test_standard_errors_scale_as_the_response_does(c: float) -> None:
    frame = reference_frame("sleepstudy")
    scaled = frame.with_columns(pl.col("Reaction") * c)
    formula = "Reaction ~ Days + (Days | Subject)"
    ours = np.sqrt(np.diagonal(parameter_covariance(fit(formula, scaled))))
    theirs = np.sqrt(np.diagonal(parameter_covariance(fit(formula, frame))))
    np.testing.assert_allclose(ours, theirs * [c, c, c**2, c**2, c**2, c**2], rtol=1e-5)


def test_a_covariate_far_from_zero() -> None:
    """Shifting x recombines intercept and slope: the slope's variance keeps its standard error."""
    frame = simulated(1, 0.8)
    moved = frame.with_columns(pl.col("x") + 2000.0)
    before, after = (parameter_covariance(fit(SLOPES, f)) for f in (frame, moved))
    kept = [1, 4, 5]
    assert_same(after[np.ix_(kept, kept)], before[np.ix_(kept, kept)], tolerance=1e-4)
