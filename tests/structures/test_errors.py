"""Wrong structures, wrong coordinates and wrong names: what the messages say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lmmkit import datasets, fit, linear, tie
from lmmkit.errors import ArgumentError, LmmkitError, ParameterError
from lmmkit.structures import (
    AR1,
    Blocks,
    CompoundSymmetry,
    Diagonal,
    Exponential,
    FactorAnalytic,
    Homogeneous,
    Identity,
    Kronecker,
    Matern,
    ReducedRank,
)
from lmmkit.structures.contract import bound

MACHINES = datasets.load("Machines")
PLAIN = "score ~ Machine + (0 + Machine | Worker)"
CS = "score ~ Machine + cs(0 + Machine | Worker)"


def untyped(value: Any) -> Any:
    """What the type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        ({"worker": Diagonal()}, "one of '0 . Machine | Worker', got 'worker'"),
        ({"Worker": Diagonal}, r"covariance\['Worker'\]: .* the class Diagonal; call it first"),
        ({"Worker": AR1()}, "lacks covariance"),
        ({"Worker": "ar1"}, "expected a covariance structure .* 'ar1'"),
        ([Diagonal()], "expected a mapping"),
        ({"Worker": FactorAnalytic(2)}, "too few for 8 parameters"),
        ({"Worker": ReducedRank(4)}, "at most 3 factors .* got 4"),
        ({"Worker": Homogeneous(Exponential())}, r"names hold coordinates, .* 'Machine\[A\]'"),
        (
            {"Worker": Homogeneous(Exponential(np.array([0.0, 1.0])))},
            "coordinates of 3 effects .* got 2",
        ),
        (
            {"Worker": Homogeneous(Exponential(np.array([0.0, 1.0, 1.0])))},
            r"'Machine\[B\]' and 'Machine\[C\]' have the same coordinates",
        ),
        ({"Worker": Identity(np.eye(2))}, "expected 2 effects, as the known matrix"),
        ({"Worker": Blocks((Diagonal(), Diagonal()), (1, 1))}, "make 2 effects, the term has 3"),
        ({"Worker": Kronecker((Diagonal(), Diagonal()), (2, 2))}, "make 4 effects, .* has 3"),
    ],
    ids=str,
)
def test_wrong_covariances(covariance: Any, words: str) -> None:
    with pytest.raises(LmmkitError, match=f"(?s){words}"):
        fit(PLAIN, MACHINES, covariance=covariance)


@pytest.mark.parametrize(
    ("model", "covariance"),
    [
        ("score ~ Machine + cs(0 + Machine | Worker)", {"Worker": Diagonal()}),
        (PLAIN, {"Worker": Diagonal(), "0 + Machine | Worker": Identity()}),
    ],
)
def test_a_term_has_one_structure(model: str, covariance: Any) -> None:
    with pytest.raises(ArgumentError, match=r"'0 \+ Machine \| Worker' has a structure already"):
        fit(model, MACHINES, covariance=covariance)


def test_a_term_is_named_where_its_factor_has_several() -> None:
    model = "score ~ Machine + (1 | Worker) + (0 + Machine | Worker)"
    with pytest.raises(ArgumentError, match="names several terms"):
        fit(model, MACHINES, covariance={"Worker": Diagonal()})
    found = fit(model, MACHINES, covariance={"0+Machine|Worker": Identity()})
    assert [term.structure for term in found.design.terms] == [None, Identity()]
    other = fit(model, MACHINES, covariance={"(0 + Machine | Worker)": Identity()})
    assert other.loglik == found.loglik


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Homogeneous(untyped(Diagonal())),
            "Homogeneous: expected a correlation such as AR1",
        ),
        (lambda: Homogeneous(untyped(AR1)), "expected a correlation"),
        (lambda: FactorAnalytic(untyped(1.5)), "whole number of factors"),
        (lambda: FactorAnalytic(True), "whole number of factors"),
        (lambda: Matern(0.0), "between 0 and 20"),
        (lambda: Identity(np.ones((2, 3))), "covariance matrix"),
        (lambda: Identity(np.array([[1.0, 2.0], [2.0, 1.0]])), "positive semidefinite"),
        (lambda: Identity(np.zeros((2, 2))), "other than zero"),
        (lambda: Blocks((Diagonal(),), (1, 2)), "expected 1 numbers of effects"),
        (lambda: Blocks((untyped(AR1()),), (2,)), "Blocks: expected a covariance structure"),
        (lambda: Kronecker((Diagonal(),), (2,)), "expected two structures"),
        (lambda: tie(("g", "a"), ("g", "a")), "two different parameters"),
        (lambda: linear({}), "expected a mapping"),
        (lambda: linear({("g", "a"): 0}), "coefficient other than 0"),
        (lambda: linear({("g", "a"): np.inf}), "finite coefficient"),
        (lambda: linear({("g", "a"): 1}, untyped("x")), "value to be a finite number, got 'x'"),
    ],
    ids=range(16),
)
def test_wrong_records(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fixed": {("Worker", "rho"): 1.0}}, "between -1 and 1, bounds excluded, got 1"),
        ({"fixed": {("Worker", "sd_Machine[A]"): -2.0}}, "between 0 and inf"),
        ({"fixed": {("Worker", "Machine[A]"): 2.0}}, r"parameters of structures are .*'rho'"),
        ({"fixed": {("Worker", "rho"): "half"}}, "finite number"),
        ({"constraints": [tie(("Worker", "sd"), ("Worker", "rho"))]}, r"\('Worker', 'sd'\) is no"),
        ({"constraints": [3]}, r"expected tie\(...\) or linear"),
        ({"constraints": [linear({"Machine": 1})]}, "'Machine' is no covariance parameter"),
        (
            {"constraints": [linear({("Worker", "rho"): 1}, 2.0)]},
            "no covariance matrix satisfies",
        ),
    ],
    ids=range(8),
)
def test_wrong_constraints(options: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        fit(CS, MACHINES, **options)


def test_covariances_are_checked_before_the_fit() -> None:
    class Odd:
        def __init__(self, value: Any) -> None:
            self.value = value

        def covariance(self, theta: Any, q: int) -> Any:
            return self.value

        def n_params(self, q: int) -> int:
            return 1

        def start(self, q: int) -> Any:
            return np.ones(1)

    fixed = np.eye(3)
    fixed[0, 1] = 0.5
    for value, words in [
        (np.ones(2), "of shape"),
        (np.full((3, 3), np.nan), "finite"),
        (fixed, "symmetric"),
    ]:
        with pytest.raises(ParameterError, match=rf"Odd.covariance: .*{words}"):
            fit(PLAIN, MACHINES, covariance={"Worker": Odd(value)})


def test_starts_are_checked() -> None:
    class Short:
        def n_params(self, q: int) -> int:
            return q

        def start(self, q: int) -> Any:
            return np.ones(q - 1)

        def covariance(self, theta: Any, q: int) -> Any:
            return np.diag(theta**2)

    with pytest.raises(ParameterError, match=r"Short.start: expected 3 finite numbers"):
        fit(PLAIN, MACHINES, covariance={"Worker": Short()})


def test_one_effect() -> None:
    for structure in (Homogeneous(CompoundSymmetry()), Homogeneous(AR1())):
        assert bound(structure, ("x",)).n_params(1) == 1
    one = fit("score ~ Machine + cs(1 | Worker)", MACHINES)
    assert one.loglik == pytest.approx(fit("score ~ Machine + (1 | Worker)", MACHINES).loglik)
