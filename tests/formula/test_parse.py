"""Formulas as text against the records that they stand for."""

import pickle

import pytest

from lmmkit.errors import FormulaError
from lmmkit.formula import BarTerm, parse_formula

G = ("g",)


@pytest.mark.parametrize(
    ("text", "fixed", "random"),
    [
        ("y ~ x", "1 + x", []),
        ("y ~ x + (x | g)", "1 + x", [("1 + x", G)]),
        ("y ~ x + (1 + x | g)", "1 + x", [("1 + x", G)]),
        ("y ~ x + (0 + x | g)", "1 + x", [("0 + x", G)]),
        ("y ~ x + (x - 1 | g)", "1 + x", [("0 + x", G)]),
        ("y ~ x + (-1 + x | g)", "1 + x", [("0 + x", G)]),
        ("y ~ -1 + x + (1|g)", "0 + x", [("1", G)]),
        ("y ~ 0 + (1 | g)", "0", [("1", G)]),
        ("y ~ x + (x || g)", "1 + x", [("1", G), ("0 + x", G)]),
        ("y ~ (0 + x + f || g)", "1", [("0 + x", G), ("0 + f", G)]),
        ("y ~ (1 | a) + (1 | b)", "1", [("1", ("a",)), ("1", ("b",))]),
        ("y ~ (1 | a/b)", "1", [("1", ("a",)), ("1", ("a", "b"))]),
        ("y ~ (1 | (a/b)/h)", "1", [("1", ("a",)), ("1", ("a", "b")), ("1", ("a", "b", "h"))]),
        ("y ~ (x || a/b)", "1",
         [("1", ("a",)), ("0 + x", ("a",)), ("1", ("a", "b")), ("0 + x", ("a", "b"))]),
        ("y ~ (1 | a:b)", "1", [("1", ("a", "b"))]),
        ("y ~ (x*z | g)", "1", [("1 + x + z + x:z", G)]),
        ("y ~ ((x) | g)", "1", [("1 + x", G)]),
        ("y ~ (1 | g) + x", "1 + x", [("1", G)]),
        ("y ~ (1 | `my g`) + `my x`", "1 + `my x`", [("1", ("my g",))]),
        ("y ~ a*b + (1|g)", "1 + a + b + a:b", [("1", G)]),
        ("y ~ a/b", "1 + a + a:b", []),
        ("y ~ (a + b)**2", "1 + a + b + a:b", []),
        ("y ~ a*b - a:b", "1 + a + b", []),
        ("y ~ x - 1", "0 + x", []),
        ("y ~ (0 + I(a + b) + I(a + c) | g)", "1", [("0 + I(a + b) + I(a + c)", G)]),
        ("y ~ a:b + a", "1 + a + a:b", []),
        ("y ~ x**2", "1 + x", []),
        ("y ~ I(x**2) + log(x)", "1 + I(x ** 2) + log(x)", []),
        ("y ~ {a+b}*c", "1 + {a + b} + c + {a + b}:c", []),
        ("y ~ C(f, contr.sum) + (poly(x,2) | g)", "1 + C(f, contr.sum)",
         [("1 + poly(x, 2)", G)]),
    ],
)  # fmt: skip
def test_expansion(text: str, fixed: str, random: list[tuple[str, tuple[str, ...]]]) -> None:
    formula = parse_formula(text)
    assert formula.text == text
    assert formula.response == "y"
    assert formula.fixed == fixed
    assert formula.random == tuple(BarTerm(*bar) for bar in random)


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("(1 | mm(a, b))", [BarTerm("1", ("a", "b"), members=True)]),
        (
            "(x || mm(a,`my b`, weights=(wa,  `my w`)))",
            [
                BarTerm("1", ("a", "my b"), members=True, weights=("wa", "my w")),
                BarTerm("0 + x", ("a", "my b"), members=True, weights=("wa", "my w")),
            ],
        ),
        (
            "(0 + f | mm(a, b, c, weights=[u, v, w])) + (1 | a)",
            [
                BarTerm("0 + f", ("a", "b", "c"), members=True, weights=("u", "v", "w")),
                BarTerm("1", ("a",)),
            ],
        ),
        ("(1 | a:b) + (1 | mm(a, b))", [BarTerm("1", ("a", "b")), BarTerm("1", ("a", "b"), True)]),
    ],
)
def test_multiple_membership(text: str, bars: list[BarTerm]) -> None:
    random = parse_formula(f"y ~ x + {text}").random
    assert random == tuple(bars)
    assert [bar.group.startswith("mm(") for bar in random] == [bar.members for bar in bars]


def test_the_name_of_a_multiple_membership_has_no_weights() -> None:
    (bar,) = parse_formula("y ~ (1 | mm(a,b,weights=(u,v)))").random
    assert bar.group == "mm(a, b)"


def test_the_parts_read_back_as_themselves() -> None:
    formula = parse_formula("y ~ {a + b}*`my c` + bs(`my c`, df=4) + (x*z || g)")
    again = parse_formula(f"y ~ {formula.fixed} + ({formula.random[-1].effects} | g)")
    assert again.fixed == formula.fixed
    assert again.random[0] == formula.random[-1]


def test_response_and_offsets() -> None:
    formula = parse_formula("log(`my y`) ~ x + offset(log(t)) + offset(u)")
    assert formula.response == "log(`my y`)"
    assert formula.offsets == ("log(t)", "u")
    assert formula.fixed == "1 + x"


