"""The likelihood: elimination of groups, derivatives, and the objective made of them."""

from lmmkit.likelihood.hold import hold
from lmmkit.likelihood.impose import impose
from lmmkit.likelihood.objective import Objective, ml, reml
from lmmkit.likelihood.pieces import Criterion
from lmmkit.likelihood.relations import LinearConstraint, linear, relate, tie

__all__ = [
    "Criterion",
    "LinearConstraint",
    "Objective",
    "hold",
    "impose",
    "linear",
    "ml",
    "relate",
    "reml",
    "tie",
]
