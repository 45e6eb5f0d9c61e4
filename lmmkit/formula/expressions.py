"""Python expressions inside formulas: which names they use, and which of them are traps."""

import ast
import re
from typing import NamedTuple

from lmmkit.errors import FormulaError

_OVER_ROWS = {"lag", "max", "mean", "median", "min", "quantile", "std", "sum", "var"}


class Expression(NamedTuple):
    """An expression ready to evaluate.

    ``code`` is Python; ``columns`` maps the names in it that may be columns to the columns' own
    names, which differ for backticked ones; ``functions`` are the names that it calls.
    """

    code: str
    columns: dict[str, str]
    functions: frozenset[str]


def check_expression(expr: str) -> ast.expr:
    """The syntax tree of ``expr``, after refusing what would compute something else than it says.

    Raises
    ------
    FormulaError
        For invalid Python, ``^``, ``|``, and functions that summarize over rows, because their
        value would change with the rows to predict for; and for one name that stands for a
        function and for a column.
    """
    tree, _ = _tree(expr)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node not in calls and node.id in map(_name, calls):
            raise FormulaError(
                f"{expr!r}: the column {node.id!r} hides the function {node.id}(); rename the "
                "column in the frame"
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            raise FormulaError(f"{expr!r}: '^' is exclusive or in Python; write ** for a power")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            raise FormulaError(
                f"{expr!r}: '|' inside a function call; a random term needs an operator before "
                "its parenthesis: 'x + (1 | g)'"
            )
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
            if name in _OVER_ROWS:
                raise FormulaError(
                    f"{expr!r}: {name}() depends on which rows are in the frame, so predictions "
                    "for other rows would be wrong; use center() or scale(), or compute a column "
                    "in the frame first"
                )
    return tree


def read_expression(expr: str) -> Expression:
    """The code and the names of ``expr``, backticked ones under an alias of their own."""
    tree, hidden = _tree(expr)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    called = {_name(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    used = {node.id for node in names} - bound
    return Expression(
        code=ast.unparse(tree),
        columns={name: hidden.get(name, name) for name in sorted(used - called)},
        functions=frozenset(used & called),
    )


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _tree(expr: str) -> tuple[ast.expr, dict[str, str]]:
    hidden: dict[str, str] = {}

    def hide(match: re.Match[str]) -> str:
        alias = f"_backticked_{len(hidden)}"
        hidden[alias] = match[1]
        return alias

    try:
        return ast.parse(re.sub(r"`([^`]*)`", hide, expr), mode="eval").body, hidden
    except SyntaxError as error:
        raise FormulaError(f"{expr!r} is not a valid expression: {error.msg}") from error
