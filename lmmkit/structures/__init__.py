"""Covariance structures of random effects, and the contract of one."""

from lmmkit.structures.composed import Blocks, Kronecker
from lmmkit.structures.contract import CovarianceStructure, Kind
from lmmkit.structures.correlations import AR1, CompoundSymmetry, Toeplitz
from lmmkit.structures.diagonal import Diagonal, Identity
from lmmkit.structures.factor_analytic import FactorAnalytic, ReducedRank
from lmmkit.structures.scaled import Correlation, Heterogeneous, Homogeneous
from lmmkit.structures.spatial import Exponential, Gaussian, Matern
from lmmkit.structures.unstructured import Unstructured

__all__ = [
    "AR1",
    "Blocks",
    "CompoundSymmetry",
    "Correlation",
    "CovarianceStructure",
    "Diagonal",
    "Exponential",
    "FactorAnalytic",
    "Gaussian",
    "Heterogeneous",
    "Homogeneous",
    "Identity",
    "Kind",
    "Kronecker",
    "Matern",
    "ReducedRank",
    "Toeplitz",
    "Unstructured",
]
