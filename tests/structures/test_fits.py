"""Fits with covariance structures: against nlme, against the oracle, and on the boundary."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from attrs import frozen

from lmmkit import Fit, datasets, default_strategy, fit
from lmmkit.design import build_design_from_arrays
from lmmkit.errors import StrategyError
from lmmkit.fit import fit_design
from lmmkit.inference import parameter_covariance, parameters, variance_components
from lmmkit.inference.parameters import parameter_values
from lmmkit.optimize import chain, em, scipy_step, seed_strategy, variance_scoring
from lmmkit.records import FloatArray, evolve
from lmmkit.structures import (
    Blocks,
    CompoundSymmetry,
    Diagonal,
    FactorAnalytic,
    Heterogeneous,
    Homogeneous,
    Identity,
    Unstructured,
)
from tests.dense_oracle import dense_loglik, numeric_gradient, numeric_hessian
from tests.helpers import REFERENCE, dense_model

CASES = json.loads((REFERENCE / "structures.json").read_text())["cases"]
MACHINES = datasets.load("Machines")
FORMULA = "score ~ Machine + {}(0 + Machine | Worker)"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_nlme(case: dict[str, Any]) -> None:
    found = fit(case["formula"], datasets.load(case["data"]), reml=case["reml"])
    assert found.certificate.converged
    assert found.loglik == pytest.approx(case["loglik"], rel=1e-9)
    assert found.natural.sigma2 == pytest.approx(case["sigma2"], rel=1e-5)
    assert found.natural.beta == pytest.approx(np.array(case["fixef"]), rel=1e-6)
    for psi, expected in zip(found.natural.psi, case["psi"], strict=True):
        assert psi == pytest.approx(np.array(expected), rel=1e-4, abs=1e-4)


def oats_as_one_term(structure: Any, **options: Any) -> Fit:
    """Intercept and varieties of a block side by side: columns that depend on one another."""
    oats = datasets.load("Oats")
    Z = np.column_stack([np.ones(oats.height), oats["Variety"].to_dummies().to_numpy()])
    X = np.column_stack([np.ones(oats.height), oats["nitro"]])
    design = build_design_from_arrays(
        oats["yield"].to_numpy(), X, [("Block", Z[:, 1:], oats["Block"])]
    )
    term = evolve(design.terms[0], Z=Z, names=("all", "a", "b", "c"), structure=structure)
    return fit_design(evolve(design, terms=(term,)), **options)


@pytest.mark.parametrize("reml", [True, False])
def test_nlme_blocked(reml: bool) -> None:
    case = next(c for c in CASES if c["id"] == f"oats_blocked_{'reml' if reml else 'ml'}")
    blocks = Blocks((Identity(), Identity()), (1, 3))
    found = oats_as_one_term(blocks, reml=reml)
    assert found.loglik == pytest.approx(case["loglik"], rel=1e-9)
    assert found.natural.psi[0][0, 0] == pytest.approx(case["psi"][0][0][0], rel=1e-4)
    assert np.diagonal(found.natural.psi[0])[1:] == pytest.approx(case["psi"][1][0][0], rel=1e-4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FORMULA.format("us"), "score ~ Machine + (0 + Machine | Worker)"),
        (FORMULA.format("fa"), "score ~ Machine + (0 + Machine | Worker)"),
        ("score ~ Machine + homdiag(1 | Worker)", "score ~ Machine + (1 | Worker)"),
        (
            "score ~ Machine + ar1(0 + Machine | Worker, hom=False)",
            FORMULA.format("hetar1"),
        ),
        (FORMULA.format("homcs"), "score ~ Machine + cs(0 + Machine | Worker, hom=TRUE)"),
    ],
)
def test_two_names_of_one_model(one: str, other: str) -> None:
    first, second = fit(one, MACHINES), fit(other, MACHINES)
    assert first.loglik == pytest.approx(second.loglik, rel=1e-10)
    assert first.certificate.converged


def test_diagonal_is_a_term_for_each_effect() -> None:
    dummies = MACHINES["Machine"].to_dummies().rename(lambda column: column[-1])
    parts = " + ".join(f"(0 + {machine} | Worker)" for machine in "ABC")
    separate = fit(f"score ~ Machine + {parts}", MACHINES.hstack(dummies))
    assert fit(FORMULA.format("diag"), MACHINES).loglik == pytest.approx(separate.loglik, rel=1e-10)


def test_homogeneous_compound_symmetry_is_two_nested_terms() -> None:
    """``sd^2 ((1 - rho) I + rho J)``: an intercept of the worker and one of each machine's."""
    found = fit(FORMULA.format("homcs"), MACHINES, reml=False)
    sd, rho = parameter_values(found)[3:5]
    dense = dense_model(found.design)
    assert found.natural.beta is not None
    psi = sd**2 * ((1 - rho) * np.eye(3) + rho * np.ones((3, 3)))
    loglik = dense_loglik(dense, found.natural.beta, [psi], float(found.natural.sigma2), reml=False)
    assert found.loglik == pytest.approx(loglik, rel=1e-10)


