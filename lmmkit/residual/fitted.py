"""A fitted residual structure, and the search for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from lmmkit.likelihood.hold import hold
from lmmkit.likelihood.impose import impose
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.relations import LinearConstraint, relate
from lmmkit.optimize.run import Optimum
from lmmkit.optimize.step import Status
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, IntArray, adopt, evolve, float_array, record
from lmmkit.residual.acceleration import accelerated
from lmmkit.residual.expansion import expand
from lmmkit.residual.held import restrict
from lmmkit.residual.maximize import maximize_residual
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.profile import Differences, ObjectiveAt
from lmmkit.residual.restriction import Restriction, restriction
from lmmkit.residual.starts import further_starts, with_peaks

_ROUNDS = 50
_TURNS = 8
_AGREE = 1e-9


@record
class FittedResidual:
    """The residual structure of a fit, at its estimates.

    Attributes
    ----------
    model : ResidualModel
    theta : ndarray (k,)
        The free vector.
    restricted : bool
        Whether the fit is by REML.
    fixed : tuple of (name, value)
        Parameters that are held, see :func:`hold`, other than the structure's own.
    constraints : tuple of LinearConstraint
    restriction : Restriction
        What is held, tied or related of the structure's own parameters.
    """

    model: ResidualModel = attrs.field(validator=attrs.validators.instance_of(ResidualModel))
    theta: FloatArray = float_array(1)
    restricted: bool
    restriction: Restriction
    fixed: tuple[tuple[Any, Any], ...] = ()
    constraints: tuple[LinearConstraint, ...] = ()

    @property
    def free(self) -> IntArray:
        """The elements of theta that are estimated; the restriction gives the others."""
        return self.restriction.free

    def with_free(self, free: FloatArray) -> FloatArray | None:
        """Theta with these free elements; None where the restriction does not hold with them."""
        return self.restriction.complete(self.model.values, self.theta, free)

    def at_free(self, free: FloatArray) -> Objective | None:
        """:meth:`objective` at these free elements of theta."""
        theta = self.with_free(free)
        return None if theta is None else self.objective(theta)

    def centred(self, free: FloatArray) -> "FittedResidual":
        """The same in standard coordinates that follow the size of the variances at ``free``."""
        theta = self.with_free(free)
        if theta is None or not self._shifts:
            return self
        return evolve(self, model=self.model.centred(theta))

    @property
    def _shifts(self) -> bool:
        """Whether derivatives are differences, and variances may change all at once."""
        model = self.model
        held = self.fixed or self.constraints
        return bool(model.residual.variances) and not model.sums and not held

    def around(self, free: FloatArray) -> tuple[FloatArray, ObjectiveAt]:
        """:meth:`at_free` near ``free``, sigma being that of a row whose ``log g`` is the mean.

        A power of a large number changes all variances at once; with sigma held as well, only
        their ratios change. The first is the change (f,) of log sigma by the free elements.
        """
        theta = self.with_free(free)
        if theta is None or not self._shifts:
            return np.zeros(len(free)), self.at_free
        slope = self.model.mean_slope(theta) @ evolve(self, theta=theta).tangent()

        def at(moved: FloatArray) -> Objective | None:
            log_scale = adopt(self.model.log_scale + slope @ (moved - free))
            return evolve(self, model=evolve(self.model, log_scale=log_scale)).at_free(moved)

        return slope, at

    def tangent(self) -> FloatArray:
        """Derivatives (k, f) of theta by its free elements."""
        return self.restriction.tangent(self.model.values, self.theta)

    def turned(self) -> "FittedResidual | None":
        """The same with the dependent elements that are best here; None if they are those."""
        known = self.restriction
        best = restriction(self.model.values, self.theta[None], known.rows, known.right)
        same = best is None or np.array_equal(best.dependent, known.dependent)
        return None if best is None or same else evolve(self, restriction=best)

    def expand(self, objective: Objective, at: NaturalParams) -> Differences | None:
        """Exact derivatives by the free elements of theta, of a model of pattern sums.

        As of :func:`~lmmkit.residual.expansion.expand`; None where a model needs its rows.
        """
        if not self.model.sums:
            return None
        found = expand(self.model, self.theta, objective, at)
        if not len(self.restriction.rows):
            return found
        tangent, values = self.tangent(), self.model.values
        return Differences(
            gradient=found.gradient @ tangent,
            hessian=tangent.T @ found.hessian @ tangent
            + self.restriction.curvature(values, self.theta, found.gradient),
            across=tangent.T @ found.across,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the k parameters."""
        return tuple(parameter.name for parameter in self.model.parameters)

    @property
    def estimates(self) -> FloatArray:
        """The k parameters on the scale that people read."""
        return self.model.values(self.theta)

    def objective(self, theta: FloatArray) -> Objective | None:
        """The log-likelihood at theta; None where R is not positive definite."""
        found = self.model.objective(theta, restricted=self.restricted)
        if found is None:
            return None
        design = self.model.design
        found = impose(found, design)
        if self.fixed:
            found = hold(found, design, dict(self.fixed))
        return relate(found, design, self.constraints)


