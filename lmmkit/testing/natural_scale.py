"""Whether what a covariance structure reports follows from theta as it has to."""

import itertools

import numpy as np

from lmmkit.errors import ConformanceError
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.records import FloatArray, adopt
from lmmkit.structures.contract import Kind, natural

_ROUNDING = 1e-9
_SIGNS = 6
_SHORT = 1e-9
_ZERO = 1e-6
_JUMP = 1e-4


def check_bounds(term: StructuredTerm, theta: FloatArray) -> None:
    """As many values as parameters, each where its kind lies."""
    values = natural(term.structure, theta, term.q)
    if values.shape != (term.n,):
        raise ConformanceError(
            f"{term.name}: natural has to give {term.n} numbers, but gives {values!r}"
        )
    for x, value in zip(term.quantities, values.tolist(), strict=True):
        low, high = x.kind.bounds
        inside = np.isfinite(value) if x.kind is Kind.SD else low <= value <= high
        if not inside:
            raise ConformanceError(
                f"{term.name}: {x.name} is {value:.6g} at theta = {np.round(theta, 4)}, but a "
                f"parameter of the kind {x.kind.name} lies between {low:g} and {high:g}"
            )


def check_canonical(term: StructuredTerm, theta: FloatArray) -> None:
    """The same covariance, and again itself, whatever the signs of theta."""
    for signs in itertools.product((1.0, -1.0), repeat=min(term.n, _SIGNS)):
        turned = adopt(theta * np.resize(signs, term.n))
        other = term.canonical(turned)
        at = f"canonical at theta = {np.round(turned, 4)}"
        if other.shape != (term.n,) or not np.array_equal(other, term.canonical(adopt(other))):
            raise ConformanceError(
                f"{term.name}: {at} has to give {term.n} numbers, and these again of themselves, "
                f"but gives {other!r}"
            )
        gap = np.abs(term.covariance(other) - term.covariance(turned)).max()
        if not gap <= _ROUNDING * np.abs(term.covariance(turned)).max():
            raise ConformanceError(f"{term.name}: {at} has another covariance, {gap:.3g} away")


def check_smooth(term: StructuredTerm, theta: FloatArray) -> None:
    """No jump where an element of theta changes its sign, unless a standard deviation is 0 there.

    Standard errors take the slopes of natural.
    """
    sizes = np.array([x.kind in (Kind.SD, Kind.SHAPE) for x in term.quantities])
    for i in range(term.n):
        at = theta * (np.arange(term.n) != i)
        shift = _SHORT * np.eye(term.n)[i]
        ahead, behind = (natural(term.structure, at + s * shift, term.q) for s in (1.0, -1.0))
        bound = (np.abs(ahead[sizes]) < _ZERO).any()
        if not bound and np.abs(ahead - behind).max() > _JUMP:
            raise ConformanceError(
                f"{term.name}: natural is not smooth near theta = {np.round(at, 4)}, by its "
                f"element {i}; a choice of signs belongs in canonical"
            )
