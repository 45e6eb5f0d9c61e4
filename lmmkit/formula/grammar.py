"""The formula grammar: formulaic's, plus random terms ``(effects | group)``.

Formulaic loads pandas, so this module is imported when a formula is first parsed.
"""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any, NoReturn

from formulaic.errors import FormulaParsingError, FormulaSyntaxError
from formulaic.parser import DefaultFormulaParser, DefaultOperatorResolver
from formulaic.parser.types import Factor, Operator, OrderedSet, Term, Token
from formulaic.parser.utils import merge_operator_tokens

from lmmkit.errors import FormulaError
from lmmkit.formula.structured import placeholder


class RandomPart(Term):
    """One parenthesized random term; opaque, so that no formula operator can take it apart."""

    def __init__(self, effects: Iterable[Term], groups: Iterable[Term], bar: str) -> None:
        self.effects, self.groups, self.bar = tuple(effects), tuple(groups), bar
        left = " + ".join(sorted(map(repr, self.effects)))
        right = " + ".join(map(repr, self.groups))
        super().__init__([Factor(f"({left} {bar} {right})", eval_method="lookup")])

    def _refuse(self, other: Any) -> NoReturn:
        raise FormulaError(
            f"the random term {self!r} is combined with {other!r} by '*', ':', '/' or '**'; "
            "random terms can only be added: write '... + (effects | group)'"
        )

    __mul__ = __rmul__ = _refuse


def _random_part(bar: str, effects: Iterable[Term], groups: Iterable[Term]) -> OrderedSet:
    for side in (effects, groups):
        if any(isinstance(term, RandomPart) for term in side):
            raise FormulaError(
                "a random term has one '|' between its effects and its grouping factor; "
                "for two grouping factors write two terms, '(1 | g) + (1 | h)', "
                "or '(1 | g:h)' for their combinations"
            )
    return OrderedSet((RandomPart(effects, groups, bar),))


def _add(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    for term in right:
        if isinstance(term, RandomPart) and term in left:
            raise FormulaError(
                f"the random term {term!r} stands twice, so that its two variances cannot be told "
                "apart: only their sum is identified; write it once"
            )
    return OrderedSet((*left, *right))


def _subtract(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    for term in right:
        structured = any(placeholder(factor.expr) is not None for factor in term.factors)
        if isinstance(term, RandomPart) or structured or offset_argument(term) is not None:
            raise FormulaError(f"{term!r} cannot be subtracted; leave it out of the formula")
    return left - right


def _negate(terms: OrderedSet) -> OrderedSet:
    return _subtract(OrderedSet(), terms)


def offset_argument(term: Term) -> str | None:
    """The text inside ``offset(...)``, or None when the term is something else."""
    for factor in term.factors:
        match = re.fullmatch(r"offset\((.*)\)", factor.expr, re.DOTALL)
        if match and factor.eval_method is Factor.EvalMethod.PYTHON:
            if len(term.factors) > 1:
                raise FormulaError(
                    f"{term!r}: offset() cannot be part of an interaction; "
                    "write '... + offset(column)'"
                )
            return match[1]
    return None


class _Resolver(DefaultOperatorResolver):
    @property
    def operators(self) -> list[Operator]:
        replaced = {("|", 2), ("-", 1), ("-", 2), ("+", 2)}
        kept = [op for op in super().operators if (op.symbol, op.arity) not in replaced]
        minus = {"symbol": "-", "precedence": 100}
        return [
            *kept,
            Operator("+", arity=2, precedence=100, associativity="left", to_terms=_add),
            Operator(arity=2, associativity="left", to_terms=_subtract, **minus),
            Operator(arity=1, associativity="right", fixity="prefix", to_terms=_negate, **minus),
            *(_bar_operator(symbol) for symbol in ("|", "||")),
        ]


def _bar_operator(symbol: str) -> Operator:
    return Operator(
        symbol,
        arity=2,
        precedence=-50,
        to_terms=lambda effects, groups: _random_part(symbol, effects, groups),
        structural=True,
    )


class _Parser(DefaultFormulaParser):
    """Adds the implicit intercept after ``~`` and at the start of every random term."""

    def get_tokens_from_formula(
        self, formula: str, *, context: MutableMapping[str, Any]
    ) -> list[Token]:
        tokens = list(super().get_tokens_from_formula(formula, context=context))
        openings: list[int] = []
        inserts = set()
        for position, token in enumerate(tokens):
            if token.kind is Token.Kind.CONTEXT and token.token in "([":
                openings.append(position)
            elif token.kind is Token.Kind.CONTEXT and openings:
                openings.pop()
            elif token.kind is not Token.Kind.OPERATOR:
                continue
            elif token.token == ".":
                raise FormulaError("'.' for all columns is not understood; name the columns")
            elif token.token.startswith("~") and not openings:
                inserts.add(position)
            elif token.token.startswith("|"):
                if not openings:
                    raise FormulaError(
                        f"a random term stands in parentheses: write '(x {token.token} g)', "
                        f"not 'x {token.token} g'"
                    )
                inserts.add(openings[-1])
        return list(merge_operator_tokens(_with_intercepts(tokens, inserts), symbols={"+", "-"}))


def _with_intercepts(tokens: list[Token], inserts: set[int]) -> Iterable[Token]:
    for position, token in enumerate(tokens):
        if position not in inserts:
            yield token
            continue
        opening, signs = token.token[0], token.token[1:]
        yield token.copy_with_attrs(token=opening)
        following = tokens[position + 1].token if position + 1 < len(tokens) else ""
        if not following or following.startswith(("|", ")")):
            side = "to the left of '|'" if opening != "~" else "to the right of '~'"
            raise FormulaError(f"there is nothing {side}; write 1 for an intercept alone")
        yield Token("1", kind=Token.Kind.VALUE)
        if not signs and not following.startswith(("+", "-")):
            signs = "+"
        if signs:
            yield Token(signs, kind=Token.Kind.OPERATOR)


_PARSER = _Parser(operator_resolver=_Resolver(), include_intercept=False)


def terms_of(text: str) -> Any:
    """Formulaic's terms of ``text``; a structure with ``lhs`` and ``rhs`` if there is a ``~``."""
    try:
        return _PARSER.get_terms(text)
    except (FormulaParsingError, FormulaSyntaxError, SyntaxError, NotImplementedError) as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        plain = plain.replace("⧛", ">>>").replace("⧚", "<<<").replace("\n\n", " In: ")
        raise FormulaError(f"formula {text!r} cannot be read: {plain}") from error
