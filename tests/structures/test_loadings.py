"""Loadings of common factors: their signs, and their standard errors near zero."""

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, build_design, cross_products, fit, group, maximize, ml
from lmmkit.inference import parameter_covariance
from lmmkit.inference.parameters import parameter_values
from lmmkit.likelihood.impose import impose
from lmmkit.records import FloatArray, evolve
from lmmkit.structures import Blocks, Diagonal, FactorAnalytic, Kronecker, ReducedRank
from lmmkit.structures.contract import canonical
from tests.dense_oracle import dense_loglik, numeric_hessian
from tests.helpers import dense_model


def _data(loadings: FloatArray, seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    q, m, n = len(loadings), 16, 2
    g, f = np.repeat(np.arange(m), q * n), np.tile(np.repeat(np.arange(q), n), m)
    b = draw.normal(size=(m, 1)) * loadings + 0.8 * draw.normal(size=(m, q))
    y = 1.0 + b[g, f] + draw.normal(size=len(g))
    return pl.DataFrame({"y": y, "g": g.astype(str), "f": [f"f{i}" for i in f]})


def _expected(found: Fit) -> FloatArray:
    """The inverse of the dense Hessian by beta, the parameters as they are reported, sigma2."""
    dense, term = dense_model(found.design), found.objective.structures[0]
    assert term is not None

    def loglik(at: FloatArray) -> float:
        psi = term.covariance(at[1:-1] / np.sqrt(at[-1])) * at[-1]
        return dense_loglik(dense, at[:1], [psi], float(at[-1]), reml=False)

    return np.asarray(np.linalg.inv(-numeric_hessian(loglik, parameter_values(found))))


@pytest.mark.parametrize("first", [0.03, -0.08, 0.6])
@pytest.mark.parametrize("name", ["rr", "fa"])
def test_standard_errors_where_a_first_loading_is_small(name: str, first: float) -> None:
    frame = _data(np.array([first, 1.0, -0.8, 0.9]), 15)
    found = fit(f"y ~ 1 + {name}(0 + f | g)", frame, reml=False)
    assert found.certificate.converged
    assert parameter_values(found)[1] >= 0.0
    assert parameter_covariance(found) == pytest.approx(_expected(found), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("value", [-0.5, 0.5])
def test_a_held_loading_keeps_its_sign(value: float) -> None:
    frame = _data(np.array([0.6, 1.0, -0.8]), 5)
    held = fit("y ~ 1 + rr(0 + f | g)", frame, fixed={("g", "loading1_f[f0]"): value})
    assert parameter_values(held)[1] == pytest.approx(value, abs=1e-9)


def test_signs_of_composed_structures() -> None:
    theta = np.array([-1.0, 2.0, 3.0])
    blocks = Blocks((ReducedRank(1), FactorAnalytic(1)), (3, 1))
    assert canonical(blocks, np.array([*theta, -2.0, -1.0]), 4).tolist() == [1, -2, -3, 2, 1]
    product = Kronecker((ReducedRank(1), Diagonal()), (3, 2))
    assert canonical(product, np.array([*theta, 0.5]), 6).tolist() == [1, -2, -3, 0.5]


@pytest.mark.parametrize("call", ["diag", "homdiag", "homcs"])
def test_standard_deviations_have_no_sign(call: str) -> None:
    design = build_design(f"y ~ 1 + {call}(0 + f | g)", _data(np.array([0.8, -0.5, 0.4]), 3))
    objective = impose(ml(cross_products(group(design))), design)
    optimum = maximize(objective)
    start = evolve(optimum.params, theta=(_mirrored(optimum.theta[0], call),))
    other = maximize(objective, start=start)
    expected, found = (parameter_covariance(Fit(design, objective, o)) for o in (optimum, other))
    assert other.loglik == pytest.approx(optimum.loglik, rel=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def _mirrored(theta: FloatArray | None, call: str) -> FloatArray:
    assert theta is not None
    signs = np.ones(len(theta))
    signs[: len(theta) if call == "diag" else 1] = -1.0
    return theta * signs
