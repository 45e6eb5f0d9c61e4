"""Exact derivatives by theta from sums over patterns, against those of dense matrices."""

import functools

import numpy as np
import polars as pl
import pytest

from lmmkit.design import build_design
from lmmkit.fit import fit
from lmmkit.likelihood.hold import hold
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.relations import tie
from lmmkit.parameters import NaturalParams
from lmmkit.records import evolve
from lmmkit.residual import Residual, per_stratum, unstructured
from lmmkit.residual.bind import residual_model
from lmmkit.residual.contract import Coordinates, LogLinear
from lmmkit.residual.expansion import expand
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.profile import Differences
from lmmkit.residual.slopes import first_differences
from lmmkit.structures.numeric import numeric_derivatives
from tests.dense_oracle import numeric_gradient
from tests.residual.dense import Array, frame, residual_covariance
from tests.residual.structures import (
    CORRELATIONS,
    VARIANCES,
    CorrelationCase,
    Row,
    VarianceCase,
)

SIGMA2 = 1.3
BETA = np.array([1.8, 0.4])
COPIES = 12


ONE = frame(groups=5)


def _copies() -> pl.DataFrame:
    """Groups with others of the same coordinates and covariates."""
    generator = np.random.default_rng(5)
    return pl.concat(
        ONE.with_columns(
            id=pl.col("id") + f"-{i}",
            w=pl.Series(generator.uniform(0.5, 2.0, size=ONE.height)),
            z=pl.Series(generator.normal(size=ONE.height)),
            y=pl.Series(generator.normal(2.0, 1.0, size=ONE.height)),
        )
        for i in range(COPIES)
    )


FRAME = _copies()
X = np.column_stack([np.ones(FRAME.height), FRAME["z"]])
PAIRS = [(case, VARIANCES[0]) for case in CORRELATIONS]
PAIRS += [(CORRELATIONS[0], case) for case in VARIANCES[1:]]
Pair = tuple[CorrelationCase, VarianceCase]
_by_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name} {pair[1].name}")


def _bound(pair: Pair) -> tuple[ResidualModel, Array]:
    """A model of sums, and a theta."""
    residual = Residual(pair[0].structure, pair[1].structure)
    design = build_design("y ~ z", FRAME, weights="w", coordinates=residual.columns)
    model = residual_model(design, residual)
    assert model.sums
    shift = np.random.default_rng(6).normal(0.0, 0.5, len(model.parameters))
    return model, model.starts()[0] + shift


def _dense(
    pair: Pair, model: ResidualModel, restricted: bool, free: list[int], theta: Array
) -> float:
    """The log-likelihood at BETA and SIGMA2; these columns of X have effects to be estimated."""
    values = np.split(model.values(theta), [len(model.split(theta)[0])])

    def deviation(row: Row) -> float:
        return pair[1].plain(values[1], row)

    one = residual_covariance(ONE, functools.partial(pair[0].plain, values[0]), deviation)
    root = np.sqrt(FRAME["w"].to_numpy())
    V = SIGMA2 * np.kron(np.eye(COPIES), one) / np.outer(root, root)
    r = FRAME["y"].to_numpy() - X @ BETA
    total = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    if restricted:
        total += np.linalg.slogdet(X[:, free].T @ np.linalg.solve(V, X[:, free]))[1]
    return float(-0.5 * total)


def _expanded(
    model: ResidualModel,
    theta: Array,
    restricted: bool,
    beta: Array = BETA,
    sigma2: float = SIGMA2,
    fixed: dict[str, float] | None = None,
) -> Differences:
    objective = model.objective(theta, restricted=restricted)
    assert objective is not None
    if fixed is not None:
        objective = hold(objective, model.design, fixed)
    standard = objective.moments.basis.standard_beta(beta)
    return expand(model, theta, objective, NaturalParams((), sigma2, standard))


@_by_pair
def test_the_gradient_is_that_of_the_dense_matrix(pair: Pair) -> None:
    model, theta = _bound(pair)
    for restricted in (True, False):
        dense = functools.partial(_dense, pair, model, restricted, [0, 1])
        found = _expanded(model, theta, restricted).gradient
        assert found == pytest.approx(numeric_gradient(dense, theta, 1e-3), rel=1e-6, abs=1e-6)


@_by_pair
def test_second_derivatives_are_those_of_the_gradient(pair: Pair) -> None:
    model, theta = _bound(pair)
    kink = "spherical" in pair[0].name
    for restricted in (True, False):

        def gradient(at: Array, restricted: bool = restricted) -> Array:
            return _expanded(model, at, restricted).gradient

        found = _expanded(model, theta, restricted).hessian
        assert found == pytest.approx(found.T, rel=1e-10, abs=1e-10)
        expected = numeric_gradient(gradient, theta, 3e-3 if kink else 2e-2)
        assert found == pytest.approx(expected, rel=1e-6, abs=0.1 if kink else 1e-5)


