"""Points of profile likelihoods: one parameter held, the maximum over the others found."""

import attrs
import numpy as np

from lmmkit.errors import ArgumentError, LmmkitError, StrategyError
from lmmkit.fit import Fit
from lmmkit.inference.lane_maximum import LaneMaxima, maximize_lanes
from lmmkit.inference.lanes import Geometry, Lanes, geometry, lanes
from lmmkit.inference.refits import estimates, refit
from lmmkit.inference.targets import Target, targets
from lmmkit.records import FloatArray

_FAR = 1e-2
_NEARLY_ZERO = 1e-2
_BETTER = 1e-3
_MORE_STARTS = 4
_MORE_STARTS_OF_SEVERAL = 1
_GAIN = 1e-7


@attrs.frozen(eq=False)
class CurvePoint:
    """One value of one parameter: ``zeta >= 0`` in the direction of the walk, the lane's x."""

    value: float
    loglik: float
    zeta: float
    x: FloatArray


@attrs.frozen(eq=False)
class Side:
    """The part of a profile on one side (1 or -1) of the estimate, which is the first point.

    ``end`` is where a covariance structure ends, where that is before the bound.
    """

    target: Target
    sign: int
    points: tuple[CurvePoint, ...]
    end: float | None = None

    @property
    def bound(self) -> float:
        """Where legal values end on this side."""
        if self.end is not None:
            return self.end
        return self.target.upper if self.sign > 0 else self.target.lower


@attrs.frozen(eq=False)
class Terrain:
    """What all profiles of a fit share.

    ``space`` is None where parameters are held or related, or covariances or residuals have a
    structure: then every point is a fit of its own.
    ``floors`` holds, by a correlation's packed index, the best log-likelihood with one of its two
    standard deviations at zero: there every correlation is as good, so that none has less.
    """

    fit: Fit
    space: Geometry | None
    floors: dict[int, float]


def terrain(fit: Fit, wanted: tuple[Target, ...]) -> Terrain:
    """The terrain of ``fit`` for the profiles of ``wanted``."""
    plain = not (fit.objective.held or fit.objective.structures) and fit.residual is None
    space = geometry(fit) if plain else None
    pairs = {t.parameter.index: t.parameter.variances for t in wanted if t.parameter.variances}
    variances = sorted({index for pair in pairs.values() for index in pair})
    if not variances:
        return Terrain(fit, space, {})
    every = {t.parameter.index: t for t in targets(fit)}
    zeros = [(every[index], 0.0) for index in variances]
    if space is None:
        start = estimates(fit)
        logliks = [refit(fit, target, value, start, start)[1] for target, value in zeros]
    else:
        held = lanes(fit, space, zeros)
        logliks = _highest(fit, space, held, held.x).loglik.tolist()
    without = dict(zip(variances, logliks, strict=True))
    floors = {index: max(without[i] for i in pair) for index, pair in pairs.items()}
    return Terrain(fit, space, floors)


def evaluate(
    ground: Terrain,
    sides: list[Side],
    values: list[float],
    starts: list[FloatArray],
    others: list[FloatArray],
) -> list[CurvePoint]:
    """One point of each side, from a start for the rest, and from another around singular fits.

    Raises
    ------
    StrategyError
        Where the maximum over the rest is not found.
    ArgumentError
        Where it is above that of the fit.
    """
    points = []
    for point, fault in tried_points(ground, sides, values, starts, others):
        if fault is not None:
            raise fault
        points.append(point)
    return points


def tried_points(
    ground: Terrain,
    sides: list[Side],
    values: list[float],
    starts: list[FloatArray],
    others: list[FloatArray] | None = None,
) -> list[tuple[CurvePoint, LmmkitError | None]]:
    """The points, and what is wrong with each; around singular fits from random starts too.

    With ``others`` from these instead.
    """
    fit = ground.fit
    tried: list[tuple[CurvePoint, LmmkitError | None]] = []
    found = _maxima(ground, sides, values, starts, others)
    for i, (side, value) in enumerate(zip(sides, values, strict=True)):
        loglik, distance = float(found.loglik[i]), float(found.distance[i])
        loglik = max(loglik, ground.floors.get(side.target.parameter.index, -np.inf))
        loss = fit.loglik - loglik
        zeta = float(np.sqrt(2.0 * max(loss, 0.0)))
        fault: LmmkitError | None = None
        # the maximum is not above that of the fit, so that a zeta of nearly zero is known
        if distance > _FAR and zeta > _NEARLY_ZERO:
            fault = StrategyError(
                f"profile: at {side.target} = {value} the maximum over the other parameters was "
                f"not found; the last step was {distance:.2g} standard errors"
            )
        elif loss < -_BETTER:
            fault = ArgumentError(
                f"profile: at {side.target} = {value} the log-likelihood is {-loss:.3g} higher "
                "than that of the fit, which is not at its maximum; fit with another strategy"
            )
        tried.append((CurvePoint(value, loglik, zeta, found.x[i]), fault))
    return tried


def _maxima(
    ground: Terrain,
    sides: list[Side],
    values: list[float],
    starts: list[FloatArray],
    others: list[FloatArray] | None,
) -> LaneMaxima:
    pairs = [(side.target, value) for side, value in zip(sides, values, strict=True)]
    if ground.space is not None:
        held = lanes(ground.fit, ground.space, pairs)
        more = None if others is None else np.stack(others)
        return _highest(ground.fit, ground.space, held, np.stack(starts), more)
    before = [side.points[-1].x for side in sides]
    each = [
        refit(ground.fit, *pair, *ends)
        for pair, ends in zip(pairs, zip(starts, others or before, strict=True), strict=True)
    ]
    x, loglik, distance = zip(*each, strict=True)
    reached = np.array(distance) <= _FAR
    return LaneMaxima(
        np.stack(x), np.where(reached, loglik, -np.inf), np.zeros(len(x)), reached.astype(float)
    )


def _highest(
    fit: Fit, space: Geometry, held: Lanes, start: FloatArray, other: FloatArray | None = None
) -> LaneMaxima:
    """The maxima near ``start``; around a singular fit, the highest ones of several starts.

    There the likelihood of the rest has local maxima, on different sides of the boundary: with
    correlations of 1 and -1. The further starts are ``other``, or random; with several grouping
    factors lanes are evaluated one by one, so that there are fewer of these.
    """
    best = maximize_lanes(fit.objective, held, space.sigma, start)
    if not fit.certificate.singular or max(fit.objective.sizes, default=0) < 2:
        return best
    generator = np.random.default_rng(0)
    more = _MORE_STARTS if fit.objective.system.one_factor else _MORE_STARTS_OF_SEVERAL
    moved = [held.x + 0.5 * generator.normal(size=start.shape) for _ in range(more)]
    for x in moved if other is None else [other]:
        found = maximize_lanes(fit.objective, held, space.sigma, x)
        higher = (found.loglik > best.loglik + _GAIN) & (found.converged == 1)
        best = LaneMaxima(
            x=np.where(higher[:, None], found.x, best.x),
            loglik=np.where(higher, found.loglik, best.loglik),
            distance=np.where(higher, found.distance, best.distance),
            converged=np.where(higher, 1.0, best.converged),
        )
    return best
