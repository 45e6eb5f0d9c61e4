"""Predictions against Henderson's mixed-model equations, and their handling of new rows."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit.errors import ArgumentError, ColumnNotFoundError, DataError
from lmmkit.fit import Fit, fit
from lmmkit.inference.predict import predict
from lmmkit.inference.residuals import residuals
from tests.dense_oracle import Array, gls
from tests.helpers import dense_model, reference_case

_FORMULA = "Reaction ~ Days + (Days | Subject)"


def _frame() -> pl.DataFrame:
    frame = reference_case("sleep_rs").frame()
    generator = np.random.default_rng(2)
    return frame.with_columns(
        w=generator.uniform(0.5, 2.0, frame.height), shift=generator.normal(size=frame.height)
    )


def _weighted() -> Fit:
    return fit(_FORMULA, _frame(), weights="w", offset="shift")


def _henderson(fitted: Fit) -> tuple[Array, Array]:
    """All rows of [X Z] with one column an effect and level; the inverse of the equations."""
    design, natural = fitted.design, fitted.natural
    (term,) = design.terms
    m = len(term.levels)
    Z = np.zeros((design.n_obs, m, term.q))
    Z[np.arange(design.n_obs), term.codes] = term.Z
    columns = np.hstack([design.X, Z.reshape(design.n_obs, -1)])
    weights = np.ones(design.n_obs) if design.weights is None else design.weights
    equations = columns.T @ (columns * (weights / natural.sigma2)[:, None])
    p = design.X.shape[1]
    equations[p:, p:] += np.kron(np.eye(m), np.linalg.inv(natural.psi[0]))
    return columns, np.linalg.inv(equations)


def test_the_rows_of_the_fit_by_hendersons_equations() -> None:
    fitted = _weighted()
    columns, inverse = _henderson(fitted)
    table = predict(fitted, std_error=True)
    design = fitted.design
    assert design.weights is not None
    assert design.offset is not None
    y = design.y - design.offset
    right = columns.T @ (y * design.weights) / fitted.natural.sigma2
    estimate = design.offset + columns @ (inverse @ right)
    np.testing.assert_allclose(table["estimate"], estimate, rtol=1e-9)
    error = np.sqrt(np.einsum("na,ab,nb->n", columns, inverse, columns))
    np.testing.assert_allclose(table["std_error"], error, rtol=1e-8)
    assert table["row"].to_list() == list(range(180))


def test_a_population_prediction_has_the_variance_of_beta_alone() -> None:
    fitted = _weighted()
    design, natural = fitted.design, fitted.natural
    beta, covariance = gls(dense_model(design), natural.psi, float(natural.sigma2))
    table = predict(fitted, kind="population", std_error=True)
    assert design.offset is not None
    np.testing.assert_allclose(table["estimate"], design.offset + design.X @ beta, rtol=1e-9)
    error = np.sqrt(np.einsum("na,ab,nb->n", design.X, covariance, design.X))
    np.testing.assert_allclose(table["std_error"], error, rtol=1e-8)


def test_the_interval_has_its_level() -> None:
    table = predict(_weighted(), std_error=True, level=0.8)
    half = (table["conf_high"] - table["conf_low"]) / 2
    np.testing.assert_allclose(half, 1.2815515655446004 * table["std_error"], rtol=1e-10)
    centre = (table["conf_high"] + table["conf_low"]) / 2
    np.testing.assert_allclose(centre, table["estimate"], rtol=1e-12)


def test_new_rows_of_known_levels_agree_with_the_rows_of_the_fit() -> None:
    fitted, frame = _weighted(), _frame()
    new = frame.drop("Reaction").reverse()
    table = predict(fitted, new, std_error=True)
    expected = predict(fitted, std_error=True).reverse()
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-12)
    assert table["row"].to_list() == list(range(180))


def test_a_new_level_has_no_random_effect_and_its_prior_variance() -> None:
    fitted = _weighted()
    new = pl.DataFrame({"Days": [0.0, 4.0], "Subject": ["999", "999"], "shift": [0.5, 0.0]})
    table = predict(fitted, new, std_error=True)
    population = predict(fitted, new, kind="population", std_error=True)
    np.testing.assert_allclose(table["estimate"], population["estimate"], rtol=1e-12)
    z = np.array([[1.0, 0.0], [1.0, 4.0]])
    prior = np.einsum("na,ab,nb->n", z, fitted.natural.psi[0], z)
    expected = population["std_error"].to_numpy() ** 2 + prior
    np.testing.assert_allclose(table["std_error"].to_numpy() ** 2, expected, rtol=1e-10)
    with pytest.raises(DataError, match=r"2 row\(s\) have a level of 'Subject'.*row 0"):
        predict(fitted, new, new_levels="raise")


def test_a_missing_predictor_gives_null_in_its_row() -> None:
    fitted = _weighted()
    subject = _frame()["Subject"][0]
    new = pl.DataFrame(
        {"Days": [1.0, None, 3.0], "Subject": [subject, subject, None], "shift": [0.0, 0.0, 0.0]}
    )
    table = predict(fitted, new, std_error=True)
    assert table["row"].to_list() == [0, 1, 2]
    assert table["estimate"].is_null().to_list() == [False, True, True]
    assert table["std_error"].is_null().to_list() == [False, True, True]
    population = predict(fitted, new.drop("Subject"), kind="population")
    assert population["estimate"].is_null().to_list() == [False, True, False]


def test_rows_dropped_from_the_fit_have_no_prediction_unless_asked_for() -> None:
    frame = _frame().with_columns(
        Reaction=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(pl.col("Reaction"))
    )
    fitted = fit(_FORMULA, frame)
    assert 3 not in predict(fitted)["row"].to_list()
    assert predict(fitted).equals(residuals(fitted).select("row", estimate="fitted"))
    assert predict(fitted, frame)["estimate"].null_count() == 0


def test_a_singular_covariance_predicts_like_the_population() -> None:
    case = reference_case("dyestuff2_singular")
    fitted = fit(case.formula, case.frame())
    conditional = predict(fitted, std_error=True)
    population = predict(fitted, kind="population", std_error=True)
    np.testing.assert_allclose(conditional["estimate"], population["estimate"], rtol=1e-12)
    np.testing.assert_allclose(conditional["std_error"], population["std_error"], rtol=1e-10)


def test_a_held_fixed_effect_adds_no_uncertainty() -> None:
    fitted = fit(_FORMULA, _frame(), fixed={"Intercept": 250.0})
    new = pl.DataFrame({"Days": [0.0, 1.0, 2.0]})
    error = predict(fitted, new, kind="population", std_error=True)["std_error"].to_numpy()
    assert error[0] == pytest.approx(0.0, abs=1e-9)
    assert error[2] == pytest.approx(2.0 * error[1], rel=1e-8)


@pytest.mark.parametrize("kind", ["conditional", "population"])
@pytest.mark.parametrize("days", [[], [None], [None, None]])
def test_rows_without_predictors_are_null_rows(kind: str, days: list[None]) -> None:
    schema = {"Days": pl.Float64, "Subject": pl.String}
    new = pl.DataFrame({"Days": days, "Subject": ["308"] * len(days)}, schema=schema)
    table = predict(fit(_FORMULA, _frame()), new, kind=kind, std_error=True)
    assert table["row"].to_list() == list(range(len(days)))
    assert table["estimate"].to_list() == days
    assert table["std_error"].to_list() == days


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kind": "response"}, ArgumentError, "'population' or 'correlated', got 'response'"),
        ({"new_levels": "drop"}, ArgumentError, "'population' or 'raise', got 'drop'"),
        ({"level": 95}, ArgumentError, "between 0 and 1"),
        ({"offset": [1.0]}, ArgumentError, "for new rows"),
        ({"frame": pl.DataFrame({"Days": [1.0]})}, ColumnNotFoundError, "Subject"),
    ],
)
def test_wrong_calls(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        predict(_weighted(), **options)
