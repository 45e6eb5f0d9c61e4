"""The default strategy on the battery: it converges on everything, in few iterations."""

import numpy as np
import pytest

from lmmkit import Fit, fit_design
from lmmkit.optimize import (
    Status,
    chain,
    conjugate_gradient,
    em,
    fisher,
    maximize,
    scipy_step,
    steepest_descent,
)
from tests.optimize.battery import BATTERY, Recipe, between, design_of

BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])
ALL = pytest.mark.parametrize("name", BATTERY)
OTHERS = {
    "fisher": steepest_descent(metric=fisher),
    "em, cg": chain(em(30), conjugate_gradient(metric=fisher)),
    "bfgs": scipy_step("BFGS"),
}
MOST = 30
# a variance 1e12 times sigma2: beyond it only the standardized Newton steps arrive
NOT_WITH_OTHERS = ("ratio 1e4", "ratio 1e6")


def converged(name: str, restricted: bool) -> Fit:
    result = fit_design(design_of(BATTERY[name]), reml=restricted)
    certificate = result.certificate
    assert certificate.status is Status.CONVERGED
    assert certificate.converged
    assert certificate.score_norm < 1e-5  # standard errors
    assert certificate.inertia[2] == 0
    return result


@BOTH
@ALL
def test_the_default_strategy_converges(name: str, restricted: bool) -> None:
    result = converged(name, restricted)
    assert result.trace.height <= MOST
    singular = [k for k, t in enumerate(result.square_root.factor) if (np.diagonal(t) == 0.0).any()]
    assert result.certificate.singular == tuple(singular)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", [name for name in BATTERY if name not in NOT_WITH_OTHERS])
def test_no_other_strategy_finds_more(name: str, other: str, restricted: bool) -> None:
    result = converged(name, restricted)
    alternative = maximize(result.objective, OTHERS[other], max_iterations=500)
    assert result.loglik >= alternative.loglik - 1e-9 * abs(result.loglik)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("seed", range(40))
def test_random_designs(seed: int, restricted: bool) -> None:
    """Drawn layouts: groups, rows, effects, ratio and units all at once."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(3, 200))
    recipe = Recipe(
        between(groups, 1, int(rng.integers(6, 25))),
        q=int(rng.integers(1, 5)),
        sd=float(10.0 ** rng.uniform(-2, 3)),
        correlation=float(rng.choice([0.0, 0.5, 0.95])),
        shift=float(rng.choice([0.0, 100.0])),
        scale=float(10.0 ** rng.uniform(-3, 3)),
        unit=float(10.0 ** rng.uniform(-6, 6)),
        weighted=bool(rng.integers(2)),
        separate=bool(rng.integers(2)),
        seed=seed,
    )
    design = design_of(recipe)
    result = fit_design(design, reml=restricted)
    assert result.certificate.converged
    best = maximize(result.objective, OTHERS["fisher"], max_iterations=500)
    assert result.loglik >= best.loglik - 1e-9 * abs(result.loglik)
