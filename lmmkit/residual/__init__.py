"""Residuals that are correlated inside groups and whose variances differ."""

from lmmkit.residual.autoregressive import ar1, car1
from lmmkit.residual.compound import compound_symmetry
from lmmkit.residual.custom import correlation_function
from lmmkit.residual.distance import (
    exponential,
    gaussian,
    matern,
    rational_quadratic,
    spherical,
)
from lmmkit.residual.fitted import FittedResidual
from lmmkit.residual.residual import Residual
from lmmkit.residual.stationary import arma, toeplitz
from lmmkit.residual.strata import by_stratum
from lmmkit.residual.unstructured import antedependence, unstructured
from lmmkit.residual.variances import (
    constant_plus_power,
    exponential_variance,
    per_stratum,
    power,
)

__all__ = [
    "FittedResidual",
    "Residual",
    "antedependence",
    "ar1",
    "arma",
    "by_stratum",
    "car1",
    "compound_symmetry",
    "constant_plus_power",
    "correlation_function",
    "exponential",
    "exponential_variance",
    "gaussian",
    "matern",
    "per_stratum",
    "power",
    "rational_quadratic",
    "spherical",
    "toeplitz",
    "unstructured",
]
