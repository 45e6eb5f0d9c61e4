"""Whether the covariances of a fit are among those that another fit's structures allow."""

import numpy as np

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.nesting import same_factor, spans
from lmmkit.records import FloatArray

_OUTSIDE = 1e-2


def check_structures(small: Fit, large: Fit, pair: str) -> None:
    """Refuse a larger model whose covariance structure cannot be the smaller one's estimate.

    Raises
    ------
    ArgumentError
    """
    for term, design in zip(large.objective.structures, large.design.terms, strict=False):
        if term is None:
            continue
        psi: FloatArray = np.zeros((design.q, design.q))
        for other, covariance in zip(small.design.terms, small.natural.psi, strict=True):
            if same_factor(other, design) and spans(design.Z, other.Z):
                across = np.linalg.lstsq(design.Z, other.Z, rcond=None)[0]
                psi = psi + across @ covariance @ across.T
        psi = psi / float(small.natural.sigma2)
        if psi.any() and term.misfit(psi, term.nearest(psi)) > _OUTSIDE:
            raise ArgumentError(
                f"{pair} are not nested: {term.name} on {design.group!r} in the second holds no "
                "covariance like that which the first estimates"
            )
