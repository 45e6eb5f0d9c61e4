"""Leading axes of parameters, and of responses, where factors are crossed: a loop over them."""

from functools import cache

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import Design, build_design, group
from lmmkit.errors import ParameterError, UnsupportedModelError
from lmmkit.likelihood import Objective, ml, reml
from lmmkit.moments import cross_products
from lmmkit.parameters import NaturalParams
from lmmkit.records import evolve
from tests.likelihood.cases import place
from tests.likelihood.dense import KINDS, Kind, record
from tests.likelihood.test_broadcast import METHODS, assert_same, evaluate, stack


@cache
def crossed() -> Design:
    draw, n = np.random.default_rng(4), 60
    columns = {"y": draw.normal(size=n), "x": draw.normal(size=n)}
    codes = {"a": draw.integers(0, 5, n), "b": draw.integers(0, 4, n)}
    return build_design("y ~ x + (x | a) + (1 | b)", pl.DataFrame(columns | codes))


@cache
def objective() -> Objective:
    return reml(cross_products(group(crossed())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [True, False], ids=["beta given", "beta profiled"])
def test_parameters(kind: Kind, beta: bool) -> None:
    points = ["interior", "interior", "perfect correlation", "no variance"]
    places = [place(crossed(), point, seed) for seed, point in enumerate(points)]
    places[1] = evolve(places[1], sigma2=2.3)
    records = [record(kind, where, beta=beta) for where in places]
    each = [evaluate(objective(), params) for params in records]
    assert_same(evaluate(objective(), stack(records)), each)


def test_two_leading_axes_that_broadcast() -> None:
    where = place(crossed(), "interior")
    psi = tuple(t @ t.T for t in where.factors)
    sigma2 = np.array([0.5, 1.0, 2.0])
    more = (psi[0], psi[1] * np.array([1.0, 2.0])[:, None, None, None])
    together = NaturalParams(more, sigma2, where.beta)
    for method in METHODS:
        value = getattr(objective(), method)(together)
        assert value.shape[:2] == (2, 3)
        for i in range(2):
            for j in range(3):
                one = NaturalParams((psi[0], psi[1] * (i + 1)), float(sigma2[j]), where.beta)
                assert_allclose(value[i, j], getattr(objective(), method)(one), rtol=1e-12)
    natural = objective().natural(together)
    assert natural.psi[0].shape == (2, 3, 2, 2)


def test_what_is_no_record() -> None:
    with pytest.raises(ParameterError, match="expected NaturalParams"):
        objective().loglik(np.zeros(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("criterion", [ml, reml])
def test_several_responses(criterion: object) -> None:
    design = evolve(crossed(), y=np.random.default_rng(1).normal(size=(3, 60)))
    moments = cross_products(group(design))
    assert callable(criterion)
    with pytest.raises(UnsupportedModelError, match=r"one response.*shape \(3,\).*at a time"):
        criterion(moments)
