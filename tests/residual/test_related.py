"""Parameters of residual structures that are tied or linearly related."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import linear, tie
from lmmkit.errors import ParameterError, UnsupportedModelError
from lmmkit.fit import Fit, fit
from lmmkit.inference import information_criteria, likelihood_ratio_test, residual_parameters
from lmmkit.residual import (
    Residual,
    ar1,
    by_stratum,
    compound_symmetry,
    per_stratum,
    power,
    toeplitz,
    unstructured,
)
from tests.dense_oracle import numeric_hessian
from tests.residual.dense import Array, frame

DATA = frame(seed=2, groups=40).with_columns(
    merged=pl.when(pl.col("kind") == "p").then(pl.lit("p")).otherwise(pl.lit("rest"))
)
MIXED = "y ~ x + (1 | id)"


def _fit(residual: Residual, constraints: Any = (), formula: str = MIXED, **options: Any) -> Fit:
    options = {"reml": False, **options}
    return fit(formula, DATA, residual=residual, constraints=constraints, **options)


def _table(found: Fit) -> dict[str, tuple[float, float]]:
    rows = residual_parameters(found).select("term", "estimate", "std_error").rows()
    return {term: (estimate, error) for term, estimate, error in rows}


def _own(*names: str) -> list[tuple[str, str]]:
    return [("Residual", name) for name in names]


SAME = {
    "sd ratios": (
        Residual(ar1("visit"), per_stratum("kind")),
        [tie(*_own("sd ratio kind[q]", "sd ratio kind[r]"))],
        Residual(ar1("visit"), per_stratum("merged")),
        MIXED,
        {"sd ratio kind[q]": "sd ratio merged[rest]", "phi": "phi"},
    ),
    "phi of strata": (
        Residual(by_stratum(ar1("visit"), "arm")),
        [tie(*_own("phi arm[u]", "phi arm[v]"))],
        Residual(ar1("visit")),
        MIXED,
        {"phi arm[v]": "phi"},
    ),
    "powers": (
        Residual(variance=power("v", by="arm")),
        tie(*_own("power arm[u]", "power arm[v]")),
        Residual(variance=power("v")),
        MIXED,
        {"power arm[v]": "power", "power arm[u]": "power"},
    ),
    "lags": (
        Residual(toeplitz("visit", group="id")),
        [tie(*_own("rho1", f"rho{lag}")) for lag in (2, 3, 4)],
        Residual(compound_symmetry(group="id")),
        "y ~ x",
        {"rho1": "rho", "rho4": "rho"},
    ),
    "pairs": (
        Residual(unstructured("visit", group="id")),
        [tie(*_own("cor(0, 1)", f"cor({i}, {j})")) for i, j in [(1, 2), (2, 3), (3, 4)]]
        + [tie(*_own("cor(0, 2)", f"cor({i}, {j})")) for i, j in [(1, 3), (2, 4)]]
        + [tie(*_own("cor(0, 3)", "cor(1, 4)"))],
        Residual(toeplitz("visit", group="id")),
        "y ~ x",
        {"cor(0, 1)": "rho1", "cor(2, 4)": "rho2", "cor(0, 4)": "rho4"},
    ),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("case", SAME)
def test_ties_are_a_smaller_structure(case: str, reml: bool) -> None:
    large, ties, small, formula, same = SAME[case]
    tied = _fit(large, ties, formula, reml=reml)
    plain = _fit(small, (), formula, reml=reml)
    assert tied.certificate.converged
    assert tied.loglik == pytest.approx(plain.loglik, rel=1e-9)
    counts = [information_criteria(one)["n_parameters"].item() for one in (tied, plain)]
    assert counts[0] == counts[1]
    ours, theirs = _table(tied), _table(plain)
    for mine, other in same.items():
        assert ours[mine] == pytest.approx(theirs[other], rel=1e-3)


def test_a_linear_relation() -> None:
    residual = Residual(ar1("visit"), per_stratum("kind"))
    names = _own("sd ratio kind[q]", "sd ratio kind[r]")
    related = _fit(residual, linear({names[0]: 1.0, names[1]: 2.0}, 3.5))
    q, r = (_table(related)[name][0] for _, name in names)
    assert q + 2.0 * r == pytest.approx(3.5, rel=1e-12)
    logliks = [
        _fit(residual, fixed={names[0]: 3.5 - 2.0 * value, names[1]: value}).loglik
        for value in (r - 0.02, r, r + 0.02)
    ]
    assert logliks[1] == pytest.approx(related.loglik, rel=1e-10)
    assert max(logliks) == logliks[1]
    errors = [_table(related)[name][1] for _, name in names]
    assert errors[0] == pytest.approx(2.0 * errors[1], rel=1e-6)
    test = likelihood_ratio_test(related, _fit(residual))
    assert test["df"].item() == 1


def test_ties_beside_held_values() -> None:
    residual = Residual(by_stratum(ar1("visit"), "arm"), per_stratum("kind"))
    found = _fit(
        residual,
        tie(*_own("phi arm[u]", "phi arm[v]")),
        fixed={("Residual", "sd ratio kind[q]"): 1.2, "x": 0.1},
    )
    plain = _fit(
        Residual(ar1("visit"), per_stratum("kind")),
        fixed={("Residual", "sd ratio kind[q]"): 1.2, "x": 0.1},
    )
    assert found.loglik == pytest.approx(plain.loglik, rel=1e-10)


@pytest.mark.parametrize(
    ("constraint", "error", "words"),
    [
        (tie(*_own("phi", "rho")), ParameterError, r"constraints: .*'rho'.* expected .*'phi'"),
        (
            linear({("Residual", "phi"): 1.0, ("id", "Intercept"): -1.0}),
            UnsupportedModelError,
            "relates parameters of the residual structure to others",
        ),
        (
            linear({("Residual", "phi"): 1.0}, 2.0),
            ParameterError,
            "satisfy phi = 2; the bounds are -1 < phi < 1",
        ),
        (
            [linear({("Residual", "phi"): 1.0}, 0.5), linear({("Residual", "phi"): 2.0}, 1.0)],
            ParameterError,
            "not contradict or repeat",
        ),
        (3.0, ParameterError, "expected tie"),
    ],
)
def test_errors(constraint: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        _fit(Residual(ar1("visit"), per_stratum("kind")), constraint)


def test_the_rest_is_a_place_where_the_relation_holds() -> None:
    residual = Residual(toeplitz("visit", group="id"))
    found = _fit(residual, tie(*_own("rho1", "rho2")), "y ~ x")
    assert found.residual is not None
    near = np.array(found.residual.theta[found.residual.free]) + 0.1
    theta = found.residual.with_free(near)
    assert theta is not None
    rho = found.residual.model.values(theta)
    assert rho[0] == pytest.approx(rho[1], rel=1e-12)
    tangent = found.residual.tangent()
    step = 1e-5 * np.ones(tangent.shape[1])
    free = found.residual.theta[found.residual.free]
    ahead, behind = (found.residual.with_free(free + s * step) for s in (1.0, -1.0))
    assert ahead is not None
    assert behind is not None
    assert (ahead - behind) / 2.0 == pytest.approx(tangent @ step, rel=1e-5)


def test_the_curvature_of_the_place() -> None:
    residual = Residual(toeplitz("visit", group="id"))
    ties = [tie(*_own("rho1", "rho2"))]
    found = _fit(residual, ties, "y ~ x", fixed={("Residual", "rho3"): 0.1}).residual
    assert found is not None
    weights = np.arange(1.0, 1.0 + len(found.theta))
    free = found.theta[found.free]

    def weighed(u: Array) -> float:
        theta = found.with_free(u)
        assert theta is not None
        return float(weights @ theta)

    numeric = numeric_hessian(weighed, free, 1e-2 * np.ones(len(free)))
    exact = found.restriction.curvature(found.model.values, found.theta, weights)
    assert exact == pytest.approx(numeric, abs=1e-4 * np.abs(numeric).max())
