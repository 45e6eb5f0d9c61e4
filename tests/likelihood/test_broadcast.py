"""Leading axes: a stack of parameters, or of responses, is a loop over them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import build_design_from_arrays, group
from lmmkit.likelihood import Objective
from lmmkit.moments import cross_products
from lmmkit.parameters import NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import FloatArray, evolve
from tests.likelihood.cases import CRITERIA, design, objective, place
from tests.likelihood.dense import KINDS, Kind, Params, record

METHODS = ("loglik", "score", "hessian", "observed_information", "expected_information")
DESIGN_NAMES = ("balanced slope", "terms of different size", "q = 3")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_design = pytest.mark.parametrize("name", DESIGN_NAMES)
beta_or_not = pytest.mark.parametrize("beta", [True, False], ids=["beta given", "beta profiled"])
ml_and_reml = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])


def stack(records: list[Params]) -> Params:
    first = records[0]
    beta = None if first.beta is None else np.array([r.beta for r in records])
    if isinstance(first, NaturalParams):
        natural = [r for r in records if isinstance(r, NaturalParams)]
        psi = tuple(np.array(matrices) for matrices in zip(*(r.psi for r in natural), strict=True))
        return NaturalParams(psi, np.array([r.sigma2 for r in natural]), beta)
    if isinstance(first, ProfileParams):
        relative = [r.psi_rel for r in records if isinstance(r, ProfileParams)]
        return ProfileParams(tuple(np.array(m) for m in zip(*relative, strict=True)), beta)
    factors = [r.factor for r in records if isinstance(r, SquareRootParams)]
    return SquareRootParams(tuple(np.array(m) for m in zip(*factors, strict=True)), beta)


def evaluate(at: Objective, params: Params) -> dict[str, FloatArray]:
    values = {method: np.asarray(getattr(at, method)(params)) for method in METHODS}
    natural = at.natural(params)
    parts = {"beta": at.beta(params), "sigma2": np.asarray(at.sigma2(params))}
    return values | parts | {"natural": natural.pack()}


def assert_same(actual: dict[str, FloatArray], expected: list[dict[str, FloatArray]]) -> None:
    for method, value in actual.items():
        loop = np.array([each[method] for each in expected])
        assert value.shape == loop.shape, method
        assert_allclose(
            value, loop, rtol=1e-10, atol=1e-10 * np.abs(loop).max(initial=0.0), err_msg=method
        )


@every_design
@every_kind
@beta_or_not
@ml_and_reml
def test_parameters(name: str, kind: Kind, beta: bool, reml: bool) -> None:
    at = objective(name, restricted=reml)
    points = ["interior", "interior", "perfect correlation", "no variance"]
    places = [place(design(name), point, seed) for seed, point in enumerate(points)]
    places[1] = evolve(places[1], sigma2=2.3)
    records = [record(kind, where, beta=beta) for where in places]
    assert_same(evaluate(at, stack(records)), [evaluate(at, params) for params in records])


@every_design
def test_two_leading_axes(name: str) -> None:
    at = objective(name, restricted=True)
    records = [
        record("natural", place(design(name), "interior", seed), beta=True) for seed in range(6)
    ]
    flat = stack(records)
    assert isinstance(flat, NaturalParams)
    assert flat.beta is not None
    square = NaturalParams(
        tuple(psi.reshape(2, 3, *psi.shape[1:]) for psi in flat.psi),
        np.reshape(flat.sigma2, (2, 3)),
        flat.beta.reshape(2, 3, -1),
    )
    for method in METHODS:
        value, expected = getattr(at, method)(square), getattr(at, method)(flat)
        assert_allclose(value, expected.reshape(2, 3, *expected.shape[1:]), rtol=1e-12, atol=1e-12)


def test_parts_with_different_leading_axes_broadcast() -> None:
    name = "unbalanced slope"
    at = objective(name, restricted=True)
    where = place(design(name), "interior")
    psi = where.factors[0] @ where.factors[0].T
    sigma2 = np.array([0.5, 1.0, 2.0])
    together = NaturalParams((psi,), sigma2, where.beta)
    one_by_one = [NaturalParams((psi,), float(value), where.beta) for value in sigma2]
    for method in METHODS:
        loop = np.array([getattr(at, method)(params) for params in one_by_one])
        assert_allclose(getattr(at, method)(together), loop, rtol=1e-11, atol=1e-11, err_msg=method)


def responses(name: str) -> FloatArray:
    rng = np.random.default_rng(8)
    y = design(name).y
    return np.stack([y, 2.5 * y + 3.0, rng.normal(size=len(y)), y**2])


@every_design
@every_kind
@beta_or_not
@ml_and_reml
def test_responses(name: str, kind: Kind, beta: bool, reml: bool) -> None:
    one = design(name)
    many = build_design_from_arrays(
        responses(name), one.X, one.terms, x_names=one.x_names, weights=one.weights
    )
    params = record(kind, place(one, "interior"), beta=beta)
    together = CRITERIA[reml](cross_products(group(many)))
    each = [CRITERIA[reml](cross_products(group(evolve(many, y=y)))) for y in responses(name)]
    values = evaluate(together, params)
    loops = [evaluate(at, params) for at in each]
    if beta:
        # beta is the record's own: it has no axis of responses
        values.pop("beta")
        loops = [{k: v for k, v in loop.items() if k != "beta"} for loop in loops]
    if kind == "natural" and beta:
        values.pop("natural")
    for method, value in values.items():
        loop = np.array([each_value[method] for each_value in loops])
        full = np.broadcast_to(value, loop.shape)
        assert_allclose(
            full, loop, rtol=1e-9, atol=1e-9 * np.abs(loop).max(initial=0.0), err_msg=method
        )


def test_a_stack_of_parameters_on_a_stack_of_responses() -> None:
    name = "balanced slope"
    one = design(name)
    together = CRITERIA[1](cross_products(group(evolve(one, y=responses(name)))))
    records = [record("profile", place(one, "interior", seed), beta=False) for seed in range(4)]
    each = [CRITERIA[1](cross_products(group(evolve(one, y=y)))) for y in responses(name)]
    paired = stack(records)
    for method in METHODS:
        loop = np.array(
            [getattr(at, method)(params) for at, params in zip(each, records, strict=True)]
        )
        assert_allclose(
            getattr(together, method)(paired), loop, rtol=1e-9, atol=1e-9 * np.abs(loop).max()
        )
