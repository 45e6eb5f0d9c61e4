"""Parameters of a residual structure held at known values: ``fixed={("Residual", "phi"): 0.5}``."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmmkit.errors import ParameterError, UnsupportedModelError
from lmmkit.records import FloatArray
from lmmkit.residual.model import ResidualModel

_GROUP = "Residual"
_WIDEST = 30.0
_SHIFT = 0.5


def split_fixed(model: ResidualModel, fixed: Any) -> tuple[dict[int, float], dict[Any, Any]]:
    """The elements of theta that ``fixed`` holds, and what it holds besides.

    Raises
    ------
    ParameterError
        For a name that is not a parameter, or a value that it cannot have.
    UnsupportedModelError
        For a parameter that several elements of theta make.
    """
    if fixed is None:
        return {}, {}
    if not isinstance(fixed, Mapping):
        raise ParameterError(
            "fixed: expected a mapping from parameters to values such as {'sigma2': 1.0}, got "
            f"{type(fixed).__name__}"
        )
    others = copy.deepcopy(dict(fixed))
    groups = {term.group for term in model.design.terms}
    mine = [key for key in others if isinstance(key, tuple) and key[:1] == (_GROUP,)]
    names = [parameter.name for parameter in model.parameters]
    held = {}
    for key in mine:
        name = key[1] if len(key) == 2 else None
        if name in names:
            held[names.index(name)] = _theta(model, names.index(name), key, others.pop(key))
        elif _GROUP not in groups:
            raise ParameterError(
                f"fixed: {key!r} is no parameter of the residual structure; expected "
                f"{', '.join(repr((_GROUP, name)) for name in names)}"
            )
    return held, others


def _theta(model: ResidualModel, i: int, key: Any, value: Any) -> float:
    from scipy.optimize import brentq

    parameter = model.parameters[i]
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not parameter.lower < value < parameter.upper:
        raise ParameterError(
            f"fixed {key!r}: expected a number between {parameter.lower:g} and "
            f"{parameter.upper:g}, bounds excluded, got {value!r}"
        )
    start = model.starts()[0]
    shifted = start + _SHIFT * (np.arange(len(start)) != i)
    if not np.isclose(model.values(shifted)[i], model.values(start)[i], rtol=1e-12):
        raise UnsupportedModelError(
            f"fixed {key!r}: this version holds parameters that the others do not bound, and the "
            "values of this one depend on theirs; use a structure with fewer parameters"
        )

    def excess(element: float) -> float:
        theta = np.array(start)
        theta[i] = element
        return float(model.values(theta)[i]) - float(value)

    if excess(-_WIDEST) * excess(_WIDEST) > 0.0:
        raise ParameterError(
            f"fixed {key!r}: {value!r} is too far out for these data; it can be between "
            f"{excess(-_WIDEST) + value:.3g} and {excess(_WIDEST) + value:.3g}"
        )
    return float(brentq(excess, -_WIDEST, _WIDEST, xtol=1e-14, rtol=1e-14))


def hold_starts(starts: FloatArray, held: Mapping[int, float]) -> FloatArray:
    """Starts (s, k) with the held elements in place, each once."""
    rows = np.array(starts)
    for i, element in held.items():
        rows[:, i] = element
    _, first = np.unique(rows, axis=0, return_index=True)
    return np.asarray(rows[np.sort(first)])
