"""Functions of a fit: tables and small records."""

from lmmkit.inference.components import variance_components
from lmmkit.inference.confidence_intervals import confidence_intervals
from lmmkit.inference.criteria import glance, information_criteria
from lmmkit.inference.fixed import fixed_covariance, fixed_effects
from lmmkit.inference.likelihood_ratio import likelihood_ratio_test
from lmmkit.inference.modes import random_effects, random_effects_covariance
from lmmkit.inference.parameters import parameter_covariance, parameters
from lmmkit.inference.predict import predict
from lmmkit.inference.profile import profile
from lmmkit.inference.residual_parameters import residual_parameters
from lmmkit.inference.residuals import residuals
from lmmkit.inference.simulate import simulate
from lmmkit.inference.summary import Summary, summary
from lmmkit.inference.wald import wald_test
from lmmkit.likelihood.reported import Parameter

__all__ = [
    "Parameter",
    "Summary",
    "confidence_intervals",
    "fixed_covariance",
    "fixed_effects",
    "glance",
    "information_criteria",
    "likelihood_ratio_test",
    "parameter_covariance",
    "parameters",
    "predict",
    "profile",
    "random_effects",
    "random_effects_covariance",
    "residual_parameters",
    "residuals",
    "simulate",
    "summary",
    "variance_components",
    "wald_test",
]
