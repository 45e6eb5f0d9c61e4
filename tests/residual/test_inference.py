"""What the functions of a fit say of one with a residual structure, against dense algebra."""

import pickle

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference import (
    confidence_intervals,
    fixed_covariance,
    likelihood_ratio_test,
    predict,
    random_effects,
    residual_parameters,
    residuals,
    simulate,
    summary,
    variance_components,
)
from lmmkit.residual import (
    Residual,
    ar1,
    car1,
    compound_symmetry,
    correlation_function,
    exponential,
    per_stratum,
    unstructured,
)
from tests.dense_oracle import numeric_gradient, numeric_hessian
from tests.residual.dense import dense_value, frame, random_part, residual_covariance

FORMULA = "y ~ x + (1 | id)"
STRUCTURE = Residual(ar1("visit"), per_stratum("kind"))


def _data() -> pl.DataFrame:
    """Enough groups, with an effect of the group and a chain inside it."""
    data = frame(seed=2, groups=60)
    generator = np.random.default_rng(4)
    V = _covariance(data, 1.2, 0.8, np.array([0.5, 1.5, 0.8]))
    noise = np.linalg.cholesky(V) @ generator.normal(size=data.height)
    return data.with_columns(y=1.0 + 0.5 * pl.col("x") + pl.Series(noise))


def _covariance(data: pl.DataFrame, psi: float, sigma2: float, values: np.ndarray) -> np.ndarray:
    phi, *ratios = values
    G = residual_covariance(
        data,
        lambda a, b: phi ** abs(a["visit"] - b["visit"]),
        lambda row: (1.0, *ratios)["pqr".index(row["kind"])],
    )
    return sigma2 * G + random_part(data, np.array([[psi]]))


DATA = _data()
FIT = fit(FORMULA, DATA, weights=None, residual=STRUCTURE)
X = np.column_stack([np.ones(DATA.height), DATA["x"]])
Y = DATA["y"].to_numpy()


def _packed(found: Fit) -> np.ndarray:
    assert found.residual is not None
    psi, sigma2 = found.natural.psi[0][0, 0], float(found.natural.sigma2)
    return np.array([psi, sigma2, *found.residual.estimates])


def _dense(x: np.ndarray) -> float:
    return dense_value(Y, X, _covariance(DATA, x[0], x[1], x[2:]), restricted=True)


def test_the_estimates_are_a_maximum_of_the_dense_likelihood() -> None:
    at = _packed(FIT)
    assert FIT.loglik == pytest.approx(_dense(at), rel=1e-10)
    gradient = numeric_gradient(_dense, at, 1e-2 * np.abs(at))
    errors = variance_components(FIT)["std_error"].to_numpy()
    assert np.abs(gradient * errors).max() < 1e-3


def test_standard_errors_come_from_the_information_of_all_parameters() -> None:
    at = _packed(FIT)
    information = -numeric_hessian(_dense, at, 2e-2 * np.abs(at))
    errors = np.sqrt(np.diagonal(np.linalg.inv(information)))
    assert variance_components(FIT)["std_error"].to_numpy() == pytest.approx(errors, rel=1e-4)
    assert residual_parameters(FIT)["std_error"].to_numpy() == pytest.approx(errors[2:], rel=1e-4)


def test_covariance_of_the_fixed_effects() -> None:
    x = _packed(FIT)
    V = _covariance(DATA, x[0], x[1], x[2:])
    covariance = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    assert fixed_covariance(FIT) == pytest.approx(covariance, rel=1e-8)


def test_modes_are_those_of_the_dense_model() -> None:
    x = _packed(FIT)
    V = _covariance(DATA, x[0], x[1], x[2:])
    assert FIT.natural.beta is not None
    r = np.linalg.solve(V, Y - X @ FIT.natural.beta)
    for level, mode in random_effects(FIT).select("level", "estimate").iter_rows():
        assert mode == pytest.approx(x[0] * r[(DATA["id"] == level).to_numpy()].sum(), rel=1e-7)


def test_normalized_residuals_are_independent_of_unit_variance() -> None:
    x = _packed(FIT)
    V = _covariance(DATA, x[0], x[1], x[2:])
    assert FIT.natural.beta is not None
    r = Y - X @ FIT.natural.beta
    order = np.lexsort((DATA["visit"].to_numpy(), DATA["id"].to_numpy()))
    own = residuals(FIT, "normalized")["residual"].to_numpy()[order]
    sorted_V = V[np.ix_(order, order)]
    assert own == pytest.approx(np.linalg.solve(np.linalg.cholesky(sorted_V), r[order]), rel=1e-6)


def test_pearson_residuals_are_in_units_of_each_rows_deviation() -> None:
    x = _packed(FIT)
    raw = residuals(FIT)["residual"].to_numpy()
    ratio = np.array([(1.0, *x[3:])["pqr".index(kind)] for kind in DATA["kind"]])
    pearson = residuals(FIT, "pearson")["residual"].to_numpy()
    assert pearson == pytest.approx(raw / (np.sqrt(x[1]) * ratio), rel=1e-10)


def test_simulated_responses_have_the_marginal_covariance() -> None:
    x = _packed(FIT)
    V = _covariance(DATA, x[0], x[1], x[2:])
    n = 4000
    draws = simulate(FIT, n, seed=3).drop("row").to_numpy()
    one = np.flatnonzero((DATA["id"] == "g01").to_numpy())
    own = np.cov(draws[one])
    expected = V[np.ix_(one, one)]
    root = np.sqrt(np.diagonal(expected))
    assert np.abs(own - expected).max() / np.outer(root, root).max() < 6 / np.sqrt(n)


