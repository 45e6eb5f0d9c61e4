"""From the text of a formula to a :class:`ModelFormula`."""

import ast
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from lmmkit.errors import FormulaError
from lmmkit.formula.expressions import check_expression
from lmmkit.formula.members import read_members
from lmmkit.formula.structured import StructuredCall, placeholder, take_out
from lmmkit.formula.terms import BarTerm, ModelFormula
from lmmkit.records import evolve

if TYPE_CHECKING:
    from formulaic.parser.types import Factor, Term

    from lmmkit.formula.grammar import RandomPart


def parse_formula(text: str) -> ModelFormula:
    """Read a mixed-model formula in lme4's syntax.

    The fixed part and the effects of random terms are formulaic's language: ``a * b``, ``a:b``,
    ``I(x**2)``, ``log(x)``, ``poly(x, 2)``, ``bs(x, df=4)``, ``C(g, contr.sum)``, ```my column```.
    Random terms are ``(x | g)``, with an implicit intercept, ``(0 + x | g)`` without one,
    ``(x || g)`` with uncorrelated effects, ``(1 | a/b)`` for ``(1 | a) + (1 | a:b)``.
    ``(x | mm(a, b))`` is multiple membership: a row belongs to the level in column ``a`` and to
    that in column ``b``, which are levels of one factor. Its memberships load equally on the row
    and sum to one; with ``mm(a, b, weights=(wa, wb))`` they load as the columns say, which are not
    scaled to sum to one. A missing membership has the load zero.
    ``ar1(0 + t | g)``, ``cs(0 + f | g)``, ``fa(0 + f | g, 2)`` and others give the effects a
    covariance structure, see :mod:`lmmkit.structures`. ``offset(x)`` adds ``x`` with coefficient
    one.

    Parameters
    ----------
    text : str
        ``"Weight ~ Time + (Time | Pig)"``. No random term is legal.

    Returns
    -------
    ModelFormula

    Raises
    ------
    FormulaError
        When the text does not describe a model.
    """
    if not isinstance(text, str):
        raise FormulaError(
            f"expected a formula as text, such as 'y ~ x + (x | g)', got {type(text).__name__}"
        )
    if "%in%" in text:
        raise FormulaError(
            f"formula {text!r}: %in% has another meaning here than in R; write a:b for R's a %in% b"
        )
    return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> ModelFormula:
    from lmmkit.formula.grammar import RandomPart, offset_argument, terms_of

    if "~" not in text:
        raise FormulaError(
            f"formula {text!r} has no '~'; write the response on its left: 'y ~ x + (1 | g)'"
        )
    readable, calls = take_out(text)
    sides = terms_of(readable)
    if "lhs" not in sides._structure:
        raise FormulaError(f"formula {text!r} has no response; write one to the left of '~'")
    fixed: list[Term] = []
    random: list[tuple[BarTerm, list[Term]]] = []
    offsets: list[str] = []
    for term in sides.rhs:
        argument = offset_argument(term)
        call = _structured_call(term, calls)
        if isinstance(term, RandomPart):
            random.extend(_bar_terms(term))
        elif call is not None:
            random.extend(_structured_terms(call))
        elif argument is not None:
            check_expression(argument)
            offsets.append(argument)
        else:
            fixed.append(term)
    return ModelFormula(
        text=text,
        response=_response(text, sides.lhs),
        fixed=_join(fixed),
        random=_distinct(random),
        offsets=tuple(offsets),
    )


def _response(text: str, terms: "Sequence[Term]") -> str:
    from lmmkit.formula.grammar import RandomPart

    terms = list(terms)
    random = any(
        isinstance(term, RandomPart) or any(placeholder(f.expr) is not None for f in term.factors)
        for term in terms
    )
    if random or len(terms) != 1 or len(terms[0].factors) != 1:
        raise FormulaError(
            f"formula {text!r}: expected one response to the left of '~', got "
            f"{' + '.join(map(repr, terms)) or 'nothing'}; compute with I(), as in 'I(a + b) ~ x', "
            "and fit several responses one by one"
        )
    if terms[0].factors[0].eval_method.value == "literal":
        raise FormulaError(f"formula {text!r}: the response must be a column, not a number")
    return _term_text(terms[0])


def _bar_terms(part: "RandomPart") -> "Iterable[tuple[BarTerm, list[Term]]]":
    """The random terms that one parenthesis stands for, each with its effects."""
    effects = _effects(part)
    for group in _groups(part):
        for terms in [effects] if part.bar == "|" else [[term] for term in effects]:
            yield BarTerm(_join(terms), *group), terms


