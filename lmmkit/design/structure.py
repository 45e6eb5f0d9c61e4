"""Covariance structures of a design's random terms."""

from collections.abc import Mapping
from typing import Any

from lmmkit.design.design import Design, RandomTerm
from lmmkit.errors import ArgumentError, FormulaError
from lmmkit.formula.parse import parse_formula
from lmmkit.records import evolve
from lmmkit.structures.contract import (
    CovarianceStructure,
    bound,
    require_structure,
    structure_name,
)
from lmmkit.structures.unstructured import Unstructured


def bound_structure(
    structure: CovarianceStructure | None, effects: tuple[str, ...]
) -> CovarianceStructure | None:
    """The structure for these effects; None for an unstructured covariance."""
    if structure is None or isinstance(structure, Unstructured):
        return None
    return bound(structure, effects)


def with_covariance(design: Design, covariance: Mapping[str, Any]) -> Design:
    """The design with covariance structures for some of its random terms.

    Parameters
    ----------
    design : Design
    covariance : mapping
        From a grouping factor, ``"g"``, or where it has several terms from the term, ``"0 + x |
        g"``, to a :class:`~lmmkit.structures.CovarianceStructure`.

    Raises
    ------
    ArgumentError
        For a key that is not one random term, or a term that has a structure already.
    ParameterError
        For a value that is no structure, or one that these effects cannot have.
    """
    if not isinstance(covariance, Mapping):
        raise ArgumentError(
            "covariance: expected a mapping from grouping factors to structures, such as "
            f"{{'g': Diagonal()}}, got {type(covariance).__name__}"
        )
    terms = list(design.terms)
    for key, value in covariance.items():
        k = _position(design, key)
        structure = require_structure(value, f"covariance[{key!r}]")
        if terms[k].structure is not None:
            raise ArgumentError(
                f"covariance: the term {_keys(design, k, terms[k])[-1]!r} has a structure already, "
                f"{structure_name(terms[k].structure)}; name one, in the formula or here"
            )
        terms[k] = evolve(terms[k], structure=bound_structure(structure, terms[k].names))
    return evolve(design, terms=tuple(terms))


def _position(design: Design, key: Any) -> int:
    matches = [k for k, term in enumerate(design.terms) if key in _keys(design, k, term)]
    if len(matches) == 1:
        return matches[0]
    if not matches and isinstance(key, str) and "|" in key and design.formula is not None:
        try:
            (wanted,) = parse_formula(f"y ~ ({key.strip().strip('()')})").random
        except (FormulaError, ValueError):
            wanted = None
        for k, bar in enumerate(design.formula.random):
            if wanted and (bar.effects, bar.factors) == (wanted.effects, wanted.factors):
                return k
    known = [_keys(design, k, term)[-1] for k, term in enumerate(design.terms)]
    which = "which names several terms" if matches else "which is no random term"
    raise ArgumentError(
        f"covariance: expected a grouping factor or a term, one of {', '.join(map(repr, known))}, "
        f"got {key!r}, {which}"
    )


def _keys(design: Design, k: int, term: RandomTerm) -> tuple[str, str]:
    bar = None if design.formula is None else design.formula.random[k]
    effects = " + ".join(term.names) if bar is None else bar.effects
    return term.group, f"{effects} | {term.group}"