def test_predictions_use_the_modes_of_the_structured_fit() -> None:
    table = predict(FIT, std_error=True)
    assert table["estimate"].to_numpy() == pytest.approx(residuals(FIT)["fitted"].to_numpy())
    x = _packed(FIT)
    V = _covariance(DATA, x[0], x[1], x[2:])
    Z = (DATA["id"].to_numpy()[:, None] == DATA["id"].unique().sort().to_numpy()).astype(float)
    prior = x[0] * Z
    known = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    a = X - prior @ Z.T @ np.linalg.solve(V, X)
    left = x[0] * Z @ Z.T - prior @ Z.T @ np.linalg.solve(V, Z @ prior.T)
    variance = np.diagonal(left) + np.einsum("ij,jk,ik->i", a, known, a)
    assert table["std_error"].to_numpy() == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_tables_and_summary_name_the_parameters() -> None:
    names = ["phi", "sd ratio kind[q]", "sd ratio kind[r]"]
    components = variance_components(FIT)
    assert components.filter(kind="structure")["term"].to_list() == names
    limits = confidence_intervals(FIT).filter(kind="structure")
    assert limits["term"].to_list() == names
    assert (limits["conf_low"] < limits["estimate"]).all()
    assert (limits["estimate"] < limits["conf_high"]).all()
    text = str(summary(FIT))
    assert all(name in text for name in names)


def test_likelihood_ratio_counts_the_structure() -> None:
    plain = fit(FORMULA, DATA)
    table = likelihood_ratio_test(plain, FIT)
    assert table["df"].item() == 3
    assert table["statistic"].item() == pytest.approx(2.0 * (FIT.loglik - plain.loglik))
    larger = fit("y ~ x + (1 + x | id)", DATA)
    with pytest.raises(ArgumentError, match="among the covariances of the rows"):
        likelihood_ratio_test(fit(FORMULA, DATA, residual=Residual(ar1("visit"))), larger)


def test_held_parameters_stay_held_beside_a_structure() -> None:
    steps, known = Residual(ar1("visit")), {"sigma2": 0.9, "x": 0.4}
    held = fit(FORMULA, DATA, reml=False, residual=steps, fixed=known)
    assert held.natural.sigma2 == 0.9
    assert held.natural.beta is not None
    assert held.natural.beta[1] == 0.4
    free = fit(FORMULA, DATA, reml=False, residual=steps)
    assert held.loglik < free.loglik
    assert residual_parameters(held)["std_error"].is_not_null().all()


def test_order_of_rows_and_units_do_not_matter() -> None:
    shuffled = fit(FORMULA, DATA.sample(fraction=1.0, shuffle=True, seed=9), residual=STRUCTURE)
    assert shuffled.loglik == pytest.approx(FIT.loglik, rel=1e-9)
    scaled = fit(
        "y2 ~ x + (1 | id)",
        DATA.with_columns(y2=1000.0 * pl.col("y"), far=1000.0 * pl.col("time")),
        residual=Residual(exponential("far")),
    )
    plain = fit(FORMULA, DATA, residual=Residual(exponential("time")))
    assert scaled.residual is not None
    assert plain.residual is not None
    assert scaled.residual.estimates == pytest.approx(1000.0 * plain.residual.estimates, rel=1e-3)


def test_equivalent_structures_reach_the_same_optimum() -> None:
    """``phi^d = exp(-d / range)``."""
    chain = fit(FORMULA, DATA, residual=Residual(car1("time")))
    decay = fit(FORMULA, DATA, residual=Residual(exponential("time")))
    assert chain.residual is not None
    assert decay.residual is not None
    assert chain.loglik == pytest.approx(decay.loglik, rel=1e-9)
    log_phi = np.log(chain.residual.estimates[0])
    assert decay.residual.estimates[0] == pytest.approx(-1.0 / log_phi, rel=1e-3)


def test_a_structure_of_a_user_reaches_the_optimum_of_the_built_in_one() -> None:
    def decay(time: np.ndarray, *, range: float) -> np.ndarray:
        return np.asarray(np.exp(-np.abs(time - time.T) / range))

    own = correlation_function(decay, "time", {"range": (1.0, 0.0, np.inf)}, group="id")
    found = fit(FORMULA, DATA, residual=Residual(own))
    known = fit(FORMULA, DATA, residual=Residual(exponential("time")))
    assert found.residual is not None
    assert known.residual is not None
    assert found.loglik == pytest.approx(known.loglik, rel=1e-10)
    assert found.residual.estimates == pytest.approx(known.residual.estimates, rel=1e-3)


def test_fits_survive_pickling_and_compare_by_value() -> None:
    copy = pickle.loads(pickle.dumps(FIT))
    assert copy == FIT
    assert residual_parameters(copy).equals(residual_parameters(FIT))


def test_unstructured_residuals_beside_two_visits() -> None:
    two = DATA.filter(pl.col("visit") < 2)
    pair = fit("y ~ x", two, residual=Residual(unstructured("visit", group="id")))
    steps = fit("y ~ x", two, residual=Residual(ar1("visit", group="id")))
    assert pair.loglik == pytest.approx(steps.loglik, rel=1e-9)
    assert pair.residual is not None
    assert steps.residual is not None
    assert pair.residual.estimates == pytest.approx(steps.residual.estimates, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_two_ways_to_say_the_same_correlation_have_no_standard_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), 4)
    x = rng.normal(size=160)
    y = x + rng.normal(size=40)[groups] + rng.normal(size=160)
    data = pl.DataFrame({"y": y, "x": x, "id": groups})
    found = fit("y ~ x + (1 | id)", data, residual=Residual(compound_symmetry(group="id")))
    assert variance_components(found)["std_error"].to_list() == [None] * 3
