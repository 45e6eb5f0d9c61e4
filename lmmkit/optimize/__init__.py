"""Strategies: steps, combinators, presets, and the loop that runs them."""

from lmmkit.optimize.certificate import Certificate
from lmmkit.optimize.combine import best_so_far, chain, fallback, repeat, until
from lmmkit.optimize.em import em
from lmmkit.optimize.gradient import conjugate_gradient, gradient_step, steepest_descent
from lmmkit.optimize.line_search import armijo, fixed, strong_wolfe
from lmmkit.optimize.metrics import euclidean, fisher, newton
from lmmkit.optimize.presets import default_strategy, seed_strategy
from lmmkit.optimize.run import Optimum, maximize
from lmmkit.optimize.scipy_step import scipy_step
from lmmkit.optimize.scoring import variance_scoring
from lmmkit.optimize.step import Report, Status, Step

__all__ = [
    "Certificate",
    "Optimum",
    "Report",
    "Status",
    "Step",
    "armijo",
    "best_so_far",
    "chain",
    "conjugate_gradient",
    "default_strategy",
    "em",
    "euclidean",
    "fallback",
    "fisher",
    "fixed",
    "gradient_step",
    "maximize",
    "newton",
    "repeat",
    "scipy_step",
    "seed_strategy",
    "steepest_descent",
    "strong_wolfe",
    "until",
    "variance_scoring",
]
