"""Several grouping factors beside residual structures, against dense algebra."""

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design
from lmmkit.fit import fit
from lmmkit.inference import predict, random_effects, residuals, variance_components
from lmmkit.parameters import NaturalParams
from lmmkit.residual import Residual, ar1, per_stratum
from lmmkit.residual.model import residual_model
from tests.residual.dense import dense_value, frame, residual_covariance

DATA = frame(seed=11, groups=24).with_columns(
    site=pl.col("id").str.slice(1).cast(pl.Int64) // 4,
    item=(pl.col("east") * 2).floor().cast(pl.Int64),
)
CODES = {name: DATA[name].to_numpy() for name in ("id", "site", "item", "label")}
Y = DATA["y"].to_numpy()
X = np.column_stack([np.ones(DATA.height), DATA["x"]])
PHI, RATIO, SIGMA2 = 0.45, 1.4, 0.9
STRUCTURE = Residual(ar1("visit", group="id"), per_stratum("arm"))


def _covariance(psi: dict[str, float]) -> np.ndarray:
    V = SIGMA2 * residual_covariance(
        DATA,
        lambda a, b: PHI ** abs(a["visit"] - b["visit"]),
        lambda row: RATIO if row["arm"] == "v" else 1.0,
    )
    for name, variance in psi.items():
        V = V + variance * (CODES[name][:, None] == CODES[name])
    return np.asarray(V)


@pytest.mark.parametrize(
    "psi",
    [
        {"id": 0.7, "site": 0.4},
        {"id": 0.7, "item": 0.4},
        {"item": 0.5},
        {"label": 0.3, "item": 0.4},
        {"site": 0.6, "id": 0.7, "label": 0.3},
    ],
    ids=str,
)
def test_likelihood_with_nested_and_crossed_factors(psi: dict[str, float]) -> None:
    formula = "y ~ x + " + " + ".join(f"(1 | {name})" for name in psi)
    model = residual_model(build_design(formula, DATA, coordinates=STRUCTURE.columns), STRUCTURE)
    theta = np.array([np.log((1 + PHI) / (1 - PHI)), np.log(RATIO)])
    objective = model.objective(theta, restricted=True)
    assert objective is not None
    at = NaturalParams(tuple(np.array([[v]]) for v in psi.values()), SIGMA2)
    expected = dense_value(Y, X, _covariance(psi), restricted=True)
    assert float(objective.loglik(at)) == pytest.approx(expected, rel=1e-10)


def test_a_crossed_fit_is_that_of_the_dense_model() -> None:
    found = fit("y ~ x + (1 | id) + (1 | item)", DATA, residual=Residual(ar1("visit", group="id")))
    assert found.certificate.converged
    assert found.residual is not None
    assert found.natural.beta is not None
    phi = float(found.residual.estimates[0])
    V = float(found.natural.sigma2) * residual_covariance(
        DATA, lambda a, b: phi ** abs(a["visit"] - b["visit"])
    )
    parts = []
    for name, psi in zip(("id", "item"), found.natural.psi, strict=True):
        parts.append(float(psi[0, 0]) * (CODES[name][:, None] == CODES[name]))
        V = V + parts[-1]
    assert found.loglik == pytest.approx(dense_value(Y, X, V, restricted=True), rel=1e-10)
    weighted = np.linalg.solve(V, Y - X @ found.natural.beta)
    modes = random_effects(found)
    for name, psi in zip(("id", "item"), found.natural.psi, strict=True):
        own = modes.filter(group=name)
        for level, mode in own.select("level", "estimate").iter_rows():
            here = np.array([str(code) == str(level) for code in CODES[name]])
            assert mode == pytest.approx(float(psi[0, 0]) * weighted[here].sum(), abs=1e-6)
    assert residuals(found)["fitted"].to_numpy() == pytest.approx(
        X @ found.natural.beta + sum(part @ weighted for part in parts), abs=1e-6
    )
    assert predict(found)["estimate"].to_numpy() == pytest.approx(residuals(found)["fitted"])
    normalized = residuals(found, "normalized")["residual"].to_numpy()
    r = Y - X @ found.natural.beta
    assert normalized @ normalized == pytest.approx(r @ np.linalg.solve(V, r), rel=1e-8)
    assert variance_components(found)["std_error"].is_not_null().any()