def _structured_call(term: "Term", calls: tuple[StructuredCall, ...]) -> StructuredCall | None:
    numbers = [placeholder(factor.expr) for factor in term.factors]
    found = [number for number in numbers if number is not None]
    if not found:
        return None
    call = calls[found[0]]
    if len(numbers) > 1:
        raise FormulaError(
            f"the random term {call.text!r} is combined with others by '*', ':' or '/'; random "
            f"terms can only be added: write '... + {call.text}'"
        )
    return call


def _structured_terms(call: StructuredCall) -> "Iterable[tuple[BarTerm, list[Term]]]":
    from lmmkit.formula.grammar import terms_of
    from lmmkit.structures.from_formula import structure_in_formula

    structure = structure_in_formula(call.text, call.name, call.arguments, call.options)
    (part,) = terms_of(f"({call.bar})")
    for bar, effects in _bar_terms(part):
        yield evolve(bar, structure=structure), effects


def _effects(part: "RandomPart") -> "list[Term]":
    from lmmkit.formula.grammar import offset_argument

    effects = sorted(part.effects, key=lambda term: int(term.degree))
    if not effects:
        raise FormulaError(
            f"the random term (0 | {' + '.join(map(repr, part.groups))}) has no effects; "
            "write (1 | g) for an intercept or (0 + x | g) for a slope alone"
        )
    for term in effects:
        if offset_argument(term) is not None:
            raise FormulaError(f"{part!r}: offset() belongs outside the random term")
        literals = [f for f in term.factors if f.eval_method.value == "literal"]
        if len(literals) == len(term.factors) and term.factors[0].expr != "1":
            raise FormulaError(
                f"{part!r}: the number {term!r} is no effect; 1 is the intercept, 0 leaves it out"
            )
    return effects


def _groups(part: "RandomPart") -> Iterable[tuple[tuple[str, ...], bool, tuple[str, ...]]]:
    """The factors, members and weights of each grouping factor; several only for ``a/b``."""
    previous: tuple[str, ...] = ()
    if not part.groups:
        raise FormulaError(f"{part!r}: there is no grouping factor to the right of the bar")
    for term in part.groups:
        for factor in term.factors:
            if factor.eval_method.value == "lookup":
                continue
            members = read_members(factor.expr) if factor.eval_method.value == "python" else None
            if members is None:
                raise FormulaError(
                    f"{part!r}: expected a column as grouping factor, got {factor.expr!r}; "
                    "name a column, or make one in the frame first"
                )
            if len(part.groups) > 1 or len(term.factors) > 1:
                raise FormulaError(
                    f"{part!r}: mm() cannot be combined with other grouping factors in one term; "
                    "make columns of the combinations in the frame first"
                )
            yield members.columns, True, members.weights
            return
        names = tuple(factor.expr for factor in term.factors)
        if not set(previous) < set(names):
            raise FormulaError(
                f"{part!r}: several grouping factors in one term are only understood as nesting, "
                "(1 | a/b); write one term for each: (1 | a) + (1 | b)"
            )
        yield names, False, ()
        previous = names


def _distinct(random: "list[tuple[BarTerm, list[Term]]]") -> tuple[BarTerm, ...]:
    seen = set()
    for bar, effects in random:
        for effect in effects:
            key = (effect, frozenset(bar.factors), bar.members)
            if key in seen:
                raise FormulaError(
                    f"the effect '{effect!r}' of {bar.group!r} stands in two random terms, so that "
                    "their variances cannot be told apart; keep it in one of them: "
                    f"({bar.effects} | {bar.group})"
                )
            seen.add(key)
    return tuple(bar for bar, _ in random)


def _join(terms: "Iterable[Term]") -> str:
    """A formulaic right-hand side with an explicit intercept."""
    terms = sorted(terms, key=lambda term: int(term.degree))
    texts = [_term_text(term) for term in terms]
    return " + ".join(texts if "1" in texts else ["0", *texts])


def _term_text(term: "Term") -> str:
    return ":".join(_factor_text(factor) for factor in term.factors)


def _factor_text(factor: "Factor") -> str:
    expr = str(factor.expr)
    kind = factor.eval_method.value
    if kind == "lookup":
        return expr if re.fullmatch(r"(?!in$)[^\W\d]\w*", expr) else f"`{expr}`"
    if kind == "python":
        node = check_expression(expr)
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        return expr if is_call else f"{{{expr}}}"
    return expr