@frozen
class Mine:
    """A user's structure: one matrix function, no derivatives, no names."""

    def n_params(self, q: int) -> int:
        return q + 1

    def start(self, q: int) -> FloatArray:
        return np.zeros(q + 1)

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        rho = -0.5 + 1.5 / (1.0 + np.exp(-theta[q]))
        sd = np.exp(theta[:q])
        return np.asarray(np.outer(sd, sd) * ((1 - rho) * np.eye(q) + rho))


@pytest.mark.parametrize("reml", [True, False])
def test_a_users_structure_reaches_the_optimum_of_the_built_in_one(reml: bool) -> None:
    mine = fit(
        "score ~ Machine + (0 + Machine | Worker)",
        MACHINES,
        covariance={"Worker": Mine()},
        reml=reml,
    )
    built_in = fit(FORMULA.format("cs"), MACHINES, reml=reml)
    assert mine.certificate.converged
    assert mine.loglik == pytest.approx(built_in.loglik, rel=1e-11)
    assert mine.natural.psi[0] == pytest.approx(built_in.natural.psi[0], rel=1e-5)
    assert variance_components(mine)["term"].to_list()[:2] == ["theta_1", "theta_2"]
    assert "Mine; its derivatives were computed numerically" in str(mine)
    assert "numerically" not in str(built_in)


