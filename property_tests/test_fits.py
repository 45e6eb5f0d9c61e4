"""Laws of fits: what must not change an estimate does not, and what must, does so exactly."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lmmkit import Fit, fit_design
from lmmkit.design import Design, group
from lmmkit.likelihood import Objective, ml, reml
from lmmkit.moments import cross_products
from lmmkit.optimize import (
    Step,
    chain,
    conjugate_gradient,
    default_strategy,
    em,
    fisher,
    maximize,
    newton,
    scipy_step,
    seed_strategy,
    steepest_descent,
)
from lmmkit.parameters import SquareRootParams, to_profile
from lmmkit.records import FloatArray, evolve
from lmmkit.testing.strategies import designs
from property_tests.crossing import ESTIMABLE, crossed_designs
from property_tests.strategies import map_columns, relabelled, scales, starts, with_rows

EXAMPLES = settings(max_examples=25)
several = crossed_designs(
    rows=(30, 45), most_factors=3, most_terms=3, most_effects=1, patterns=ESTIMABLE
)
any_designs = designs() | several
criteria = st.sampled_from([ml, reml])
REACHED = 1e-9  # relative, in the log-likelihood


def objective(design: Design, *, restricted: bool) -> Objective:
    return (reml if restricted else ml)(cross_products(group(design)))


def beta(fit: Fit) -> FloatArray:
    assert fit.natural.beta is not None
    return fit.natural.beta


def assert_same_fit(actual: Fit, expected: Fit) -> None:
    """Equal log-likelihoods, and estimates within 1e-5 of the sizes that matter."""
    assert_allclose(actual.loglik, expected.loglik, rtol=REACHED, atol=1e-8)
    scale = float(np.sqrt(expected.natural.sigma2))
    assert_allclose(beta(actual), beta(expected), rtol=0, atol=1e-5 * scale)
    assert_allclose(actual.natural.sigma2, expected.natural.sigma2, rtol=1e-4)
    for mine, other in zip(actual.natural.psi, expected.natural.psi, strict=True):
        size = np.abs(other).max() + expected.natural.sigma2
        assert_allclose(mine, other, rtol=0, atol=1e-4 * size)


@EXAMPLES
@given(any_designs, st.booleans(), st.integers(0, 1000))
def test_row_order(design: Design, restricted: bool, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(design.n_obs)
    moved = fit_design(with_rows(design, order), reml=restricted)
    assert_same_fit(moved, fit_design(design, reml=restricted))


@EXAMPLES
@given(any_designs, st.booleans(), st.integers(0, 1000))
def test_labels_of_levels(design: Design, restricted: bool, seed: int) -> None:
    renamed = fit_design(relabelled(design, seed), reml=restricted)
    assert_same_fit(renamed, fit_design(design, reml=restricted))


@EXAMPLES
@given(any_designs, st.booleans(), scales, st.sampled_from([1.0, -1.0]))
def test_scale_of_the_response(design: Design, restricted: bool, c: float, sign: float) -> None:
    plain = fit_design(design, reml=restricted)
    offset = None if design.offset is None else sign * c * design.offset
    scaled = fit_design(evolve(design, y=sign * c * design.y, offset=offset), reml=restricted)
    # -2 loglik grows by 2 m log c: the density of c y
    m = plain.objective.degrees_of_freedom
    back = evolve(
        scaled.optimum,
        natural=evolve(
            scaled.natural,
            beta=beta(scaled) / (sign * c),
            sigma2=scaled.natural.sigma2 / c**2,
            psi=tuple(psi / c**2 for psi in scaled.natural.psi),
        ),
        loglik=scaled.loglik + m * np.log(c),
    )
    assert_same_fit(evolve(scaled, optimum=back), plain)


shifts = st.sampled_from([0.0, 1.0, -30.0, 1000.0, 1e5])


@EXAMPLES
@given(designs(slope=True), st.booleans(), shifts, scales)
def test_affine_change_of_a_covariate(
    design: Design, restricted: bool, shift: float, scale: float
) -> None:
    # (1, shift + scale x) = (1, x) A: then beta = A beta', Psi = A Psi' A'
    shift = shift * scale
    A = np.array([[1.0, shift], [0.0, scale]])
    plain = fit_design(design, reml=restricted)
    moved = fit_design(map_columns(design, lambda columns: columns @ A), reml=restricted)
    back = evolve(
        moved.optimum,
        natural=evolve(plain.natural, sigma2=moved.natural.sigma2, beta=A @ beta(moved)),
        loglik=moved.loglik + restricted * np.log(scale),
    )
    assert_same_fit(evolve(moved, optimum=back), plain)
    slope = moved.natural.psi[0][1, 1] * scale**2
    size = plain.natural.psi[0][1, 1] + plain.natural.sigma2
    assert_allclose(slope, plain.natural.psi[0][1, 1], rtol=0, atol=1e-4 * size)


@EXAMPLES
@given(any_designs, st.booleans())
def test_weights_and_offset(design: Design, restricted: bool) -> None:
    """A common weight w is sigma2 / w; an offset in the span of X moves beta."""
    plain = fit_design(evolve(design, weights=None), reml=restricted)
    heavy = fit_design(evolve(design, weights=np.full(design.n_obs, 4.0)), reml=restricted)
    assert_allclose(heavy.loglik, plain.loglik, rtol=REACHED, atol=1e-8)
    assert_allclose(heavy.natural.sigma2, 4 * np.asarray(plain.natural.sigma2), rtol=1e-4)
    added = np.arange(1.0, design.X.shape[1] + 1)
    before = 0.0 if design.offset is None else design.offset
    shifted = evolve(design, offset=before + design.X @ added)
    fit, reference = (fit_design(each, reml=restricted) for each in (shifted, design))
    assert_allclose(fit.loglik, reference.loglik, rtol=REACHED, atol=1e-8)
    assert_allclose(beta(fit), beta(reference) - added, atol=1e-5)


def strategy_and_design() -> st.SearchStrategy[tuple[Design, SquareRootParams]]:
    return any_designs.flatmap(lambda design: st.tuples(st.just(design), starts(design)))


@EXAMPLES
@given(strategy_and_design(), st.booleans())
def test_em_never_descends(case: tuple[Design, SquareRootParams], restricted: bool) -> None:
    design, start = case
    at = objective(design, restricted=restricted)
    optimum = maximize(at, em(30), start)
    path = [float(at.loglik(start)), *optimum.trace["loglik"].to_list()]
    assert (np.diff(path) >= -1e-11 * np.abs(path[0])).all()
    for before, after in zip(start.factor, optimum.natural.psi, strict=True):
        assert before.any() or not after.any()


STRATEGIES: dict[str, Callable[[], Step]] = {
    "seed": seed_strategy,
    "newton": lambda: steepest_descent(metric=newton),
    "fisher scoring": lambda: chain(em(2), steepest_descent(metric=fisher)),
    "preconditioned conjugate gradient": lambda: chain(em(2), conjugate_gradient(metric=fisher)),
    "L-BFGS-B": lambda: chain(em(2), scipy_step("L-BFGS-B")),
}


@EXAMPLES
@given(designs(max_q=2), st.booleans())
def test_every_strategy_reaches_the_same_optimum(design: Design, restricted: bool) -> None:
    at = objective(design, restricted=restricted)
    best = maximize(at, default_strategy())
    assert best.certificate.converged
    for name, strategy in STRATEGIES.items():
        loglik = maximize(at, strategy()).loglik
        assert_allclose(loglik, best.loglik, rtol=1e-8, atol=1e-7, err_msg=name)


@EXAMPLES
@given(strategy_and_design(), st.booleans())
def test_no_start_is_better_than_the_optimum(
    case: tuple[Design, SquareRootParams], restricted: bool
) -> None:
    design, start = case
    at = objective(design, restricted=restricted)
    best = maximize(at).loglik
    assert float(at.loglik(start)) <= best + 1e-9 * abs(best)
    assert float(at.loglik(to_profile(start))) <= best + 1e-9 * abs(best)
