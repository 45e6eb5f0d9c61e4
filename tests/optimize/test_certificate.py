"""What an optimum says of itself: converged, saddle, boundary, out of iterations."""

import copy
import pickle

import numpy as np
import pytest

from lmmkit import fit_design
from lmmkit.errors import ArgumentError
from lmmkit.optimize import (
    Optimum,
    Report,
    Status,
    Step,
    certificate,
    em,
    maximize,
    newton,
    scipy_step,
    seed_strategy,
    steepest_descent,
)
from lmmkit.optimize.certificate import certify
from lmmkit.optimize.evaluate import differentiate, evaluate, observed_hessian, pack
from lmmkit.optimize.start import standard_start
from lmmkit.parameters import Layout, SquareRootParams, to_square_root
from lmmkit.records import FloatArray
from tests.dense_oracle import numeric_hessian, profiled_loglik
from tests.helpers import dense_model
from tests.registries import CASES, case_design, case_objective


@pytest.mark.parametrize(
    "strategy",
    [steepest_descent(metric=newton), seed_strategy(), em(), scipy_step(maxiter=1)],
    ids=["newton", "seed", "em", "scipy"],
)
def test_out_of_iterations_still_returns_an_optimum(strategy: Step) -> None:
    objective = case_objective("machines_vec")
    optimum = maximize(objective, strategy, max_iterations=2)
    assert isinstance(optimum, Optimum)
    assert optimum.certificate.status is Status.OUT_OF_ITERATIONS
    assert not optimum.certificate.converged
    assert optimum.trace.height == 2
    assert optimum.certificate.score_norm > 1e-4
    assert optimum.loglik == pytest.approx(float(objective.loglik(optimum.natural)), rel=1e-12)


def test_one_iteration_to_the_optimum_of_balanced_data() -> None:
    """With the iterations used up exactly where the score is zero, the fit has converged."""
    needed = maximize(case_objective("sleep_rs")).trace.height
    optimum = maximize(case_objective("sleep_rs"), max_iterations=needed)
    assert optimum.certificate.converged


@pytest.mark.parametrize(
    "case",
    [
        *("dyestuff", "rail", "ergostool", "orthodont", "machines_vec"),
        *("sleep_rs", "sleep_rs_ml", "sleep_dbl", "sleep_quad"),
    ],
)
def test_the_inertia_is_that_of_the_dense_likelihood(case: str) -> None:
    objective, model = case_objective(case), dense_model(case_design(case))
    optimum = maximize(objective)
    factors = to_square_root(optimum.natural).factor
    packed = SquareRootParams(factors).pack()

    def at(x: FloatArray) -> float:
        natural = objective.natural(SquareRootParams.unpack(x, Layout(None, objective.sizes)))
        return profiled_loglik(model, natural.psi, float(natural.sigma2), reml=CASES[case].reml)

    step = 0.1 * min(np.diagonal(t).min() for t in factors)
    values = np.linalg.eigvalsh(-numeric_hessian(at, packed, step))
    assert optimum.certificate.inertia == ((values > 0).sum(), 0, 0)


@pytest.mark.parametrize("case", ["dyestuff2_singular", "dyestuff2_singular_ml"])
def test_a_zero_variance_is_on_the_boundary_and_converged(case: str) -> None:
    certificate = maximize(case_objective(case)).certificate
    assert certificate.converged
    assert certificate.singular == (0,)
    assert certificate.inertia == (1, 0, 0)
    assert str(certificate) == (
        f"{Status.CONVERGED.value} The covariance of the random effects is singular: it is on the "
        "boundary."
    )


@pytest.mark.parametrize("distance", [1e-3, 1e-6])
def test_the_score_norm_is_the_distance_in_standard_errors(distance: float) -> None:
    objective = case_objective("sleep_rs").standardized()
    best = SquareRootParams(to_square_root(maximize(objective).natural).factor)
    information = objective.observed_information(best)
    direction = np.array([1.0, -2.0, 0.5])
    direction *= distance / np.sqrt(direction @ information @ direction)
    near = SquareRootParams.unpack(best.pack() + direction, Layout(None, (2,)))
    score = differentiate(objective, evaluate(objective, near.pack()))
    certificate = certify(objective, score, Status.STALLED)
    # the expected information stands for the observed one, which it resembles
    assert certificate.score_norm == pytest.approx(distance, rel=0.3)
    assert certificate.converged is (distance < 1e-4)
    assert certify(objective, score, Status.CONVERGED).converged is (distance < 1e-4)


def test_a_start_in_the_user_s_coordinates_is_used() -> None:
    objective = case_objective("sleep_rs")
    best = maximize(objective)
    again = maximize(objective, em(3), to_square_root(best.natural))
    assert again.certificate.converged
    np.testing.assert_allclose(again.natural.psi[0], best.natural.psi[0], rtol=1e-7)


@pytest.mark.parametrize("most", [0, -3])
def test_no_iterations_are_refused(most: int) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        maximize(case_objective("sleep_rs"), max_iterations=most)


def test_progress_sees_every_report() -> None:
    seen: list[tuple[int, Report]] = []
    optimum = maximize(
        case_objective("sleep_rs"), em(4), progress=lambda i, report: seen.append((i, report))
    )
    assert [i for i, _ in seen] == [1, 2, 3, 4]
    assert tuple(report for _, report in seen) == optimum.reports


@pytest.mark.parametrize("case", ["sleep_rs", "dyestuff2_singular"])
def test_a_fit_survives_pickle_and_copy(case: str) -> None:
    result = fit_design(case_design(case), reml=CASES[case].reml)
    assert copy.deepcopy(result.optimum) == result.optimum
    assert pickle.loads(pickle.dumps(result.objective)) == result.objective
    assert pickle.loads(pickle.dumps(result.optimum)) == result.optimum


def test_an_optimum_without_step_lengths_equals_its_copy() -> None:
    optimum = maximize(case_objective("sleep_rs"), scipy_step())
    assert copy.deepcopy(optimum) == optimum


@pytest.mark.parametrize("status", Status)
def test_a_status_is_a_sentence(status: Status) -> None:
    assert status.value.endswith(".")
    assert len(status.value.split()) >= 5


@pytest.mark.parametrize("case", ["penicillin", "machines_wm", "dyestuff2_singular"])
def test_a_rough_hessian_certifies_as_the_exact_one(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = case_objective(case)
    standard = objective.standardized()
    at = differentiate(standard, evaluate(standard, pack(standard_start(standard))))
    exact = observed_hessian(standard, at)
    rough = observed_hessian(standard, at, rough=True)
    # single precision: 6e-8, a few times
    assert np.abs(rough - exact).max() <= 1e-6 * np.abs(exact).max()
    expected = maximize(objective).certificate
    monkeypatch.setattr(certificate, "_MANY", 0)
    found = maximize(objective).certificate
    assert (found.status, found.inertia) == (expected.status, expected.inertia)
