"""Random terms with a covariance structure: ``ar1(0 + t | g, hom=False)`` in the text of a formula.

Such calls are not Python, since ``a:b`` may stand in them. They are taken out of the text before
formulaic reads it, and a placeholder that it can read is left in their place.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from lmmkit.errors import FormulaError
from lmmkit.records import record

_CALL = re.compile(r"(?<![\w`.])([^\W\d]\w*)\s*\(")
_PLACEHOLDER = re.compile(r"_structured\((\d+)\)")
_QUOTES = "`'\""


@record
class StructuredCall:
    """One call: ``name(bar, *arguments, **options)``.

    Attributes
    ----------
    text : str
        As it was written.
    name : str
        ``"ar1"``.
    bar : str
        ``"0 + t | g"``.
    arguments : tuple
    options : dict
    """

    text: str
    name: str
    bar: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def take_out(text: str) -> tuple[str, tuple[StructuredCall, ...]]:
    """The formula with placeholders, and the calls that they stand for."""
    calls: list[StructuredCall] = []
    rest, position = "", 0
    while match := _CALL.search(text, position):
        end = _closing(text, match.end())
        inside = text[match.end() : end]
        if end < len(text) and "|" in _outer(inside):
            rest += f"{text[position : match.start()]}_structured({len(calls)})"
            calls.append(_call(text[match.start() : end + 1], match[1], inside))
            position = end + 1
        else:
            rest += text[position : match.end()]
            position = match.end()
    return rest + text[position:], tuple(calls)


def placeholder(expr: str) -> int | None:
    """The number of the call that ``expr`` stands for; None where it is no placeholder."""
    match = _PLACEHOLDER.fullmatch(expr)
    return None if match is None else int(match[1])


def _outer(text: str) -> str:
    """``text`` without what is in parentheses and quotes."""
    return "".join(character for character, depth in _depths(text) if depth == 0)


def _depths(text: str) -> Iterator[tuple[str, int]]:
    """Each character, and how many parentheses and quotes it is in."""
    depth, quote = 0, ""
    for character in text:
        if quote:
            yield character, depth + 1
            quote = "" if character == quote else quote
            continue
        depth -= character in ")]}"
        quote = character if character in _QUOTES else ""
        yield character, depth + bool(quote)
        depth += character in "([{"


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that was opened before ``start`` is closed."""
    for offset, (_, depth) in enumerate(_depths(text[start:])):
        if depth < 0:
            return start + offset
    return len(text)


def _call(text: str, name: str, inside: str) -> StructuredCall:
    pieces, piece = [], ""
    for character, depth in _depths(inside):
        if character == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += character
    bar, *rest = [*pieces, piece]
    if "||" in bar:
        raise FormulaError(
            f"{text!r}: '||' makes a term of each effect, {name}() one covariance of all of them; "
            "write '|'"
        )
    arguments, options = [], {}
    for argument in rest:
        keyword = re.fullmatch(r"\s*([^\W\d]\w*)\s*=(?!=)\s*(.*)", argument, re.DOTALL)
        value = keyword[2] if keyword else argument
        try:
            read = ast.literal_eval(value.strip().replace("TRUE", "True").replace("FALSE", "False"))
        except (ValueError, SyntaxError):
            raise FormulaError(
                f"{text!r}: expected a number or True or False after the comma, got "
                f"{value.strip()!r}; pass other structures with covariance="
            ) from None
        if keyword:
            options[keyword[1]] = read
        else:
            arguments.append(read)
    return StructuredCall(text, name, bar, tuple(arguments), options)
