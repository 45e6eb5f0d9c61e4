"""Multiple membership in formulas: the grouping factor ``mm(a, b, weights=(wa, wb))``."""

import ast
from typing import NamedTuple

from lmmkit.errors import FormulaError
from lmmkit.formula.expressions import check_expression, read_expression


class Members(NamedTuple):
    """The columns that hold the memberships of a row, and those that hold their loads."""

    columns: tuple[str, ...]
    weights: tuple[str, ...]


def read_members(expr: str) -> Members | None:
    """The arguments of ``mm(...)``; None when ``expr`` is something else.

    Raises
    ------
    FormulaError
        When it is mm() with arguments that are not understood.
    """
    expression = read_expression(expr)
    call = ast.parse(expression.code, mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return None
    if call.func.id != "mm":
        return None
    check_expression(expr)
    columns = _names(expr, call.args, expression.columns)
    if len(columns) < 2:
        raise FormulaError(
            f"{expr!r}: expected two columns or more, each with one membership of a row: mm(a, b); "
            "for one column write (1 | a)"
        )
    weights: tuple[str, ...] = ()
    for keyword in call.keywords:
        if keyword.arg != "weights" or not isinstance(keyword.value, ast.Tuple | ast.List):
            raise FormulaError(
                f"{expr!r}: after its columns mm() takes weights=(wa, wb), one column of numbers "
                f"a membership, and nothing else; got {ast.unparse(keyword)}"
            )
        weights = _names(expr, keyword.value.elts, expression.columns)
        if len(weights) != len(columns):
            raise FormulaError(
                f"{expr!r}: {len(columns)} columns of memberships, but {len(weights)} of weights; "
                "expected one each"
            )
    return Members(columns, weights)


def _names(expr: str, nodes: list[ast.expr], columns: dict[str, str]) -> tuple[str, ...]:
    for node in nodes:
        if not isinstance(node, ast.Name):
            raise FormulaError(
                f"{expr!r}: expected names of columns, got {ast.unparse(node)!r}; make a column in "
                "the frame first"
            )
    names = tuple(columns[node.id] for node in nodes if isinstance(node, ast.Name))
    for name in names:
        if names.count(name) > 1:
            raise FormulaError(f"{expr!r} names the column {name!r} twice; name each one once")
    return names
