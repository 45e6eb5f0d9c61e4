"""What a formula needs of a frame: formulaic's terms and column names, worked out once a formula.

Formulaic loads pandas, so this module is imported when a design is first built.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from formulaic.parser.types import Factor, Term

from lmmkit.design.functions import FUNCTIONS
from lmmkit.errors import FormulaError
from lmmkit.formula.expressions import read_expression
from lmmkit.formula.grammar import terms_of


class Part(NamedTuple):
    """One matrix of the model: its terms, and the columns that they use."""

    terms: tuple[Term, ...]
    columns: tuple[str, ...]


@lru_cache(maxsize=1024)
def part(text: str) -> Part:
    """The terms of a right-hand side with explicit intercept, such as ``1 + x``."""
    terms = tuple(sorted(terms_of(text), key=lambda term: term.degree))
    return Part(terms, tuple(dict.fromkeys(_columns(terms))))


def _columns(terms: Iterable[Term]) -> Iterable[str]:
    for term in terms:
        for factor in term.factors:
            if factor.eval_method is Factor.EvalMethod.LOOKUP:
                yield factor.expr
            elif factor.eval_method is Factor.EvalMethod.PYTHON:
                yield from _expression_columns(factor.expr)


def _expression_columns(expr: str) -> Iterable[str]:
    expression = read_expression(expr)
    if "Q" in expression.functions:
        quoted = next(iter(re.findall(r"""Q\(\s*['"]([^'"]+)['"]\s*\)""", expr)), "my column")
        raise FormulaError(
            f"{expr!r}: Q() is no function of formulas; write the column in backticks: `{quoted}`"
        )
    if "mm" in expression.functions:
        raise FormulaError(
            f"{expr!r}: mm() is a grouping factor and stands to the right of a bar, as in "
            "(1 | mm(a, b))"
        )
    for name in sorted(expression.functions - FUNCTIONS.keys()):
        near = get_close_matches(name, FUNCTIONS, n=1)
        raise FormulaError(
            f"{expr!r} calls {name}(), which is no function of formulas; "
            + (f"did you mean {near[0]}()? Otherwise " if near else "")
            + "compute the column in the frame first"
        )
    for name, column in expression.columns.items():
        if name not in ("np", "contr"):
            yield column
