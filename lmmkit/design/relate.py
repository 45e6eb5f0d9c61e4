"""Relations between levels, given by the name of a grouping factor, applied to random terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lmmkit.design.design import RandomTerm
from lmmkit.design.frames import kind_of
from lmmkit.design.groups import match_levels
from lmmkit.design.relation import LevelCovariance
from lmmkit.errors import ArgumentError, DataError
from lmmkit.records import adopt, evolve


def check_relations(relations: Any, groups: Sequence[str]) -> Mapping[str, LevelCovariance]:
    """The relations, after refusing what is none and names that no random term has."""
    if relations is None:
        return {}
    if not isinstance(relations, Mapping):
        raise ArgumentError(
            "relations: expected a dictionary from names of grouping factors to known covariances, "
            f"got {type(relations).__name__}; write {{'group': level_covariance(K, levels)}}"
        )
    for name, relation in relations.items():
        if name not in groups:
            known = ", ".join(map(repr, dict.fromkeys(groups))) or "none"
            raise ArgumentError(
                f"relations: no random term has the grouping factor {name!r}; those of this model "
                f"are: {known}"
            )
        if not isinstance(relation, LevelCovariance):
            raise ArgumentError(
                f"relations[{name!r}]: expected level_covariance(K, levels), or "
                f"level_precision(inverse, levels), got {type(relation).__name__}"
            )
    return relations


def relate(
    terms: Sequence[RandomTerm], relations: Mapping[str, LevelCovariance]
) -> tuple[RandomTerm, ...]:
    """The terms with their relations: all levels of K in its order, those of the data matched."""
    return tuple(
        _related(term, relations[term.group]) if term.group in relations else term for term in terms
    )


def _related(term: RandomTerm, relation: LevelCovariance) -> RandomTerm:
    where = f"relations[{term.group!r}]"
    if term.relation is not None:
        raise ArgumentError(f"{where}: a random term on {term.group!r} has a relation already")
    kind, expected = kind_of(relation.levels.dtype), kind_of(term.levels.dtype)
    if kind != expected:
        raise DataError(
            f"{where}: its levels are {kind} ({relation.levels.dtype}), those of the data "
            f"{expected} ({term.levels.dtype}); cast one of them"
        )
    place = match_levels(term.levels, relation.levels)
    lacking = term.levels.filter(pl.Series(place < 0))
    if len(lacking):
        shown = ", ".join(map(repr, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
        raise DataError(
            f"{where}: it lacks {len(lacking)} of the {len(term.levels)} levels of the data: "
            f"{shown}; add them to the matrix, or leave their rows out"
        )
    levels = relation.levels.alias(term.levels.name)
    return evolve(term, codes=adopt(place[term.codes]), levels=levels, relation=relation)