def test_the_same_text_gives_the_same_record() -> None:
    formula = parse_formula("y ~ x + (x | g)")
    assert parse_formula("y ~ x + (x | g)") is formula
    assert pickle.loads(pickle.dumps(formula)) == formula


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("y", "no '~'"),
        ("", "no '~'"),
        ("~ x", "no response"),
        ("y ~", "nothing to the right of '~'"),
        ("y ~ x +", "cannot be read"),
        ("y ~ (x", "cannot be read"),
        ("y ~ x ~ z", "cannot be read"),
        ("y ~ x; z", "Unknown operator ';'"),
        ("y ~ f(x", "cannot be read"),
        ("y ~ I(x +)", "cannot be read"),
        ("y ~ .", "name the columns"),
        ("y ~ 2*x", "scale other terms"),
        ("y ~ 'a' + x", "String literals"),
        ("a + b ~ x", r"one response .* got a \+ b; compute with I\(\)"),
        ("1 ~ x", "the response must be a column"),
        ("(1 | g) ~ x", "one response"),
        ("y ~ x | g", r"in parentheses: write '\(x \| g\)'"),
        ("y ~ x || g", r"write '\(x \|\| g\)'"),
        ("y ~ (0 | g)", "has no effects"),
        ("y ~ (| g)", "nothing to the left of"),
        ("y ~ (x |)", "cannot be read"),
        ("y ~ (x | 0)", "no grouping factor"),
        ("y ~ (1 | 1)", "expected a column as grouping factor, got '1'"),
        ("y ~ (1 | mm(a))", r"two columns or more.*for one column write \(1 \| a\)"),
        ("y ~ (1 | mm())", "two columns or more"),
        ("y ~ (1 | mm(a, log(b)))", r"expected names of columns, got 'log\(b\)'"),
        ("y ~ (1 | mm(a, 'b'))", "expected names of columns"),
        ("y ~ (1 | mm(mm, a))", "the column 'mm' hides the function"),
        ("y ~ (1 | mm(a, a))", "names the column 'a' twice"),
        ("y ~ (1 | mm(a, b, weights=(w, w)))", "names the column 'w' twice"),
        ("y ~ (1 | mm(a, b, weights=(w, 1)))", "expected names of columns, got '1'"),
        ("y ~ (1 | mm(a, b, weights=(u, v, w)))", "2 columns of memberships, but 3 of weights"),
        ("y ~ (1 | mm(a, b, weights=w))", r"takes weights=\(wa, wb\).*got weights=w"),
        ("y ~ (1 | mm(a, b, scale=True))", "and nothing else; got scale=True"),
        ("y ~ (1 | mm(a, b)/c)", "cannot be combined with other grouping factors"),
        ("y ~ (1 | c/mm(a, b))", "cannot be combined with other grouping factors"),
        ("y ~ (1 | mm(a, b):c)", "cannot be combined"),
        ("y ~ (1 | mm(a, b)) + (x | mm(b, a, weights=(u, v)))", "stands in two random terms"),
        ("y ~ (1 | log(g))", r"got 'log\(g\)'; name a column"),
        ("y ~ (2 | g)", "the number 2 is no effect"),
        ("y ~ (1 | g | h)", r"two terms, '\(1 \| g\) \+ \(1 \| h\)'"),
        ("y ~ x %in% g + (1 | g)", "write a:b"),
        ("y ~ (1 | a + b)", r"\(1 \| a\) \+ \(1 \| b\)"),
        ("y ~ (1 | a * b)", "only understood as nesting"),
        ("y ~ x - (1 | g)", "cannot be subtracted"),
        ("y ~ -(1 | g)", "cannot be subtracted"),
        ("y ~ x * (1 | g)", "random terms can only be added"),
        ("y ~ (1 | g) * x", "random terms can only be added"),
        ("y ~ (1 | g):x", "random terms can only be added"),
        ("y ~ (1 | g)**2", "random terms can only be added"),
        ("y ~ x(1 | g)", "needs an operator before"),
        ("y ~ x (1 | g)", "needs an operator before"),
        ("y ~ (1 | g) + (x | g)", "effect '1' of 'g' stands in two random terms"),
        ("y ~ (1 | g) + (1 | g)", r"\(1 \| g\) stands twice.*write it once"),
        ("y ~ (x | a:b) + z + (1 + x | a:b)", "stands twice"),
        ("y ~ x - offset(z)", "cannot be subtracted"),
        ("y ~ x:offset(z)", "cannot be part of an interaction"),
        ("y ~ (offset(z) | g)", "belongs outside the random term"),
        ("y ~ I(x^2)", r"write \*\* for a power"),
        ("y ~ I(x - x.mean())", "mean.. depends on which rows"),
        ("y ~ I(x / np.std(x))", "std.. depends on which rows"),
        ("y ~ lag(x)", "lag.. depends on which rows"),
    ],
)  # fmt: skip
def test_what_is_no_formula(text: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words) as caught:
        parse_formula(text)
    assert "\x1b" not in str(caught.value)


def test_a_formula_is_text() -> None:
    with pytest.raises(FormulaError, match="expected a formula as text"):
        parse_formula(3)  # type: ignore[arg-type]
