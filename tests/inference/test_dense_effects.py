"""Modes, covariances and predictions of models with several factors, against dense algebra."""

import numpy as np
import polars as pl
import pytest

from lmmkit.design import group
from lmmkit.errors import ArgumentError, DataError, ModelSizeError
from lmmkit.fit import Fit
from lmmkit.inference import (
    fixed_effects,
    innovations,
    predict,
    random_effects,
    random_effects_covariance,
    residuals,
    simulate,
    uncertainty,
)
from tests.dense_oracle import Array
from tests.inference.dense_effects import columns, dense_effects
from tests.inference.models import MODELS, crossed_frame, model


@pytest.fixture(params=MODELS)
def fitted(request: pytest.FixtureRequest) -> Fit:
    return model(request.param)


def test_modes(fitted: Fit) -> None:
    table = random_effects(fitted)
    np.testing.assert_allclose(table["estimate"], dense_effects(fitted).modes, atol=1e-8)


def test_standard_errors_of_modes(fitted: Fit) -> None:
    expected = np.diagonal(dense_effects(fitted).covariance)
    table = random_effects(fitted)
    np.testing.assert_allclose(table["std_error"].to_numpy() ** 2, expected, atol=1e-9)


def test_covariances_of_levels(fitted: Fit) -> None:
    dense = dense_effects(fitted)
    for k, ours in enumerate(random_effects_covariance(fitted)):
        m, q = ours.shape[:2]
        rows = dense.of_term(k)
        theirs = dense.covariance[rows, rows].reshape(m, q, m, q)
        each = np.arange(m)
        np.testing.assert_allclose(ours, theirs[each, :, each], atol=1e-9)


def test_joint_covariances_across_the_terms_of_a_factor() -> None:
    fitted = model("two terms on a crossed factor")
    dense = dense_effects(fitted)
    of_s, of_d = random_effects_covariance(fitted, joint=True)
    assert of_s.shape == (9, 2, 2)
    assert of_d.shape == (6, 1, 1)
    for level in range(9):
        places = [level, 9 + 6 + level]
        expected = dense.covariance[np.ix_(places, places)]
        np.testing.assert_allclose(of_s[level], expected, atol=1e-10)
    assert (np.abs(of_s[:, 0, 1]) > 1e-4).any()
    with pytest.raises(ArgumentError, match="joint"):
        random_effects_covariance(fitted, joint="yes")  # type: ignore[arg-type]


def test_fixed_effects(fitted: Fit) -> None:
    dense, table = dense_effects(fitted), fixed_effects(fitted)
    p = len(dense.beta)
    np.testing.assert_allclose(table["estimate"], dense.beta, atol=1e-8)
    errors = np.sqrt(np.diagonal(dense.joint)[:p])
    np.testing.assert_allclose(table["std_error"], errors, rtol=1e-8)


def test_predictions_of_the_rows_of_the_fit(fitted: Fit) -> None:
    dense, design = dense_effects(fitted), fitted.design
    table = predict(fitted, std_error=True)
    offset = 0.0 if design.offset is None else design.offset
    expected = offset + design.X @ dense.beta + dense.Z @ dense.modes
    np.testing.assert_allclose(table["estimate"], expected, atol=1e-8)
    np.testing.assert_allclose(table["std_error"], _errors(dense.joint, design.X, dense.Z))


def _errors(joint: Array, X: Array, Z: Array) -> Array:
    rows = np.hstack([X, Z])
    return np.asarray(np.sqrt(np.einsum("na,ab,nb->n", rows, joint, rows)))


def test_new_rows_agree_with_the_rows_of_the_fit(fitted: Fit) -> None:
    frame = crossed_frame().drop("y").reverse()
    table = predict(fitted, frame, std_error=True)
    expected = predict(fitted, std_error=True).reverse()
    for name in ("estimate", "std_error"):
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-10)


def test_a_known_level_of_one_factor_and_a_new_one_of_the_other() -> None:
    fitted = model("crossed with slopes, weighted")
    new = pl.DataFrame(
        {
            "x": [0.5, -1.0, 2.0, 1.0],
            "s": ["s1", "new", "s3", "new"],
            "d": ["new", "d2", "d4", "new"],
            "shift": [0.0, 1.0, 2.0, 0.0],
        }
    )
    table = predict(fitted, new, std_error=True)
    dense, (slopes, other) = dense_effects(fitted), fitted.design.terms
    x = new["x"].to_numpy()
    X = np.column_stack([np.ones(4), x])
    of_s = columns(slopes, X, np.array([1, 0, 3, 0]), np.array([[1.0], [0.0], [1.0], [0.0]]))
    of_d = columns(other, X[:, :1], np.array([0, 2, 4, 0]), np.array([[0.0], [1.0], [1.0], [0.0]]))
    Z = np.hstack([of_s, of_d])
    estimate = new["shift"].to_numpy() + X @ dense.beta + Z @ dense.modes
    np.testing.assert_allclose(table["estimate"], estimate, atol=1e-8)
    psi_s, psi_d = fitted.natural.psi
    prior_s = np.einsum("na,ab,nb->n", X, psi_s, X) * np.array([0.0, 1.0, 0.0, 1.0])
    prior = prior_s + psi_d[0, 0] * np.array([1.0, 0.0, 0.0, 1.0])
    expected = _errors(dense.joint, X, Z) ** 2 + prior
    np.testing.assert_allclose(table["std_error"].to_numpy() ** 2, expected)
    with pytest.raises(DataError, match=r"2 row\(s\) have a level of 's'.*first at row 1"):
        predict(fitted, new, new_levels="raise")


