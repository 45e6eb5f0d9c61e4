"""The reference figures are complete, and consistent among themselves."""

import numpy as np
import polars as pl
import pytest

from tests.helpers import (
    ReferenceCase,
    case_params,
    reference_case,
    reference_cases,
    reference_frame,
)
from tests.translate import group_name, level_labels, python_formula, python_name


def test_the_cases_are_all_of_lme4s() -> None:
    ids = [case.id for case in reference_cases()]
    assert len(ids) == len(set(ids)) == 28
    several = {c.id: {t.group for t in c.terms} for c in reference_cases()[19:]}
    assert several == {
        "penicillin": {"plate", "sample"},
        "penicillin_ml": {"plate", "sample"},
        "pastes_nested": {"batch", "batch:cask"},
        "insteval_2": {"s", "d"},
        "insteval_3_ml": {"s", "d", "dept:service"},
        "oats": {"Block", "Block:Variety"},
        "machines_wm": {"Worker", "Worker:Machine"},
        "pixel": {"Dog", "Dog:Side"},
        "verbagg_gaussian": {"item", "situ"},
    }
    assert {case.terms[0].group for case in reference_cases()[:19]} == {
        *("Pig", "Subject", "Batch", "recipe:replicate", "Worker", "Rail", "Litter", "School")
    }
    assert all(len({term.group for term in case.terms}) == 1 for case in reference_cases()[:19])


def test_only_large_cases_are_slow() -> None:
    slow = {param.values[0].id for param in case_params() if param.marks}
    assert slow == {"insteval_2", "insteval_3_ml"}


@pytest.mark.parametrize("case", reference_cases(), ids=str)
def test_figures_of_a_case_agree_with_one_another(case: ReferenceCase) -> None:
    assert case.frame().height == case.n_obs
    np.testing.assert_allclose(np.sqrt(np.diag(case.beta_cov)), case.std_error, rtol=1e-12)
    np.testing.assert_allclose(case.aic, -2 * case.loglik + 2 * case.n_params, rtol=1e-12)
    np.testing.assert_allclose(
        case.bic, -2 * case.loglik + np.log(case.n_obs) * case.n_params, rtol=1e-12
    )
    factors = [np.zeros_like(term.psi) for term in case.terms]
    start = 0
    for factor in factors:
        rows, columns = np.triu_indices(len(factor))
        factor[columns, rows] = case.theta[start : start + len(rows)]
        start += len(rows)
    assert start == len(case.theta)
    assert case.n_params == len(case.beta) + start + 1
    for term, factor in zip(case.terms, factors, strict=True):
        assert len(term.names) == len(term.psi)
        np.testing.assert_allclose(case.sigma2 * factor @ factor.T, term.psi, rtol=1e-10)


@pytest.mark.parametrize("case", [c for c in reference_cases() if c.modes], ids=str)
def test_modes_have_one_row_a_level(case: ReferenceCase) -> None:
    assert {modes.group for modes in case.modes} == {term.group for term in case.terms}
    for modes in case.modes:
        factors = [case.frame()[name] for name in modes.group.split(":")]
        levels = {":".join(labels) for labels in zip(*factors, strict=True)}
        assert len(modes.levels) == len(levels)
        assert set(modes.levels) == levels
        assert modes.values.shape == (len(levels), len(modes.names))
        assert modes.first_covariance.shape == (len(modes.names),) * 2
        assert modes.names == next(t.names for t in case.terms if t.group == modes.group)


@pytest.mark.parametrize("case", [c for c in reference_cases() if c.profile_intervals], ids=str)
def test_profile_intervals_hold_their_estimates(case: ReferenceCase) -> None:
    estimates: dict[tuple[str, str | None, tuple[str, ...]], float] = {}
    estimates["sigma", None, ()] = np.sqrt(case.sigma2)
    for name, beta in zip(case.names, case.beta, strict=True):
        estimates["beta", None, (name,)] = beta
    for term in case.terms:
        sd = np.sqrt(np.diag(term.psi))
        for i, name in enumerate(term.names):
            estimates["sd", term.group, (name,)] = sd[i]
            for j in range(i):
                correlation = term.psi[i, j] / (sd[i] * sd[j])
                estimates["cor", term.group, (term.names[j], name)] = correlation
    for interval in case.profile_intervals:
        estimate = estimates.pop((interval.kind, interval.group, interval.names))
        assert not interval.lower >= estimate
        assert not interval.upper <= estimate
    assert not estimates


def test_names_are_translated_to_those_of_formulaic() -> None:
    dietox = reference_frame("dietox")
    assert python_name("(Intercept)", dietox) == "Intercept"
    assert python_name("Time:CuCu035", dietox) == "Time:Cu[T.Cu035]"
    assert python_name("EvitEvit100", dietox) == "Evit[T.Evit100]"
    assert python_name("I(Time^2)", dietox) == "I(Time ** 2)"
    machines = reference_frame("Machines")
    assert python_name("MachineA", machines, full_rank=True) == "Machine[A]"
    assert reference_case("machines_vec").terms[0].names == (
        "Machine[A]",
        "Machine[B]",
        "Machine[C]",
    )
    assert group_name("cask:batch", "strength ~ 1 + (1 | batch/cask)") == "batch:cask"
    assert level_labels("cask:batch", ["a:A"], "strength ~ 1 + (1 | batch/cask)") == ("A:a",)
    assert python_formula("y ~ x + I(x^2) + (x | g)") == "y ~ x + I(x**2) + (x | g)"


@pytest.mark.parametrize("case", reference_cases(), ids=str)
def test_names_are_those_that_formulaic_gives_the_fixed_part(case: ReferenceCase) -> None:
    import formulaic
    import pandas as pd

    fixed = case.formula.split("~")[1].split("+ (")[0]
    frame = pd.DataFrame(case.frame().to_dict(as_series=False))
    assert tuple(formulaic.model_matrix(fixed, frame).columns) == case.names


def test_frames_have_factors_as_text() -> None:
    schema = reference_frame("MathAchieve", ["School"]).schema
    assert {name for name, dtype in schema.items() if dtype == pl.String} == {
        *("School", "Minority", "Sex")
    }
