"""Lanes: what is held is held, and the derivatives are those of numeric differentiation."""

import itertools

import numpy as np
import pytest

from lmmkit.fit import Fit, fit
from lmmkit.inference.lane_maximum import evaluate_lanes
from lmmkit.inference.lanes import Lanes, geometry, lanes
from lmmkit.inference.targets import targets
from lmmkit.linalg import psd_factor
from lmmkit.parameters.natural import NaturalParams
from tests.dense_oracle import Array, numeric_gradient
from tests.helpers import reference_case

_FORMULAS = (
    "Reaction ~ Days + (1 + Days + I(Days**2) | Subject)",
    "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
)


def _held(formula: str, reml: bool, fraction: float) -> tuple[Fit, Lanes, Array, float]:
    """Lanes of all targets at values off their estimates, and a point off the maximum."""
    fitted = fit(formula, reference_case("sleep_rs").frame(), reml=reml)
    space = geometry(fitted)
    held = [(t, t.estimate + fraction * t.std_error) for t in targets(fitted)]
    side_by_side = lanes(fitted, space, held)
    x = side_by_side.x + 0.1 * np.random.default_rng(4).normal(size=side_by_side.x.shape)
    x = np.where(side_by_side.frozen == 1, side_by_side.x, x)
    return fitted, side_by_side, x, space.sigma


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("formula", _FORMULAS)
def test_derivatives_are_the_numeric_ones(formula: str, reml: bool) -> None:
    fitted, held, x, sigma = _held(formula, reml, 0.5)
    place = evaluate_lanes(fitted.objective, held, sigma, x)

    def values(shift: Array) -> Array:
        """The log-likelihood, and its gradient, of every lane after the same change of x."""
        moved = evaluate_lanes(fitted.objective, held, sigma, x + shift)
        return np.column_stack([moved.loglik, moved.gradient])

    numeric = numeric_gradient(values, np.zeros(x.shape[1]), step=0.01)
    for i, frozen in enumerate(held.frozen):
        free = np.flatnonzero(frozen == 0)
        size = np.abs(place.hessian[i]).max()
        expected = numeric[i, 0, free]
        np.testing.assert_allclose(place.gradient[i, free], expected, atol=1e-7 * size)
        expected = numeric[i, 1 + free][:, free]
        np.testing.assert_allclose(place.hessian[i][np.ix_(free, free)], expected, atol=1e-7 * size)


@pytest.mark.parametrize("formula", _FORMULAS)
def test_the_parameter_has_its_value_and_the_log_likelihood_is_the_objectives(formula: str) -> None:
    fitted, held, x, sigma = _held(formula, False, 0.5)
    place = evaluate_lanes(fitted.objective, held, sigma, x)
    basis = fitted.objective.moments.basis
    for i, target in enumerate(targets(fitted)):
        wanted = target.estimate + 0.5 * target.std_error
        S = held.base[i] + np.einsum("a,aij->ij", x[i, :-1], held.directions[i])
        sigma2 = (sigma * np.exp(x[i, -1])) ** 2
        full = sigma**2 * (S @ S.T)
        ends = np.cumsum([0, *fitted.objective.sizes])
        blocks = [full[a:b, a:b] for a, b in itertools.pairwise(ends)]
        factors = tuple(psd_factor(block) for block in blocks)
        natural = NaturalParams(basis.psi(factors), float(sigma2))
        packed = np.concatenate([np.zeros(2), natural.pack()])
        index = target.parameter.index
        if target.kind == "sd":
            assert np.sqrt(packed[index]) == pytest.approx(wanted, rel=1e-8)
        elif target.kind == "cor":
            assert target.parameter.variances is not None
            a, b = target.parameter.variances
            assert packed[index] / np.sqrt(packed[a] * packed[b]) == pytest.approx(wanted, rel=1e-7)
        elif target.kind == "sigma":
            assert np.sqrt(natural.sigma2) == pytest.approx(wanted, rel=1e-12)
        if target.kind != "fixed":
            assert place.loglik[i] == pytest.approx(fitted.objective.loglik(natural), rel=1e-10)
