"""Several grouping factors beside residual structures, against dense algebra."""

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design
from lmmkit.errors import UnsupportedModelError
from lmmkit.fit import fit
from lmmkit.inference import predict, random_effects, residuals, variance_components
from lmmkit.parameters import NaturalParams
from lmmkit.residual import Residual, ar1, per_stratum
from lmmkit.residual.bind import residual_model
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


PSI = np.array([[0.5, 0.2], [0.2, 0.3]])
SLOPES = np.column_stack([np.ones(DATA.height), DATA["v"]])


def _same(name: str) -> np.ndarray:
    return np.asarray(CODES[name][:, None] == CODES[name])


@pytest.mark.parametrize(
    ("formula", "psi", "part"),
    [
        ("(v | item)", (PSI,), SLOPES @ PSI @ SLOPES.T * _same("item")),
        (
            "(1 | id) + (v | item)",
            (np.array([[0.7]]), PSI),
            0.7 * _same("id") + SLOPES @ PSI @ SLOPES.T * _same("item"),
        ),
        (
            "(1 | item) + (0 + v | item)",
            (PSI[:1, :1], PSI[1:, 1:]),
            (PSI[0, 0] + PSI[1, 1] * np.outer(DATA["v"], DATA["v"])) * _same("item"),
        ),
        (
            "(v | item) + (v | label)",
            (PSI, 2.0 * PSI),
            SLOPES @ PSI @ SLOPES.T * (_same("item") + 2.0 * _same("label")),
        ),
    ],
)
@pytest.mark.parametrize("weights", [None, "w"])
def test_likelihood_with_several_effects_of_a_crossed_level(
    formula: str, psi: tuple[np.ndarray, ...], part: np.ndarray, weights: str | None
) -> None:
    design = build_design(
        f"y ~ x + {formula}", DATA, coordinates=STRUCTURE.columns, weights=weights
    )
    model = residual_model(design, STRUCTURE)
    assert model.crossed
    theta = np.array([np.log((1 + PHI) / (1 - PHI)), np.log(RATIO)])
    objective = model.objective(theta, restricted=True)
    assert objective is not None
    root = np.ones(DATA.height) if weights is None else np.sqrt(DATA["w"].to_numpy())
    V = _covariance({}) / np.outer(root, root) + part
    expected = dense_value(Y, X, V, restricted=True)
    assert float(objective.loglik(NaturalParams(psi, SIGMA2))) == pytest.approx(expected, rel=1e-10)


def test_likelihood_with_memberships_across_residual_groups() -> None:
    """Rows that load on two levels each, with loads of their own, inside residual groups."""
    generator = np.random.default_rng(1)
    second = generator.integers(0, 7, DATA.height)
    data = DATA.with_columns(
        first=pl.Series([f"m{c}" for c in CODES["item"]]),
        second=pl.Series([f"m{c}" for c in second]),
        share=pl.Series(generator.uniform(0.2, 0.8, DATA.height)),
        rest=pl.Series(generator.uniform(0.2, 0.8, DATA.height)),
    )
    design = build_design(
        "y ~ x + (v | mm(first, second, weights=[share, rest]))",
        data,
        coordinates=STRUCTURE.columns,
    )
    model = residual_model(design, STRUCTURE)
    theta = np.array([np.log((1 + PHI) / (1 - PHI)), np.log(RATIO)])
    objective = model.objective(theta, restricted=True)
    assert objective is not None
    incidence = np.zeros((DATA.height, 20))
    for codes, loads in ((CODES["item"], data["share"]), (second, data["rest"])):
        np.add.at(incidence, (np.arange(DATA.height), codes), loads.to_numpy())
    V = _covariance({}) + SLOPES @ PSI @ SLOPES.T * (incidence @ incidence.T)
    expected = dense_value(Y, X, V, restricted=True)
    found = float(objective.loglik(NaturalParams((PSI,), SIGMA2)))
    assert found == pytest.approx(expected, rel=1e-10)


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


def test_a_fit_with_slopes_of_crossed_levels_is_that_of_the_dense_model() -> None:
    generator = np.random.default_rng(4)
    levels, codes = np.unique(CODES["item"], return_inverse=True)
    effects = generator.normal(size=(len(levels), 2)) * [1.0, 0.7]
    data = DATA.with_columns(y=pl.Series(Y + (effects[codes] * SLOPES).sum(axis=1)))
    y = data["y"].to_numpy()
    found = fit("y ~ x + (v | item)", data, residual=Residual(ar1("visit", group="id")))
    assert found.certificate.converged
    assert found.residual is not None
    assert found.natural.beta is not None
    phi = float(found.residual.estimates[0])
    noise = float(found.natural.sigma2) * residual_covariance(
        data, lambda a, b: phi ** abs(a["visit"] - b["visit"])
    )
    part = SLOPES @ found.natural.psi[0] @ SLOPES.T * _same("item")
    V, r = noise + part, y - X @ found.natural.beta
    assert found.loglik == pytest.approx(dense_value(y, X, V, restricted=True), rel=1e-10)
    assert residuals(found)["fitted"].to_numpy() == pytest.approx(
        X @ found.natural.beta + part @ np.linalg.solve(V, r), abs=1e-6
    )
    normalized = residuals(found, "normalized")["residual"].to_numpy()
    assert normalized @ normalized == pytest.approx(r @ np.linalg.solve(V, r), rel=1e-8)


def test_too_many_loads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmmkit.residual.crossed._MOST_LOADS", 100)
    with pytest.raises(UnsupportedModelError, match=r"levels of 'item' of all the others, 750 loa"):
        fit("y ~ x + (v | item)", DATA, residual=STRUCTURE)