@pytest.mark.parametrize("name", ["diag", "homdiag", "cs", "homcs", "ar1", "toep"])
@pytest.mark.parametrize("reml", [True, False])
def test_covariance_of_the_parameters(name: str, reml: bool) -> None:
    """The delta method from theta against the oracle's Hessian in the reported parameters."""
    found = fit(FORMULA.format(name), MACHINES, reml=reml)
    term = found.objective.structures[0]
    theta = found.optimum.theta[0]
    assert term is not None
    assert theta is not None
    dense = dense_model(found.design)
    values = parameter_values(found)

    def loglik(at: FloatArray) -> float:
        """Over beta, theta and log sigma."""
        sigma2 = float(np.exp(2 * at[-1]))
        return dense_loglik(dense, at[:3], [sigma2 * term.covariance(at[3:-1])], sigma2, reml=reml)

    at = np.concatenate([values[:3], theta, [0.5 * np.log(values[-1])]])
    gradient = numeric_gradient(lambda x: loglik(x), at)
    assert np.abs(gradient).max() < 1e-4

    def reported(x: FloatArray) -> FloatArray:
        sigma = np.exp(x[-1])
        return np.concatenate([x[:3], np.abs(term.natural(x[3:-1], sigma)), [sigma**2]])

    J = numeric_gradient(reported, at)
    expected = J @ np.linalg.inv(-numeric_hessian(loglik, at)) @ J.T
    assert parameter_covariance(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert values[3:-1] == pytest.approx(reported(at)[3:-1])
    assert len(parameters(found)) == len(values)


@pytest.mark.parametrize(
    "strategy",
    [
        scipy_step("L-BFGS-B"),
        chain(em(3), scipy_step("BFGS")),
        seed_strategy(),
        em(),
    ],
    ids=lambda s: s.name,
)
def test_strategies_on_a_structure(strategy: Any) -> None:
    best = fit(FORMULA.format("diag"), MACHINES)
    found = fit(FORMULA.format("diag"), MACHINES, strategy=strategy)
    assert found.certificate.converged
    assert found.loglik == pytest.approx(best.loglik, rel=1e-10)


def test_em_needs_an_m_step() -> None:
    with pytest.raises(StrategyError, match=r"em: .*Homogeneous\(AR1\) has no m_step"):
        fit(FORMULA.format("ar1"), MACHINES, strategy=seed_strategy())


def test_variance_scoring_is_for_unstructured_terms() -> None:
    for strategy in (variance_scoring(2), default_strategy()):
        with pytest.raises(StrategyError, match=r"variance_scoring .*Diagonal ties"):
            fit(FORMULA.format("diag"), MACHINES, strategy=strategy)


def test_em_climbs_with_m_steps() -> None:
    rising = fit(FORMULA.format("homdiag"), MACHINES, strategy=em()).trace["loglik"].to_numpy()
    assert (np.diff(rising) >= -1e-9 * np.abs(rising[1:])).all()


def simulated(psi: FloatArray, seed: int, sd: float = 1.0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    q, m, n = len(psi), 60, 3
    g = np.repeat(np.arange(m), q * n)
    t = np.tile(np.repeat(np.arange(q), n), m)
    values, vectors = np.linalg.eigh(psi)
    b = draw.normal(size=(m, q)) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    y = 1.0 + b[g, t] + sd * draw.normal(size=len(g))
    return pl.DataFrame({"y": y, "g": [f"g{i}" for i in g], "t": [f"t{i}" for i in t]})


@pytest.mark.parametrize("name", ["homdiag", "homcs", "ar1"])
def test_no_variance_at_all(name: str) -> None:
    """sd 0 is on the boundary; the correlation is not identified there."""
    frame = simulated(np.zeros((3, 3)), 1)
    flat = frame.with_columns(pl.col("y") - pl.col("y").mean().over("g", "t"))
    found = fit(f"y ~ 1 + {name}(0 + t | g)", flat)
    assert found.certificate.converged
    assert found.certificate.singular == (0,)
    assert "boundary" in str(found.certificate)
    assert found.loglik == pytest.approx(fit("y ~ 1", flat).loglik, abs=1e-6)
    table = variance_components(found)
    assert table["std_error"].is_null().to_list()[:-1] == [True] * (table.height - 1)
    assert table["estimate"][0] < 1e-3


@pytest.mark.parametrize("name", ["homcs", "cs", "ar1", "hetar1"])
def test_a_correlation_of_one(name: str) -> None:
    frame = simulated(np.ones((3, 3)), 5, sd=2.0)
    found = fit(f"y ~ 1 + {name}(0 + t | g)", frame)
    assert found.certificate.converged
    table = variance_components(found)
    rho = table.filter(pl.col("term") == "rho")
    if found.certificate.singular:
        assert rho["estimate"].item() == pytest.approx(1.0, abs=1e-5)
        assert rho["std_error"].item() is None
        assert table["std_error"][0] > 0
    else:
        assert rho["estimate"].item() < 1.0


def test_a_heywood_case() -> None:
    """The data have rank one: the effects' own variances are zero."""
    found = fit(
        "y ~ 1 + fa(0 + t | g)", simulated(np.outer([1.0, 2.0, 1.5, 0.5], [1.0, 2.0, 1.5, 0.5]), 8)
    )
    assert found.certificate.converged
    us = fit(
        "y ~ 1 + (0 + t | g)", simulated(np.outer([1.0, 2.0, 1.5, 0.5], [1.0, 2.0, 1.5, 0.5]), 8)
    )
    assert found.loglik <= us.loglik + 1e-6


def test_full_factor_analytic_is_unstructured() -> None:
    frame = simulated(np.diag([0.5, 1.0, 1.5]) + 2.0, 4)
    found = fit("y ~ 1 + (0 + t | g)", frame, covariance={"g": FactorAnalytic(1)})
    assert found.loglik == pytest.approx(fit("y ~ 1 + (0 + t | g)", frame).loglik, rel=1e-10)


def test_units_do_not_matter() -> None:
    small = fit(FORMULA.format("cs"), MACHINES)
    large = fit(FORMULA.format("cs"), MACHINES.with_columns(score=pl.col("score") * 1e6))
    assert parameter_values(large)[3:6] == pytest.approx(
        1e6 * parameter_values(small)[3:6], rel=1e-5
    )
    assert parameter_values(large)[6] == pytest.approx(parameter_values(small)[6], rel=1e-5)


def test_composition_of_records() -> None:
    built = {
        "Worker": Blocks((Heterogeneous(CompoundSymmetry()), Diagonal()), (2, 1)),
    }
    found = fit("score ~ Machine + (0 + Machine | Worker)", MACHINES, covariance=built)
    psi = found.natural.psi[0]
    assert (psi[:2, 2] == 0).all()
    assert psi[0, 1] != 0
    same = {"Worker": Blocks((Unstructured(), Diagonal()), (2, 1))}
    other = fit("score ~ Machine + (0 + Machine | Worker)", MACHINES, covariance=same)
    assert found.loglik == pytest.approx(other.loglik, rel=1e-10)
    assert Homogeneous(CompoundSymmetry()) == Homogeneous(CompoundSymmetry())
