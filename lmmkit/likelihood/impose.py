"""From a design's covariance structures to an objective that keeps to them."""

import numpy as np

from lmmkit.design.design import Design
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.records import evolve


def impose(objective: Objective, design: Design) -> Objective:
    """The objective with the covariance structures of the design's random terms.

    Parameters
    ----------
    objective : Objective
        Of the moments of this design.
    design : Design

    Returns
    -------
    Objective
        :func:`~lmmkit.maximize` moves over the structures' parameters. Its value and derivatives at
        parameter records stay those of any covariance.
    """
    if all(term.structure is None for term in design.terms):
        return objective
    structures = [
        None
        if term.structure is None
        else StructuredTerm(term.structure, term.names, np.linalg.inv(c))
        for term, c in zip(design.terms, objective.moments.basis.z, strict=True)
    ]
    return evolve(objective, structures=tuple(structures))
