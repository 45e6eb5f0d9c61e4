"""Functions of a fit: tables and small records."""

from lmmkit.inference.parameters import Parameter, parameter_covariance, parameters

__all__ = [
    "Parameter",
    "parameter_covariance",
    "parameters",
]
