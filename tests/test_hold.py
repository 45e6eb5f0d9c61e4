"""Held parameters: exact themselves, the rest optimal by the dense oracle's likelihood."""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from lmmkit import Fit, datasets, fit
from lmmkit.errors import ParameterError, StrategyError
from lmmkit.optimize import default_strategy, em, seed_strategy
from lmmkit.records import FloatArray
from tests.dense_oracle import DenseModel, dense_loglik, marginal_covariance, profiled_loglik
from tests.helpers import dense_model, reference_frame

SLEEP = "Reaction ~ Days + (Days | Subject)"
PSI = np.array([[500.0, -20.0], [-20.0, 30.0]])
BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
HELD: dict[str, dict[Any, Any]] = {
    "slope": {"Days": 7.0},
    "intercept": {"Intercept": 240.0},
    "both": {"Days": 7.0, "Intercept": 260.0},
    "sigma2": {"sigma2": 300.0},
    "first variance": {("Subject", "Intercept"): 200.0},
    "second variance": {("Subject", "Days"): 60.0},
    "covariance": {("Subject", "Intercept", "Days"): 80.0},
    "no covariance": {("Subject", "Days", "Intercept"): 0.0},
    "both variances": {("Subject", "Intercept"): 700.0, ("Subject", "Days"): 10.0},
    "row": {("Subject", "Days"): 10.0, ("Subject", "Intercept", "Days"): -30.0},
    "matrix": {("Subject",): PSI},
    "variance and sigma2": {("Subject", "Days"): 60.0, "sigma2": 900.0},
    "variance and beta": {("Subject", "Intercept"): 900.0, "Days": 12.0},
    "one of each": {("Subject", "Intercept", "Days"): 5.0, "Days": 12.0, "sigma2": 650.0},
    "all": {("Subject",): PSI, "Days": 12.0, "Intercept": 250.0, "sigma2": 650.0},
}
ALL = pytest.mark.parametrize("held", HELD.values(), ids=list(HELD))
POSITION = {
    ("Subject", "Intercept"): 2,
    ("Subject", "Days"): 4,
    "sigma2": 5,
    "Intercept": 0,
    "Days": 1,
}


def sleep() -> pl.DataFrame:
    """Eight of the subjects, so that the dense likelihood is quick."""
    frame = reference_frame("sleepstudy", ["Subject"])
    return frame.filter(pl.col("Subject").is_in(frame["Subject"].unique().sort()[:8].implode()))


def beta_of(result: Fit) -> FloatArray:
    assert result.natural.beta is not None
    return result.natural.beta


def values_of(held: Mapping[Any, Any]) -> dict[int, float]:
    """Positions in (beta, psi's lower triangle, sigma2) and the values held there."""
    values: dict[int, float] = {}
    for key, value in held.items():
        if key == ("Subject",):
            values |= dict(zip((2, 3, 4), value[np.tril_indices(2)], strict=True))
        else:
            values[POSITION.get(key, 3)] = value
    return values


def without_known_effects(model: DenseModel, values: Mapping[int, float]) -> DenseModel:
    """The oracle's model in which held fixed effects are a part of the offset."""
    known = [j for j in (0, 1) if j in values]
    offset = model.offset + model.X[:, known] @ np.array([values[j] for j in known])
    free = [j for j in (0, 1) if j not in values]
    return attrs.evolve(model, X=model.X[:, free], offset=offset)


def best_by_oracle(
    result: Fit, values: Mapping[int, float], *, reml: bool
) -> tuple[float, FloatArray]:
    """Nelder and Mead's search of the free variance parameters: another start, no gradient."""
    model = without_known_effects(dense_model(result.design), values)
    free = [i for i in (2, 3, 4, 5) if i not in values]
    packed = np.array([600.0, 1.0, 35.0, 650.0])
    for i, value in values.items():
        if i >= 2:
            packed[i - 2] = value
    unit = np.array([100.0, 20.0, 10.0, 100.0])[[i - 2 for i in free]]

    def at(x: FloatArray) -> FloatArray:
        full = packed.copy()
        full[[i - 2 for i in free]] += unit * x
        return full

    def minus(x: FloatArray) -> float:
        a, b, c, sigma2 = at(x)
        if sigma2 <= 0 or a < 0 or c < 0 or a * c < b * b:
            return 1e10
        psi = np.array([[a, b], [b, c]])
        if model.X.shape[1] == 0:
            return -dense_loglik(model, np.zeros(0), [psi], sigma2, reml=False)
        return -profiled_loglik(model, [psi], sigma2, reml=reml)

    if not free:
        return -minus(np.zeros(0)), packed
    options = {"xatol": 1e-7, "fatol": 1e-11, "maxiter": 4000, "maxfev": 4000}
    found = minimize(minus, np.zeros(len(free)), method="Nelder-Mead", options=options)
    return -float(found.fun), at(found.x)


