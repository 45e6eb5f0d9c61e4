"""Stages given something else, and codings, weights and scales that must not matter."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import (
    Fit,
    Step,
    build_design,
    build_design_from_arrays,
    cross_products,
    datasets,
    em,
    fit,
    fixed_effects,
    group,
    hold,
    maximize,
    ml,
    reml,
)
from lmmkit.errors import ArgumentError, DataError, LmmkitError, ParameterError, StrategyError
from lmmkit.optimize import Report, Status
from lmmkit.parameters import NaturalParams, SquareRootParams

SLEEP = datasets.load("sleepstudy")
TEXT = "Reaction ~ Days + (Days | Subject)"
DESIGN = build_design(TEXT, SLEEP)
OBJECTIVE = reml(cross_products(group(DESIGN)))


@pytest.mark.parametrize("stage", [ml, reml, cross_products, maximize])
@pytest.mark.parametrize("wrong", [DESIGN, None, 3.0])
def test_a_stage_names_what_it_wants(stage: Any, wrong: Any) -> None:
    with pytest.raises(LmmkitError, match="expected"):
        stage(wrong)


def test_a_fit_is_of_one_design() -> None:
    optimum = maximize(OBJECTIVE)
    with pytest.raises(LmmkitError, match="90 rows, the objective 180"):
        Fit(build_design(TEXT, SLEEP.head(90)), OBJECTIVE, optimum)
    with pytest.raises(TypeError):
        Fit(1, OBJECTIVE, optimum)  # type: ignore[arg-type]


def test_moments_of_two_codings_do_not_add() -> None:
    first, second = SLEEP.head(90), SLEEP.tail(90)
    one, other = (cross_products(group(build_design(TEXT, part))) for part in (first, second))
    with pytest.raises(DataError, match="codings"):
        one + other
    blocks = (*group(build_design(TEXT, first)), *group(build_design(TEXT, second)))
    with pytest.raises(DataError, match="one design"):
        cross_products(blocks)


def test_an_objective_of_several_responses_is_not_maximized() -> None:
    y = np.random.default_rng(0).normal(size=(3, 180))
    terms = [("Subject", np.ones(180), SLEEP["Subject"])]
    objective = reml(cross_products(group(build_design_from_arrays(y, np.ones(180), terms))))
    assert np.shape(objective.loglik(NaturalParams((np.eye(1),), 1.0))) == (3,)
    with pytest.raises(ArgumentError, match="one response"):
        maximize(objective)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "params, state, report"),
        ((1, 2), "params, state, report"),
        ((SquareRootParams((np.eye(2),)), None, None), "a Report"),
        (
            (SquareRootParams((np.eye(2),)), None, Report("RUNNING", "x", 0.0, 0.0)),  # type: ignore[arg-type]
            "a Report",
        ),
        ((np.eye(2), None, Report(Status.RUNNING, "x", 0.0, 0.0)), "SquareRootParams"),
        (
            (SquareRootParams((np.eye(3),)), None, Report(Status.RUNNING, "x", 0.0, 0.0)),
            "shapes",
        ),
    ],
)
def test_what_a_step_returns_is_checked(returned: Any, words: str) -> None:
    step = Step("mine", em(1).init, lambda *_: returned)
    with pytest.raises(StrategyError, match=f"mine, iteration 1.*{words}"):
        maximize(OBJECTIVE, step)


def test_what_is_held_stays_held() -> None:
    held = hold(OBJECTIVE, DESIGN, {"Days": 10.0})
    with pytest.raises(ParameterError, match="held already"):
        hold(held, DESIGN, {"Days": 11.0})
    psi = (np.eye(2) * 100.0,)
    with pytest.raises(ParameterError, match="held fixed effects"):
        held.loglik(NaturalParams(psi, 600.0, np.array([250.0, 11.0])))
    inside = held.loglik(NaturalParams(psi, 600.0, np.array([250.0, 10.0])))
    assert inside < held.loglik(NaturalParams(psi, 600.0))


@pytest.mark.parametrize("scale", [1e-20, 1e-9, 1e8, 1e20])
def test_the_scale_of_the_weights_only_scales_sigma2(scale: float) -> None:
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 180)
    one, other = fit(TEXT, SLEEP, weights=weights), fit(TEXT, SLEEP, weights=weights * scale)
    assert other.certificate.converged
    assert len(other.optimum.reports) == len(one.optimum.reports)
    assert other.loglik == pytest.approx(one.loglik, rel=1e-11)
    np.testing.assert_allclose(other.natural.psi[0], one.natural.psi[0], rtol=1e-6)
    assert other.natural.sigma2 == pytest.approx(scale * float(one.natural.sigma2), rel=1e-7)


@pytest.mark.parametrize("unit", [1.0, 1e4, 1e9])
def test_known_variances_in_any_unit(unit: float) -> None:
    rng = np.random.default_rng(0)
    effect, error = rng.normal(size=12), rng.uniform(0.5, 1.5, 12)
    y = 5.0 + effect + error * rng.normal(size=12)
    frame = pl.DataFrame({"y": y * unit, "study": np.arange(12)})
    weights = 1.0 / (error * unit) ** 2
    result = fit("y ~ 1 + (1 | study)", frame, weights=weights, fixed={"sigma2": 1.0})
    assert result.certificate.converged
    assert result.certificate.singular == (0,)
    assert result.natural.psi[0].item() == 0.0


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
def test_huge_variance_ratios_against_the_closed_form(noise: float) -> None:
    """Balanced: beta is the mean of the groups' own least-squares fits; sd ratio up to 1e5."""
    rng = np.random.default_rng(1)
    x, g = np.tile(np.arange(10.0), 12), np.repeat(np.arange(12), 10)
    b = 100.0 * rng.normal(size=(12, 2))
    y = b[g, 0] + b[g, 1] * x + noise * rng.normal(size=120)
    own = np.polynomial.polynomial.polyfit(np.arange(10.0), y.reshape(12, 10).T, 1).T
    std_error = own.std(axis=0, ddof=1) / np.sqrt(12)
    result = fit("y ~ x + (x | g)", {"y": y, "x": x, "g": g})
    assert result.certificate.converged
    table = fixed_effects(result)
    assert np.abs(result.natural.beta - own.mean(axis=0)).max() < 1e-10 * std_error.min()
    np.testing.assert_allclose(table["std_error"], std_error, rtol=1e-6)
    residual = y.reshape(12, 10) - np.polynomial.polynomial.polyval(np.arange(10.0), own.T)
    sigma = np.sqrt((residual**2).sum() / (12 * 8))
    # y'y is (sd of y / sigma)^2 times what is left of it: as many digits of sigma2 are lost
    assert np.sqrt(result.natural.sigma2) == pytest.approx(
        sigma, rel=1e-15 * (y.std() / noise) ** 2
    )


def test_large_records_are_shown_by_their_shapes() -> None:
    assert len(repr(OBJECTIVE)) < 3000
    assert "array of shape (180, 2)" in repr(DESIGN)
    assert repr(NaturalParams((np.eye(2),), 2.0)).startswith("NaturalParams(psi=(array([[1., 0.]")
