"""Cross-products: additive sums over rows, and their collapsed form."""

from lmmkit.moments.accumulate import cross_products
from lmmkit.moments.basis import Basis, standard_basis
from lmmkit.moments.collapse import Patterns, collapse
from lmmkit.moments.factors import FactorMoments, PairMoments
from lmmkit.moments.moments import Moments, empty_moments

__all__ = [
    "Basis",
    "FactorMoments",
    "Moments",
    "PairMoments",
    "Patterns",
    "collapse",
    "cross_products",
    "empty_moments",
    "standard_basis",
]
