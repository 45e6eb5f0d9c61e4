"""Named strategies: each is a call of combinators."""

from lmmkit.likelihood.objective import Objective
from lmmkit.optimize.combine import chain
from lmmkit.optimize.em import em
from lmmkit.optimize.escape import escape_saddles
from lmmkit.optimize.gradient import conjugate_gradient, steepest_descent
from lmmkit.optimize.metrics import absolute, fisher, newton
from lmmkit.optimize.scoring import variance_scoring
from lmmkit.optimize.several_starts import several_starts
from lmmkit.optimize.step import Step


def default_strategy() -> Step:
    """Two steps of scoring on the variances, then Newton's method on the factors."""
    return chain(variance_scoring(2), steepest_descent(metric=newton))


def crossed_strategy() -> Step:
    """As the default with one more step of scoring, since crossed factors make Hessians dear."""
    return chain(variance_scoring(3, cuts=2), steepest_descent(metric=newton))


def structured_strategy() -> Step:
    """Newton's method on the structures' parameters, which leaves saddle points.

    From several starts where it ends at a singular covariance.
    """
    return several_starts(_newton_of_structures())


def crossed_structured_strategy() -> Step:
    """Fisher scoring on the structures' parameters first, and fewer starts: the Hessian is dear."""
    return several_starts(_scoring_of_structures(), more=1)


def _newton_of_structures() -> Step:
    return escape_saddles(steepest_descent(metric=absolute))


def _scoring_of_structures() -> Step:
    return chain(steepest_descent(10, metric=fisher), _newton_of_structures())


def seed_strategy() -> Step:
    """The seed system's: a few EM steps, a few of steepest descent, then conjugate gradient."""
    return chain(em(10), steepest_descent(10), conjugate_gradient())


def preset_for(objective: Objective, *, several: bool = True) -> Step:
    """What :func:`~lmmkit.maximize` uses by default; with one start only, if not ``several``."""
    if objective.system.one_factor:
        if not objective.structures:
            return default_strategy()
        return structured_strategy() if several else _newton_of_structures()
    if not objective.structures:
        return crossed_strategy()
    return crossed_structured_strategy() if several else _scoring_of_structures()
