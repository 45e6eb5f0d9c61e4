"""Linear hypotheses about beta, from text to ``L beta = c``."""

import difflib
import re
from collections.abc import Sequence

import numpy as np

from lmmkit.design.design import Design
from lmmkit.errors import ArgumentError
from lmmkit.records import FloatArray, float_array, record

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"[^\s*/=+\-]+")


@record
class Hypothesis:
    """``L beta = c``.

    Attributes
    ----------
    text : str
    L : ndarray (k, p)
    c : ndarray (k,)
    """

    text: str
    L: FloatArray = float_array(2)
    c: FloatArray = float_array(1)


def hypothesis_from_text(design: Design, texts: Sequence[str]) -> Hypothesis:
    """Rows such as ``"Time = 7"``, ``"Time - 2*Cu = 0"``, ``"Time"`` (is zero), or a term."""
    rows: list[FloatArray] = []
    values: list[float] = []
    for text in texts:
        columns = dict(design.x_terms).get(text.strip(), ())
        if columns and text.strip() not in design.x_names:
            rows += list(np.eye(len(design.x_names))[list(columns)])
            values += [0.0] * len(columns)
            continue
        left, *right = _sides(design, text)
        whole = left - right[0] if right else left
        if not whole[:-1].any():
            raise ArgumentError(f"hypothesis {text!r}: expected some fixed effect in it, got none")
        rows.append(whole[:-1])
        values.append(-whole[-1])
    return Hypothesis(L=np.array(rows), c=np.array(values), text="; ".join(texts))


def _sides(design: Design, text: str) -> list[FloatArray]:
    """Both sides of ``=`` as coefficients (p + 1,) of the fixed effects and of 1."""
    sides: list[FloatArray] = [np.zeros(len(design.x_names) + 1)]
    position, expects_term, sign = 0, True, 1.0
    while (position := _skip(text, position)) < len(text):
        symbol = text[position]
        if symbol in "+-":
            sign = -sign if symbol == "-" else sign
            expects_term, position = True, position + 1
        elif symbol == "=" and not expects_term and len(sides) == 1:
            sides.append(np.zeros_like(sides[0]))
            expects_term, position = True, position + 1
        elif expects_term:
            index, factor, position = _product(design, text, position)
            sides[-1][index] += sign * factor
            expects_term, sign = False, 1.0
        else:
            raise _syntax(text, position)
    if expects_term:
        raise _syntax(text, position)
    return sides


def _product(design: Design, text: str, position: int) -> tuple[int, float, int]:
    """One of ``name``, ``2``, ``2*name``, ``name*2``, ``name/2``: which effect, times what."""
    constant = len(design.x_names)
    index, factor, divides = constant, 1.0, False
    while True:
        position = _skip(text, position)
        name = _name_at(design, text, position)
        number = _NUMBER.match(text, position)
        if name is not None:
            if index != constant or divides:
                raise ArgumentError(
                    f"hypothesis {text!r}: expected a linear combination of fixed effects, got a "
                    "product or a quotient of them"
                )
            index = design.x_names.index(name.strip("`") if name.startswith("`") else name)
            position += len(name)
        elif number is not None:
            value = float(number[0])
            if divides and value == 0.0:
                raise ArgumentError(f"hypothesis {text!r}: it divides by zero")
            factor = factor / value if divides else factor * value
            position = number.end()
        else:
            raise _unknown(design, text, position)
        position = _skip(text, position)
        if text[position : position + 1] not in ("*", "/"):
            return index, factor, position
        divides = text[position] == "/"
        position += 1


def _name_at(design: Design, text: str, position: int) -> str | None:
    """The longest name of a fixed effect that the text has here, in backticks or not."""
    for name in sorted(design.x_names, key=len, reverse=True):
        for written in (f"`{name}`", name):
            end = position + len(written)
            if text.startswith(written, position) and not _goes_on(written, text[end : end + 1]):
                return written
    return None


def _goes_on(written: str, following: str) -> bool:
    def is_word(character: str) -> bool:
        return character.isalnum() or character in ("_", ".")

    return bool(following) and (
        (is_word(written[-1]) and is_word(following)) or following in (":", "[", "(")
    )


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _unknown(design: Design, text: str, position: int) -> ArgumentError:
    word = _WORD.match(text, position)
    if word is None:
        return _syntax(text, position)
    known = [*design.x_names, *(name for name, _ in design.x_terms)]
    near = difflib.get_close_matches(word[0], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ArgumentError(
        f"hypothesis {text!r}: {word[0]!r} is no fixed effect; they are "
        f"{', '.join(design.x_names)}{hint}"
    )


def _syntax(text: str, position: int) -> ArgumentError:
    where = f"got {text[position]!r} at position {position}" if position < len(text) else "it ends"
    return ArgumentError(
        f"hypothesis {text!r}: expected something like 'Time = 7' or 'Time - 2*Cu = 0', {where}"
    )
