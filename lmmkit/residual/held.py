"""Parameters of a residual structure held at known values, tied, or linearly related."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmmkit.errors import ParameterError, UnsupportedModelError
from lmmkit.likelihood.relations import LinearConstraint, listed_constraints
from lmmkit.records import record
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.restriction import Restriction, restriction

_GROUP = "Residual"


@record
class Restricted:
    """What ``fixed`` and ``constraints`` say of the residual structure, and of all else."""

    restriction: Restriction
    fixed: dict[Any, Any]
    constraints: tuple[LinearConstraint, ...]


def restrict(model: ResidualModel, fixed: Any, constraints: Any) -> Restricted:
    """Take apart what is said of the residual structure's parameters, and of others.

    Raises
    ------
    ParameterError
        For a name that is not a parameter, a value that it cannot have, or equalities that no
        parameters satisfy.
    UnsupportedModelError
        For a relation between parameters of the residual structure and others.
    """
    held, others = _held(model, fixed)
    related, other_constraints = _related(model, constraints)
    names = _names(model)
    equalities = [({name: 1.0}, value) for name, value in held.items()]
    equalities += [(one.coefficients, one.value) for one in related]
    rows = np.zeros((len(equalities), len(names)))
    for row, (coefficients, _) in zip(rows, equalities, strict=True):
        for key, coefficient in coefficients.items():
            row[names.index(key)] += coefficient
    right = np.array([value for _, value in equalities])
    known = restriction(model.values, model.starts(), rows, right)
    if known is None:
        listed = ", ".join(map(_words, equalities))
        raise ParameterError(
            f"fixed and constraints: no parameters of the residual structure satisfy {listed}"
            f"; the bounds are {', '.join(map(_bounds, model.parameters))}, and the equalities may "
            "not contradict or repeat one another, or be too far out for these data"
        )
    return Restricted(known, others, other_constraints)


def _names(model: ResidualModel) -> list[Any]:
    return [(_GROUP, parameter.name) for parameter in model.parameters]


def _held(model: ResidualModel, fixed: Any) -> tuple[dict[Any, float], dict[Any, Any]]:
    if fixed is None:
        return {}, {}
    if not isinstance(fixed, Mapping):
        raise ParameterError(
            "fixed: expected a mapping from parameters to values such as {'sigma2': 1.0}, got "
            f"{type(fixed).__name__}"
        )
    others = copy.deepcopy(dict(fixed))
    mine = [key for key in others if _is_ours(model, key, "fixed")]
    return {key: _value(model, key, others.pop(key)) for key in mine}, others


def _related(
    model: ResidualModel, constraints: Any
) -> tuple[list[LinearConstraint], tuple[LinearConstraint, ...]]:
    ours: list[LinearConstraint] = []
    others: list[LinearConstraint] = []
    for constraint in listed_constraints(constraints):
        keys = constraint.coefficients
        mine = [key for key in keys if _is_ours(model, key, "constraints")]
        if mine and len(mine) < len(keys):
            raise UnsupportedModelError(
                f"constraints: {constraint.coefficients} relates parameters of the residual "
                "structure to others; this version relates those of the residual structure to one "
                "another, and the others to one another"
            )
        (ours if mine else others).append(constraint)
    return ours, tuple(others)


def _is_ours(model: ResidualModel, key: Any, argument: str) -> bool:
    """Whether a key names a parameter of the structure; raises where it looks like one only."""
    if not isinstance(key, tuple) or key[:1] != (_GROUP,):
        return False
    names = _names(model)
    if key not in names and _GROUP not in {term.group for term in model.design.terms}:
        raise ParameterError(
            f"{argument}: {key!r} is no parameter of the residual structure; expected "
            f"{', '.join(map(repr, names))}"
        )
    return key in names


def _value(model: ResidualModel, key: Any, value: Any) -> float:
    parameter = model.parameters[_names(model).index(key)]
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not parameter.lower < value < parameter.upper:
        raise ParameterError(
            f"fixed {key!r}: expected a number between {parameter.lower:g} and "
            f"{parameter.upper:g}, bounds excluded, got {value!r}"
        )
    return float(value)


def _words(equality: tuple[Mapping[Any, float], float]) -> str:
    coefficients, value = equality
    terms = [f"{c:g} {name}" if c != 1 else name for (_, name), c in coefficients.items()]
    return f"{' + '.join(terms)} = {value:g}"


def _bounds(parameter: Any) -> str:
    return f"{parameter.lower:g} < {parameter.name} < {parameter.upper:g}"
