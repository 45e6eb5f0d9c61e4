"""Named strategies: each is a call of combinators."""

from lmmkit.optimize.combine import chain
from lmmkit.optimize.em import em
from lmmkit.optimize.gradient import conjugate_gradient, steepest_descent
from lmmkit.optimize.metrics import newton
from lmmkit.optimize.scoring import variance_scoring
from lmmkit.optimize.step import Step


def default_strategy() -> Step:
    """Two steps of scoring on the variances, then Newton's method on the factors."""
    return chain(variance_scoring(2), steepest_descent(metric=newton))


def crossed_strategy() -> Step:
    """As the default, with a step more of scoring: the Hessian is dear where factors are crossed."""
    return chain(variance_scoring(3, cuts=2), steepest_descent(metric=newton))


def seed_strategy() -> Step:
    """The seed system's: a few EM steps, a few of steepest descent, then conjugate gradient."""
    return chain(em(10), steepest_descent(10), conjugate_gradient())
