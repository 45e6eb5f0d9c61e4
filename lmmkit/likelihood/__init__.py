"""The likelihood: elimination of groups, derivatives, and the objective made of them."""

from lmmkit.likelihood.derivatives import Criterion
from lmmkit.likelihood.hold import hold
from lmmkit.likelihood.objective import Objective, ml, reml

__all__ = ["Criterion", "Objective", "hold", "ml", "reml"]
