"""The parameters of a model by name, in the order of :meth:`NaturalParams.pack`."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from lmmkit.design.design import Design
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.records import record
from lmmkit.structures.contract import Kind as NaturalKind

Kind: TypeAlias = Literal["fixed", "variance", "covariance", "residual", "structure"]


@record
class Parameter:
    """One entry of the packed natural parameters.

    Attributes
    ----------
    index : int
        Its position.
    group : str or None
        The grouping factor; None for a fixed effect, ``"Residual"`` for the residual variance.
    term : str
        A column of X; an effect, ``"Intercept"``, for its variance; two of them,
        ``"Intercept, Time"``, for their covariance; ``"Residual"``. An effect that an earlier term
        on the same factor has too carries a suffix: ``"Intercept.1"``.
    kind : {"fixed", "variance", "covariance", "residual", "structure"}
    variances : (int, int) or None
        For a covariance, the positions of its two variances.
    natural : Kind or None
        What a parameter of a covariance structure is; its term is the structure's name for it.
    """

    index: int
    group: str | None
    term: str
    kind: Kind
    variances: tuple[int, int] | None = None
    natural: NaturalKind | None = None


def reported(
    design: Design, structures: tuple[StructuredTerm | None, ...]
) -> tuple[Parameter, ...]:
    """Fixed effects, each term's triangle or the parameters of its structure, sigma2."""
    order = _in_packed_order(design, structures)
    return tuple(Parameter(index, *rest) for index, rest in enumerate(order))


def effect_names(design: Design) -> tuple[tuple[str, ...], ...]:
    """Names of each random term's effects, no two the same on one grouping factor."""
    taken: set[tuple[str, str]] = set()
    return tuple(
        tuple(_untaken(term.group, name, taken) for name in term.names) for term in design.terms
    )


def _in_packed_order(
    design: Design, structures: tuple[StructuredTerm | None, ...]
) -> Iterator[tuple[str | None, str, Kind, tuple[int, int] | None, NaturalKind | None]]:
    for name in design.x_names:
        yield None, name, "fixed", None, None
    start = len(design.x_names)
    structures = structures or (None,) * len(design.terms)
    taken: set[tuple[str, str]] = set()
    for term, names, own in zip(design.terms, effect_names(design), structures, strict=True):
        if own is not None:
            for x in own.quantities:
                yield term.group, _untaken(term.group, x.name, taken), "structure", None, x.kind
            start += own.n
            continue
        variances = [start + i * (i + 3) // 2 for i in range(term.q)]
        for i in range(term.q):
            for j in range(i):
                pair = (variances[j], variances[i])
                yield term.group, f"{names[j]}, {names[i]}", "covariance", pair, None
            yield term.group, names[i], "variance", None, None
        start += term.q * (term.q + 1) // 2
    yield "Residual", "Residual", "residual", None, None


def _untaken(group: str, name: str, taken: set[tuple[str, str]]) -> str:
    unique, copy = name, 0
    while (group, unique) in taken:
        copy += 1
        unique = f"{name}.{copy}"
    taken.add((group, unique))
    return unique
