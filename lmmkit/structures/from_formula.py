"""The structures' names in formulas: ``ar1(0 + t | g, hom=False)``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmmkit.errors import FormulaError, ParameterError
from lmmkit.structures.contract import CovarianceStructure
from lmmkit.structures.correlations import AR1, CompoundSymmetry, Toeplitz
from lmmkit.structures.diagonal import Diagonal, Identity
from lmmkit.structures.factor_analytic import FactorAnalytic, ReducedRank
from lmmkit.structures.scaled import Correlation, Heterogeneous, Homogeneous
from lmmkit.structures.spatial import Exponential, Gaussian, Matern
from lmmkit.structures.unstructured import Unstructured


def _of(correlation: Callable[[], Correlation], homogeneous: bool) -> Callable[..., Any]:
    def make(hom: bool = homogeneous) -> CovarianceStructure:
        return Homogeneous(correlation()) if _flag(hom) else Heterogeneous(correlation())

    return make


def _diagonal(homogeneous: bool) -> Callable[..., Any]:
    return lambda hom=homogeneous: Identity() if _flag(hom) else Diagonal()


def _flag(hom: Any) -> bool:
    if not isinstance(hom, bool):
        raise ParameterError(f"hom: expected True or False, got {hom!r}")
    return hom


def _matern(smoothness: float | None = None) -> CovarianceStructure:
    return Homogeneous(Matern(smoothness))


IN_FORMULAS: dict[str, Callable[..., CovarianceStructure]] = {
    "us": Unstructured,
    "diag": _diagonal(False),
    "homdiag": _diagonal(True),
    "cs": _of(CompoundSymmetry, False),
    "homcs": _of(CompoundSymmetry, True),
    "ar1": _of(AR1, True),
    "hetar1": _of(AR1, False),
    "toep": _of(Toeplitz, False),
    "homtoep": _of(Toeplitz, True),
    "exp": _of(Exponential, True),
    "gau": _of(Gaussian, True),
    "mat": _matern,
    "fa": FactorAnalytic,
    "rr": ReducedRank,
}


def structure_in_formula(
    text: str, name: str, arguments: Sequence[Any], options: Mapping[str, Any]
) -> CovarianceStructure:
    """The structure that a formula calls ``name``.

    Raises
    ------
    FormulaError
        For an unknown name, or arguments that the structure does not take.
    """
    if name not in IN_FORMULAS:
        raise FormulaError(
            f"{text!r}: {name} is no covariance structure of formulas; expected one of "
            f"{', '.join(IN_FORMULAS)}, or your own passed with covariance=; an unstructured "
            "random term needs an operator before its parenthesis: 'x + (1 | g)'"
        )
    try:
        given = inspect.signature(IN_FORMULAS[name]).bind(*arguments, **options)
    except TypeError as error:
        known = ", ".join(inspect.signature(IN_FORMULAS[name]).parameters) or "nothing"
        raise FormulaError(f"{text!r}: {name} takes {known} after its term: {error}") from None
    try:
        return IN_FORMULAS[name](*given.args, **given.kwargs)
    except ParameterError as error:
        raise FormulaError(f"{text!r}: {error}") from None
