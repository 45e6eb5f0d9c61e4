"""Profile curves: every point a constrained maximum, smooth, ended by the cutoff or a bound."""

import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit, fit
from lmmkit.inference.profile import profile
from lmmkit.likelihood.constraints import Hold
from lmmkit.optimize.constrained import maximize_subject_to
from tests.helpers import reference_case
from tests.inference.profiled import correlation_profile, dense_profile


@cache
def _sleep(reml: bool = True) -> Fit:
    case = reference_case("sleep_rs")
    return fit(case.formula, case.frame(), reml=reml)


def _maximum(fitted: Fit, kind: str, index: int, value: float) -> float:
    if kind == "cor":
        return correlation_profile(fitted, (0, 1), value)
    held = Hold(index, value if kind == "fixed" else value**2)
    return maximize_subject_to(fitted.objective, (held,), fitted.natural).loglik


@pytest.mark.parametrize("reml", [False, True])
def test_each_point_is_the_constrained_maximum(reml: bool) -> None:
    fitted = _sleep(reml)
    for index, which in enumerate(
        (
            "Intercept",
            "Days",
            ("Subject", "Intercept"),
            ("Subject", "Intercept", "Days"),
            ("Subject", "Days"),
            "sigma",
        )
    ):
        table = profile(fitted, which, n_points=4)
        for kind, value, loglik in table.select("kind", "value", "loglik").rows():
            assert loglik == pytest.approx(_maximum(fitted, kind, index, value), abs=1e-7), which


def test_curves_are_smooth_and_run_past_the_cutoff() -> None:
    fitted = _sleep()
    table = profile(fitted)
    assert table.columns == ["group", "term", "kind", "value", "loglik", "zeta"]
    curves = table.partition_by("term", "kind", maintain_order=True)
    assert len(curves) == 6
    for curve in curves:
        value, zeta = curve["value"].to_numpy(), curve["zeta"].to_numpy()
        assert (np.diff(value) > 0).all()
        steps = np.diff(zeta)
        assert (steps > 0).all()
        assert steps.max() < 2.1 * 2.5758293 / 10
        assert 8 <= (zeta < 0).sum() <= 14
        assert 8 <= (zeta > 0).sum() <= 14
        assert zeta[0] <= -2.5758293
        assert zeta[-1] >= 2.5758293
        drop = 2.0 * (fitted.loglik - curve["loglik"].to_numpy())
        np.testing.assert_allclose(zeta**2, drop, atol=1e-9)


def test_at_a_bound_there_is_one_side_and_the_walk_ends_there() -> None:
    case = reference_case("dyestuff2_singular")
    fitted = fit(case.formula, case.frame())
    curve = profile(fitted, ("Batch", "Intercept"))
    assert curve["value"][0] == 0.0
    assert curve["zeta"][0] == 0.0
    assert (curve["zeta"][1:] > 0).all()
    value, loglik = curve.select("value", "loglik").row(5)
    assert loglik == pytest.approx(dense_profile(fitted, "sd", 0, value), abs=1e-8)


def test_a_correlation_is_never_worse_than_a_variance_of_zero() -> None:
    case = reference_case("orthodont")
    fitted = fit(case.formula, case.frame())
    curve = profile(fitted, ("Subject", "Intercept", "age"), n_points=5)
    assert curve["value"][0] == -1.0
    assert curve["value"][-1] == 1.0
    without = dense_profile(fitted, "sd", 1, 0.0)
    assert curve["loglik"].min() == pytest.approx(without, abs=1e-7)
    assert curve["loglik"][0] == pytest.approx(without, abs=1e-7)


def test_the_fit_is_untouched_and_progress_is_reported() -> None:
    fitted = _sleep()
    before = pickle.dumps(fitted.objective), pickle.dumps(fitted.optimum)
    seen: list[tuple[int, int]] = []
    profile(fitted, "sigma", n_points=3, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2, 2)
    assert (pickle.dumps(fitted.objective), pickle.dumps(fitted.optimum)) == before


def test_held_parameters_have_no_curve() -> None:
    case = reference_case("sleep_rs")
    fitted = fit(case.formula, case.frame(), fixed={"sigma2": 600.0})
    assert set(profile(fitted, n_points=2)["kind"]) == {"fixed", "sd", "cor"}
    assert profile(fitted, "sigma").height == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_points": 0}, "at least 1"),
        ({"level": 1.5}, "between 0 and 1"),
        ({"which": ("Subject",)}, "is no parameter"),
        ({"which": "sigma2"}, "residual standard deviation is called 'sigma'"),
    ],
)
def test_wrong_calls(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        profile(_sleep(), **options)