def test_a_level_without_rows_is_predicted_by_its_relatives() -> None:
    fitted = model("animals")
    table = random_effects(fitted).filter(pl.col("level").is_in(["a00", "a01"]))
    assert (table["estimate"].abs() > 1e-3).all()
    new = pl.DataFrame({"x": [0.0, 0.0], "a": ["a00", "stranger"]})
    predicted = predict(fitted, new, std_error=True)
    beta = fixed_effects(fitted)["estimate"][0]
    np.testing.assert_allclose(predicted["estimate"][0], beta + table["estimate"][0])
    np.testing.assert_allclose(predicted["estimate"][1], beta)
    variance = fitted.natural.psi[0][0, 0] + fixed_effects(fitted)["std_error"][0] ** 2
    np.testing.assert_allclose(predicted["std_error"][1] ** 2, variance)


def test_one_known_and_one_new_membership() -> None:
    fitted = model("memberships")
    new = pl.DataFrame({"x": [0.0], "a": ["a05"], "b": ["new"], "d": ["d1"]})
    predicted = predict(fitted, new, std_error=True)
    dense, (member, other) = dense_effects(fitted), fitted.design.terms
    one = np.ones((1, 1))
    code = np.array([member.levels.to_list().index("a05")])
    Z = np.hstack([columns(member, one, code, 0.5 * one), columns(other, one, np.array([1]), one)])
    X = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(predicted["estimate"], X @ dense.beta + Z @ dense.modes)
    expected = _errors(dense.joint, X, Z) ** 2 + 0.25 * fitted.natural.psi[0][0, 0]
    np.testing.assert_allclose(predicted["std_error"].to_numpy() ** 2, expected)


def test_normalized_residuals_are_the_cholesky_solution(fitted: Fit) -> None:
    dense, r = dense_effects(fitted), residuals(fitted, "marginal")["residual"].to_numpy()
    ours = residuals(fitted, "normalized")["residual"]
    for block in group(fitted.design):
        for rows in block.rows:
            root = np.linalg.cholesky(dense.V[np.ix_(rows, rows)])
            np.testing.assert_allclose(ours.gather(rows), np.linalg.solve(root, r[rows]), atol=1e-9)


def test_normalized_residuals_of_many_runs_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effects enter and leave what is carried along."""
    for name in ("nested and crossed", "animals with slopes, crossed", "memberships"):
        fitted = model(name)
        whole = residuals(fitted, "normalized")["residual"]
        monkeypatch.setattr(innovations, "_ROWS_AT_A_TIME", 7)
        np.testing.assert_allclose(residuals(fitted, "normalized")["residual"], whole, atol=1e-10)


def test_normalized_residuals_too_large_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(
        ModelSizeError, match=r"joint covariance of 6 random effects.*Sort the rows"
    ):
        residuals(model("crossed"), "normalized")


def test_conditional_residuals(fitted: Fit) -> None:
    dense, design = dense_effects(fitted), fitted.design
    known = 0.0 if design.offset is None else design.offset
    expected = design.y - known - design.X @ dense.beta - dense.Z @ dense.modes
    np.testing.assert_allclose(residuals(fitted)["residual"], expected, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["nested and crossed", "weighted memberships, slopes", "animals with slopes, crossed"]
)
def test_simulated_responses_have_the_marginal_moments(name: str) -> None:
    fitted = model(name)
    dense, n = dense_effects(fitted), 4000
    draws = simulate(fitted, n, seed=1).drop("row").to_numpy().T
    variance = np.diagonal(dense.V)
    centred = draws - residuals(fitted, "marginal")["fitted"].to_numpy()
    assert np.abs(centred.mean(axis=0) / np.sqrt(variance / n)).max() < 5.0
    error = np.sqrt((np.outer(variance, variance) + dense.V**2) / n)
    assert np.abs((centred.T @ centred / n - dense.V) / error).max() < 5.5


def test_predictions_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("animals with slopes, crossed", "nested and crossed"):
        whole = predict(model(name), std_error=True)["std_error"]
        monkeypatch.setattr(uncertainty, "_ROWS_AT_A_TIME", 40)
        pieces = predict(model(name), std_error=True)["std_error"]
        np.testing.assert_allclose(pieces, whole, rtol=1e-12)
