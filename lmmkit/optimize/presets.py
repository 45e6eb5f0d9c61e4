"""Named strategies: each is a call of combinators."""

from lmmkit.optimize.combine import chain
from lmmkit.optimize.em import em
from lmmkit.optimize.gradient import conjugate_gradient, steepest_descent
from lmmkit.optimize.metrics import newton
from lmmkit.optimize.step import Step


def default_strategy() -> Step:
    """One EM step, then Newton's method with Fisher scoring wherever the Hessian is indefinite."""
    return chain(em(1), steepest_descent(metric=newton))


def seed_strategy() -> Step:
    """The seed system's: a few EM steps, a few of steepest descent, then conjugate gradient."""
    return chain(em(10), steepest_descent(10), conjugate_gradient())