@BOTH
@pytest.mark.parametrize("held", HELD.values(), ids=list(HELD))
def test_held_values_are_exact_and_the_rest_is_optimal(
    held: dict[Any, Any], restricted: bool
) -> None:
    result = fit(SLEEP, sleep(), reml=restricted, fixed=held)
    packed, values = result.natural.pack(), values_of(held)
    for i, value in values.items():
        assert packed[i] == value
    assert result.certificate.converged
    np.testing.assert_array_equal(result.objective.free, [i not in values for i in range(6)])
    loglik, best = best_by_oracle(result, values, reml=restricted)
    assert result.loglik == pytest.approx(loglik, abs=1e-8)
    assert result.objective.loglik(result.natural) == pytest.approx(result.loglik, abs=1e-9)
    # a search that sees values only is good to about 1e-5 of a standard error
    np.testing.assert_allclose(packed[2:], best, rtol=1e-4, atol=1e-2)


@BOTH
@ALL
def test_free_fixed_effects_are_the_generalized_least_squares_ones(
    held: dict[Any, Any], restricted: bool
) -> None:
    result = fit(SLEEP, sleep(), reml=restricted, fixed=held)
    free = result.objective.free[:2]
    beta, model = beta_of(result), dense_model(result.design)
    V = marginal_covariance(model, result.natural.psi, float(result.natural.sigma2))
    slope = model.X.T @ np.linalg.solve(V, model.y - model.X @ beta)
    scale = np.sqrt(np.diagonal(model.X.T @ np.linalg.solve(V, model.X)))
    assert (np.abs(slope / scale)[free] < 1e-6).all()  # standard errors


@BOTH
def test_a_held_fixed_effect_is_an_offset(restricted: bool) -> None:
    frame = sleep().with_columns(known=7.0 * pl.col("Days"))
    held = fit(SLEEP, frame, reml=restricted, fixed={"Days": 7.0})
    formula = "Reaction ~ 1 + offset(known) + (Days | Subject)"
    moved = fit(formula, frame, reml=restricted)
    assert held.loglik == pytest.approx(moved.loglik, rel=1e-11)
    assert beta_of(held)[0] == pytest.approx(beta_of(moved)[0], rel=1e-8)
    assert held.natural.sigma2 == pytest.approx(float(moved.natural.sigma2), rel=1e-7)
    np.testing.assert_allclose(held.natural.psi[0], moved.natural.psi[0], rtol=1e-6)


@BOTH
@pytest.mark.parametrize(
    ("effect", "smaller"),
    [("Days", "(1 | Subject)"), ("Intercept", "(0 + Days | Subject)")],
)
def test_a_variance_held_at_zero_is_the_smaller_model(
    effect: str, smaller: str, restricted: bool
) -> None:
    frame = sleep()
    held = fit(SLEEP, frame, reml=restricted, fixed={("Subject", effect): 0.0})
    small = fit(f"Reaction ~ Days + {smaller}", frame, reml=restricted)
    assert held.loglik == pytest.approx(small.loglik, rel=1e-11)
    np.testing.assert_allclose(beta_of(held), beta_of(small), rtol=1e-8)
    assert held.natural.sigma2 == pytest.approx(float(small.natural.sigma2), rel=1e-7)
    k = held.design.terms[0].names.index(effect)
    expected = np.zeros((2, 2))
    expected[1 - k, 1 - k] = small.natural.psi[0].item()
    np.testing.assert_allclose(held.natural.psi[0], expected, rtol=1e-6)
    assert (held.natural.psi[0][k] == 0.0).all()
    np.testing.assert_array_equal(held.objective.free[2:5], [k == 1, False, k == 0])


@BOTH
def test_all_variances_held_at_zero_is_least_squares(restricted: bool) -> None:
    frame = sleep()
    held = fit(SLEEP, frame, reml=restricted, fixed={("Subject",): np.zeros((2, 2))})
    beta, rss, *_ = np.linalg.lstsq(held.design.X, held.design.y, rcond=None)
    np.testing.assert_allclose(beta_of(held), beta, rtol=1e-10)
    expected = rss.item() / (frame.height - 2 * restricted)
    assert held.natural.sigma2 == pytest.approx(expected, rel=1e-10)
    assert held.certificate.converged


@BOTH
def test_parameters_held_at_their_estimates_give_the_same_fit(restricted: bool) -> None:
    frame = sleep()
    best = fit(SLEEP, frame, reml=restricted)
    psi, sigma2 = best.natural.psi[0], float(best.natural.sigma2)
    for held in (
        {"sigma2": sigma2},
        {("Subject", "Intercept"): psi[0, 0]},
        {("Subject", "Intercept", "Days"): psi[1, 0], "sigma2": sigma2},
        {("Subject",): psi},
    ):
        again = fit(SLEEP, frame, reml=restricted, fixed=held)
        assert again.loglik == pytest.approx(best.loglik, rel=1e-11)
        np.testing.assert_allclose(again.natural.pack(), best.natural.pack(), rtol=2e-5)