@pytest.mark.parametrize("fixed", [None, {"sigma2": SIGMA2}, {"z": 0.4}])
def test_mixed_derivatives_are_those_of_the_gradient(fixed: dict[str, float] | None) -> None:
    pair = PAIRS[8]
    model, theta = _bound(pair)

    def gradient(rest: Array) -> Array:
        return _expanded(model, theta, True, rest[:-1], float(rest[-1]), fixed).gradient

    found = _expanded(model, theta, True, fixed=fixed).across
    objective = model.objective(theta, restricted=True)
    assert objective is not None
    basis = objective.moments.basis if fixed is None else None
    if fixed is not None:
        basis = hold(objective, model.design, fixed).moments.basis
    assert basis is not None
    expected = numeric_gradient(gradient, np.append(BETA, SIGMA2), 1e-2)
    into = np.zeros((len(BETA) + 1, basis.x.shape[1] + 1))
    into[:-1, :-1], into[-1, -1] = basis.x, 1.0
    assert found == pytest.approx(expected @ into, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize(
    ("random", "psi"),
    [
        ("(1 | id)", (np.array([[0.8]]),)),
        ("(visit | id)", (np.array([[0.8, 0.1], [0.1, 0.3]]),)),
        ("(1 | id) + (0 + visit | id)", (np.array([[0.8]]), np.array([[0.3]]))),
        ("(visit | id)", (np.array([[0.8, 0.0], [0.0, 0.0]]),)),
    ],
)
@pytest.mark.parametrize("case", [CORRELATIONS[0], CORRELATIONS[8]], ids=lambda case: case.name)
def test_derivatives_beside_random_effects_are_those_of_the_objective(
    case: CorrelationCase, random: str, psi: tuple[Array, ...], restricted: bool
) -> None:
    residual = Residual(case.structure, VARIANCES[0].structure)
    data = FRAME.with_columns(w=1.0 + pl.col("visit") % 2)
    design = build_design(f"y ~ z + {random}", data, weights="w", coordinates=residual.columns)
    model = residual_model(design, residual)
    assert model.sums
    theta = np.random.default_rng(6).normal(0.0, 0.5, len(model.parameters))
    basis = model.basis
    at = NaturalParams(basis.standard_psi(psi), SIGMA2, basis.standard_beta(BETA))

    def expanded(place: Array) -> tuple[Objective, Differences]:
        objective = model.objective(place, restricted=restricted)
        assert objective is not None
        return objective.standardized(), expand(model, place, objective, at)

    def measured(place: Array) -> Array:
        """Value, gradient, and the score by the rest."""
        standard, differences = expanded(place)
        return np.concatenate(
            [[float(standard.loglik(at))], differences.gradient, standard.score(at)]
        )

    k = len(theta)
    found = expanded(theta)[1]
    numeric = numeric_gradient(measured, theta, 2e-2)
    assert found.gradient == pytest.approx(numeric[0], rel=1e-6, abs=1e-6)
    assert found.hessian == pytest.approx(numeric[1 : k + 1], rel=1e-6, abs=1e-5)
    assert pytest.approx(numeric[k + 1 :], rel=1e-6, abs=1e-6) == found.across.T


def test_equal_deviations_are_as_good_as_none() -> None:
    unequal, equal = (
        residual_model(build_design("y ~ z", FRAME, coordinates=residual.columns), residual)
        for residual in (
            Residual(unstructured("visit", group="id"), per_stratum("visit")),
            Residual(unstructured("visit", group="id")),
        )
    )
    theta = unequal.starts()[0]
    k = len(equal.parameters)
    assert k
    assert not theta[k:].any()
    expected, found = (_expanded(m, t, True) for m, t in ((unequal, theta), (equal, theta[:k])))
    assert found.gradient == pytest.approx(expected.gradient[:k], rel=1e-12)
    assert found.hessian == pytest.approx(expected.hessian[:k, :k], rel=1e-12)
    assert found.across == pytest.approx(expected.across[:k], rel=1e-12, abs=1e-12)


def test_logarithms_that_are_linear_have_the_slopes_of_their_differences() -> None:
    strata = per_stratum("s").learn(_strata(np.repeat([1.0, 2.0, 5.0], 2)))
    seen, theta = np.array([[5.0], [1.0], [2.0], [2.0]]), np.array([0.3, -0.2])
    assert isinstance(strata, LogLinear)
    differences = first_differences(lambda t: strata.log_deviation(t, seen), theta)
    assert strata.slopes(seen) == pytest.approx(differences, abs=1e-10)


def _strata(values: Array) -> Coordinates:
    return Coordinates(
        columns=("s",),
        values=values[:, None],
        levels=(None,),
        group="",
        codes=np.arange(len(values), dtype=np.int32),
        labels=pl.Series(range(len(values))),
    )


def test_derivatives_by_free_elements_where_others_depend_on_them() -> None:
    """A correlation that is held, two that are tied: theta is no linear function of the rest."""
    fixed = {("Residual", "cor(0, 2)"): 0.3}
    ties = (tie(("Residual", "cor(0, 1)"), ("Residual", "cor(1, 2)")),)
    structure = Residual(unstructured("visit", group="id"), per_stratum("kind"))
    found = fit("y ~ z", FRAME, residual=structure, fixed=fixed, constraints=ties).residual
    assert found is not None
    moved = found.with_free(found.theta[found.free] + 0.1)
    assert moved is not None
    here = evolve(found, theta=moved)
    objective = here.objective(moved)
    assert objective is not None
    at = NaturalParams((), SIGMA2, objective.moments.basis.standard_beta(BETA))

    def standard(free: Array) -> Objective:
        objective = here.at_free(free)
        assert objective is not None
        return objective.standardized()

    own, free = here.expand(objective, at), moved[here.free]
    assert own is not None
    gradient = numeric_gradient(lambda place: float(standard(place).loglik(at)), free, 1e-2)
    assert own.gradient == pytest.approx(gradient, rel=1e-6, abs=1e-6)
    _, second = numeric_derivatives(lambda place: np.asarray(standard(place).loglik(at)), free)
    assert own.hessian == pytest.approx(second, rel=1e-4, abs=1e-3)
    across = numeric_gradient(lambda place: standard(place).score(at), free, 1e-2)
    assert pytest.approx(across, rel=1e-6, abs=1e-5) == own.across.T