def maximize_with_residual(
    model: ResidualModel,
    inner: Callable[[Objective, SquareRootParams | None], Optimum],
    fitted: Callable[[Objective, Optimum], FloatArray],
    *,
    restricted: bool,
    fixed: Mapping[Any, Any] | None = None,
    constraints: Sequence[LinearConstraint] = (),
) -> tuple[FittedResidual, Objective, Optimum]:
    """Maximize over all parameters.

    Where a variance depends on the fitted values, these are held at their last values, and taken
    anew, with acceleration, until they change no more.

    Parameters
    ----------
    model : ResidualModel
    inner : callable (objective, start)
        Maximizes over the rest.
    fitted : callable (objective, optimum)
        The fitted values of the design's rows.
    restricted : bool
    fixed : mapping, optional
        Parameters held, see :func:`hold`; ``("Residual", name)`` is one of the structure's own.
    constraints : sequence of LinearConstraint
        Relations of covariance parameters.
    """
    parts = restrict(model, fixed, constraints)
    starts, several = parts.restriction.places(model.values, model.starts()), model.alternatives()
    current = FittedResidual(
        model=model,
        theta=starts[0],
        restricted=restricted,
        restriction=parts.restriction,
        fixed=tuple(parts.fixed.items()),
        constraints=parts.constraints,
    )
    if not model.residual.uses_fitted:
        peaks = _with_peaks(current, inner, starts, several)
        return _search(current, inner, peaks, further=True)
    first = current.objective(starts[0])
    assert first is not None, "structures start at a positive definite matrix"
    values = fitted(first, inner(first, None))
    seen: list[tuple[FloatArray, FloatArray]] = []
    every = starts
    for _ in range(_ROUNDS):
        current = evolve(current, model=model.with_fitted(values))
        if current.objective(starts[0]) is None:
            starts = every
        starts, several = _with_peaks(current, inner, starts, several), ()
        current, objective, optimum = _search(current, inner, starts, further=not seen)
        updated = fitted(objective, optimum)
        change = float(np.abs(updated - values).max() / np.abs(values).max())
        if change < _AGREE:
            return current, objective, optimum
        seen.append((values, updated))
        values, starts = accelerated(seen), current.theta[None]
    certificate = evolve(optimum.certificate, status=Status.OUT_OF_ITERATIONS, converged=False)
    return current, objective, evolve(optimum, certificate=certificate)


def _search(
    current: FittedResidual,
    inner: Callable[[Objective, SquareRootParams | None], Optimum],
    starts: FloatArray,
    *,
    further: bool,
) -> tuple[FittedResidual, Objective, Optimum]:
    """From several starts; where the restriction turns, by other free elements of theta."""
    found = _climb(current, inner, starts, further=further)
    for _ in range(_TURNS):
        turned = found[0].turned()
        if found[2].certificate.converged or turned is None:
            break
        again = _climb(turned, inner, turned.theta[None])
        found = max(found, again, key=lambda one: (one[2].loglik, one[2].certificate.converged))
        if found is not again:
            break
    return found


def _climb(
    current: FittedResidual,
    inner: Callable[[Objective, SquareRootParams | None], Optimum],
    starts: FloatArray,
    *,
    further: bool = False,
) -> tuple[FittedResidual, Objective, Optimum]:
    free = current.free

    def exact(objective: Objective, free: FloatArray, at: NaturalParams) -> Differences | None:
        theta = current.with_free(free)
        assert theta is not None, "the search stays where the restriction holds"
        return evolve(current, theta=theta).expand(objective, at)

    chosen = starts[:, free]
    elsewhere = further_starts(chosen, current.model.design.n_obs) if further else None
    found = maximize_residual(
        lambda free: current.centred(free).at_free(free),
        inner,
        chosen,
        exact,
        around=lambda free: current.centred(free).around(free)[1],
        further=elsewhere,
    )
    names = tuple(current.names[free[i]] for i in found.boundary)
    certificate = evolve(found.optimum.certificate, boundary=names)
    optimum = evolve(found.optimum, certificate=certificate)
    theta = current.with_free(found.theta)
    assert theta is not None, "the search stays where the restriction holds"
    return evolve(current.centred(found.theta), theta=theta), found.objective, optimum


def _with_peaks(
    current: FittedResidual,
    inner: Callable[[Objective, SquareRootParams | None], Optimum],
    starts: FloatArray,
    several: tuple[tuple[slice, FloatArray], ...],
) -> FloatArray:
    """Starts with the peaks of variance functions, where the restriction holds."""

    def at(theta: FloatArray) -> Objective | None:
        place = current.restriction.project(current.model.values, theta)
        return None if place is None else current.objective(place)

    every = with_peaks(at, inner, starts, several)
    return current.restriction.places(current.model.values, every)