TWO_TERMS = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"


def test_a_variance_of_one_of_two_terms() -> None:
    frame = reference_frame("sleepstudy", ["Subject"])
    result = fit(TWO_TERMS, frame, fixed={("Subject", "Days"): 25.0})
    assert result.natural.psi[1].item() == 25.0
    assert result.certificate.converged
    np.testing.assert_array_equal(result.objective.free, [True, True, True, False, True])


def test_one_of_two_terms_held_at_zero() -> None:
    frame = reference_frame("sleepstudy", ["Subject"])
    zero = fit(TWO_TERMS, frame, fixed={("Subject", "Days"): 0.0})
    small = fit("Reaction ~ Days + (1 | Subject)", frame)
    assert zero.loglik == pytest.approx(small.loglik, rel=1e-11)


@pytest.mark.parametrize("strategy", [default_strategy(), seed_strategy(), em()])
@pytest.mark.parametrize("held", [HELD["slope"], HELD["sigma2"], {"Days": 7.0, "sigma2": 700.0}])
def test_a_strategy_serves_where_beta_or_sigma2_is_held(
    held: dict[Any, Any], strategy: Any
) -> None:
    expected = fit(SLEEP, sleep(), fixed=held)
    result = fit(SLEEP, sleep(), fixed=held, strategy=strategy)
    assert result.loglik == pytest.approx(expected.loglik, rel=1e-10)
    assert result.certificate.converged
    for i, value in values_of(held).items():
        assert result.natural.pack()[i] == value


@pytest.mark.parametrize("name", ["first variance", "covariance", "matrix", "one of each"])
def test_a_strategy_is_refused_where_entries_of_psi_are_held(name: str) -> None:
    with pytest.raises(StrategyError, match=r"Psi are held.* Leave strategy out"):
        fit(SLEEP, sleep(), fixed=HELD[name], strategy=default_strategy())


def test_holding_nothing_is_the_plain_fit() -> None:
    assert fit(SLEEP, sleep(), fixed={}) == fit(SLEEP, sleep())


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"days": 7.0}, "'days' is no parameter.*Intercept, Days"),
        ({"sigma": 7.0}, "'sigma' is no parameter.*'sigma2'"),
        ({3: 7.0}, "3 is no parameter"),
        ({"sigma2": 0.0}, "fixed sigma2: expected a positive variance, got 0"),
        ({"sigma2": -1.0}, "positive variance, got -1"),
        ({"sigma2": float("nan")}, "'sigma2': expected a finite number, got nan"),
        ({"Days": float("inf")}, "'Days': expected a finite number, got inf"),
        ({"Days": "seven"}, "'Days': expected a finite number, got 'seven'"),
        ({"Days": None}, "'Days': expected a finite number, got None"),
        ({("Pig", "Days"): 1.0}, r"random effects are Subject: Intercept, Days"),
        ({("Subject", "Time"): 1.0}, r"random effects are Subject: Intercept, Days"),
        ({("Subject", "Days", "Days", "Days"): 1.0}, r"expected \(group, effect\)"),
        ({("Subject", "Days"): -1.0}, "expected a variance >= 0, got -1"),
        ({("Subject", "Days"): "x"}, "expected a finite number, got 'x'"),
        ({("Subject",): 4.0}, r"covariance matrix of shape \(2, 2\)"),
        ({("Subject",): [[1.0, 2.0], [2.0, 1.0]]}, "expected a covariance matrix"),
        ({("Subject",): [[1.0, 0.5], [0.1, 1.0]]}, "expected a covariance matrix"),
        ({("Subject",): np.full((2, 2), np.nan)}, "expected a covariance matrix"),
        ({("Subject", "Days"): 0.0, ("Subject", "Intercept", "Days"): 3.0}, "held at zero"),
        (
            {
                ("Subject", "Days"): 1.0,
                ("Subject", "Intercept"): 4.0,
                ("Subject", "Intercept", "Days"): 3.0,
            },
            "no covariance matrix satisfies the held values",
        ),
    ],
)  # fmt: skip
def test_wrong_names_and_values(held: dict[Any, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        fit(SLEEP, sleep(), fixed=held)


def test_two_terms_on_one_group_need_the_effect() -> None:
    with pytest.raises(ParameterError, match="names one random term"):
        fit(TWO_TERMS, sleep(), fixed={("Subject",): 4.0})


def test_a_column_called_sigma2_makes_the_key_ambiguous() -> None:
    frame = datasets.load("sleepstudy").rename({"Days": "sigma2"})
    with pytest.raises(ParameterError, match="column is called 'sigma2' too; rename the column"):
        fit("Reaction ~ sigma2 + (1 | Subject)", frame, fixed={"sigma2": 900.0})
