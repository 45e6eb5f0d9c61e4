"""Covariance structures in formulas."""

from typing import Any

import pytest

from lmmkit.errors import FormulaError
from lmmkit.formula import parse_formula
from lmmkit.structures import (
    AR1,
    CompoundSymmetry,
    Diagonal,
    Exponential,
    FactorAnalytic,
    Heterogeneous,
    Homogeneous,
    Identity,
    Matern,
    ReducedRank,
    Toeplitz,
    Unstructured,
)


@pytest.mark.parametrize(
    ("call", "structure"),
    [
        ("us(x | g)", Unstructured()),
        ("diag(x | g)", Diagonal()),
        ("diag(x | g, hom=True)", Identity()),
        ("homdiag(x | g)", Identity()),
        ("cs(x | g)", Heterogeneous(CompoundSymmetry())),
        ("cs(x | g, hom = TRUE)", Homogeneous(CompoundSymmetry())),
        ("homcs(x | g)", Homogeneous(CompoundSymmetry())),
        ("ar1(x | g)", Homogeneous(AR1())),
        ("ar1(x | g, hom=FALSE)", Heterogeneous(AR1())),
        ("hetar1(x | g)", Heterogeneous(AR1())),
        ("toep(x | g)", Heterogeneous(Toeplitz())),
        ("homtoep(x | g)", Homogeneous(Toeplitz())),
        ("exp(x | g)", Homogeneous(Exponential())),
        ("mat(x | g, 1.5)", Homogeneous(Matern(1.5))),
        ("fa(x | g, 2)", FactorAnalytic(2)),
        ("rr(x | g, rank=2)", ReducedRank(2)),
    ],
)
def test_names_and_arguments(call: str, structure: Any) -> None:
    (bar,) = parse_formula(f"y ~ z + {call}").random
    assert bar.structure == structure
    assert (bar.effects, bar.factors) == ("1 + x", ("g",))


def test_what_stands_inside_is_read_as_in_any_random_term() -> None:
    model = parse_formula(
        "y ~ log(x) + ar1(0 + `my f`:h + I(x**2) | a:b) + diag (1 + poly(x, 2) | a/b) + (1 | c)"
    )
    ar1, first, second, plain = model.random
    assert ar1.factors == ("a", "b")
    assert "`my f`:h" in ar1.effects
    assert [bar.factors for bar in (first, second)] == [("a",), ("a", "b")]
    assert first.effects == second.effects == "1 + poly(x, 2)"
    assert (first.structure, plain.structure) == (Diagonal(), None)
    assert model.fixed == "1 + log(x)"


def test_functions_without_a_bar_stay_functions() -> None:
    model = parse_formula("y ~ exp(x) + (exp(x) | g)")
    assert model.random[0].structure is None
    assert "exp(x)" in model.fixed


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (
            "y ~ toeplitz(x | g)",
            "toeplitz is no covariance structure of formulas.* one of us, diag",
        ),
        ("y ~ diag(x || g)", "one covariance of all of them; write '.'"),
        ("y ~ x * diag(x | g)", r"'diag\(x | g\)' is combined with others"),
        ("y ~ x - diag(x | g)", "cannot be subtracted"),
        ("diag(x | g) ~ x", "expected one response"),
        ("y ~ fa(x | g, two)", "expected a number or True or False"),
        ("y ~ fa(x | g, 0)", "expected a whole number of factors"),
        ("y ~ fa(x | g, 1, 2)", "takes from 1 to 2 positional arguments|positional"),
        ("y ~ ar1(x | g, het=True)", "unexpected keyword argument 'het'"),
        ("y ~ ar1(x | g, het=True)", "ar1 takes hom after its term"),
        ("y ~ ar1(x | g, hom=3)", "hom: expected True or False, got 3"),
        ("y ~ diag(x | g, hom=1)", "hom: expected True or False, got 1"),
        ("y ~ us(x | g, 1)", "us takes nothing after its term"),
        ("y ~ mat(x | g, True)", "expected a number between 0 and 20, got True"),
        ("y ~ mat(x | g, 'a')", "expected a number between 0 and 20, got 'a'"),
        ("y ~ mat(x | g, -1)", "expected a number between 0 and 20"),
        ("y ~ diag(x | g | h)", "one '.' between its effects"),
        ("y ~ diag(| g)", "nothing to the left"),
        ("y ~ diag(x | g", "cannot be read"),
        ("y ~ diag(x | g) + (x | g)", "two random terms"),
    ],
)
def test_what_is_no_structured_term(formula: str, words: str) -> None:
    with pytest.raises(FormulaError, match=f"(?s){words}"):
        parse_formula(formula)
