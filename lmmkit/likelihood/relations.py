"""Equalities between covariance parameters, by the names that users read."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import attrs

from lmmkit.design.design import Design
from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Hold, Relation
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.reported import Parameter, reported
from lmmkit.records import evolve, record


def _coefficients(value: Any) -> dict[Any, float]:
    if not isinstance(value, Mapping) or not value:
        raise ParameterError(
            "linear: expected a mapping from parameters to coefficients, such as "
            f"{{('g', 'sd_a'): 1, ('g', 'sd_b'): -2}}, got {value!r}"
        )
    for key, number in value.items():
        if not _is_finite(number) or not number:
            raise ParameterError(
                f"linear: expected a finite coefficient other than 0 of {key!r}, got {number!r}"
            )
    return {key: float(number) for key, number in value.items()}


def _value(value: Any) -> float:
    if not _is_finite(value):
        raise ParameterError(f"linear: expected value to be a finite number, got {value!r}")
    return float(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


@record
class LinearConstraint:
    """The sum of coefficients times covariance parameters equals ``value``.

    Attributes
    ----------
    coefficients : dict
        From ``(group, name)`` for a parameter of a covariance structure, ``(group, effect)`` for a
        variance, ``(group, effect, effect)`` for a covariance, ``"sigma2"``; or from
        ``("Residual", name)`` for a parameter of a residual structure, these only together.
    value : float
    """

    coefficients: dict[Any, float] = attrs.field(converter=_coefficients)
    value: float = attrs.field(default=0.0, converter=_value)


def linear(coefficients: Mapping[Any, float], value: float = 0.0) -> LinearConstraint:
    """A linear relation of covariance parameters, on the scale that they are reported on.

    For example ``linear({("g", "sd_a"): 1, ("g", "sd_b"): -2})``: one standard deviation is twice
    the other.

    Raises
    ------
    ParameterError
        For coefficients that are 0 or not finite, or a value that is not finite.
    """
    return LinearConstraint(dict(coefficients), value)


def tie(first: Any, second: Any) -> LinearConstraint:
    """Two covariance parameters are equal: ``tie(("g", "sd_a"), ("g", "sd_b"))``."""
    if first == second:
        raise ParameterError(f"tie: expected two different parameters, got {first!r} twice")
    return LinearConstraint({first: 1.0, second: -1.0})


def relate(
    objective: Objective, design: Design, constraints: Iterable[LinearConstraint]
) -> Objective:
    """The objective with linear relations of covariance parameters.

    Parameters
    ----------
    objective : Objective
    design : Design
        Gives the names.
    constraints : iterable of LinearConstraint
        As :func:`linear` and :func:`tie` make them.

    Raises
    ------
    ParameterError
        For a name that is no covariance parameter.
    """
    listed = listed_constraints(constraints)
    if not listed:
        return objective
    known = reported(design, objective.structures)
    relations: list[Hold | Relation] = []
    for constraint in listed:
        pairs = {_index(known, key): c for key, c in constraint.coefficients.items()}
        relations.append(Relation(tuple(pairs.items()), constraint.value))
    return evolve(objective, held=(*objective.held, *relations))


def listed_constraints(constraints: Any) -> tuple[LinearConstraint, ...]:
    """``constraints=`` as a tuple; one constraint may stand alone."""
    alone = isinstance(constraints, LinearConstraint) or not isinstance(constraints, Iterable)
    listed = (constraints,) if alone else tuple(constraints)
    for constraint in listed:
        if not isinstance(constraint, LinearConstraint):
            raise ParameterError(
                f"constraints: expected tie(...) or linear(...), got {constraint!r}"
            )
    return listed


def _index(known: tuple[Parameter, ...], key: Any) -> int:
    names = {name: p.index for p in known for name in _names(p)}
    if key not in names:
        raise ParameterError(
            f"constraints: {key!r} is no covariance parameter; expected one of "
            f"{', '.join(repr(_names(p)[0]) for p in known if p.kind != 'fixed')}"
        )
    return names[key]


def _names(parameter: Parameter) -> list[Any]:
    if parameter.kind == "fixed":
        return []
    if parameter.kind == "residual":
        return ["sigma2"]
    if parameter.kind != "covariance":
        return [(parameter.group, parameter.term)]
    pair = parameter.term.split(", ")
    return [(parameter.group, *pair), (parameter.group, *pair[::-1])]
