"""How large a step of a parameter is: a length for each, in its own units."""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.targets import Target
from lmmkit.parameters.packing import triangle_size


def natural_unit(fit: Fit, target: Target) -> float:
    """A length for ``target`` that says how far is far, in its own units.

    Of a standard deviation, that which contributes to the response about as much as there would be
    residual without random effects.
    """
    none = np.zeros((sum(fit.objective.sizes),) * 2)
    rss = float(fit.objective.locate(none, None, np.ones(())).point.rss)
    sigma = float(np.sqrt(rss / fit.objective.degrees_of_freedom))
    if target.kind in ("fixed", "sigma"):
        return sigma
    if target.kind == "cor":
        return 1.0
    if target.kind in ("sd", "loading"):
        return sigma / _length(fit, target.parameter.index)
    return abs(target.estimate) or 1.0


def _length(fit: Fit, index: int) -> float:
    """Of the effect that packed parameter ``index`` is about, in standard coordinates.

    Of a covariance structure, the mean over its effects.
    """
    basis = fit.objective.moments.basis
    start = len(basis.x)
    for c, term in zip(basis.z, fit.objective.terms, strict=True):
        present = np.flatnonzero((c != 0).any(axis=1))
        lengths = np.linalg.norm(np.linalg.inv(c[present]), axis=0)
        n = triangle_size(len(c)) if term is None else term.n
        if index < start + n and term is not None:
            return float(lengths.mean())
        if index < start + n:
            return float(lengths[[i * (i + 3) // 2 for i in present.tolist()].index(index - start)])
        start += n
    raise AssertionError("every parameter belongs to a term")
