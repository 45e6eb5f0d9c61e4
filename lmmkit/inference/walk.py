"""Walk along profile likelihoods, outwards from the estimates, all parameters side by side.

At a value v of one parameter let l(v) be the maximum of the log-likelihood over the others, and

    zeta(v) = sign(v - estimate) sqrt(2 (l_max - l(v))),

which is close to a straight line, and is standard normal in large samples.
"""

from collections.abc import Callable

import attrs
import numpy as np

from lmmkit.errors import ArgumentError, StrategyError, UnsupportedModelError
from lmmkit.fit import Fit
from lmmkit.inference.lane_maximum import LaneMaxima, maximize_lanes
from lmmkit.inference.lanes import Geometry, Lanes, geometry, lanes
from lmmkit.inference.refits import check_refits, estimates, refit
from lmmkit.inference.targets import Target, targets
from lmmkit.records import FloatArray

_ROUNDS = 200
_FAR = 1e-3
_BETTER = 1e-4
_MORE_STARTS = 4
_MORE_STARTS_OF_SEVERAL = 1
_GAIN = 1e-7
_END = 1e-4


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

    ``space`` is None where terms have covariance structures: then every point is a fit of its own.
    ``floors`` holds, by a correlation's packed index, the best log-likelihood with one of its two
    standard deviations at zero: there every correlation is as good, so that none has less.
    """

    fit: Fit
    space: Geometry | None
    floors: dict[int, float]


@attrs.frozen(eq=False)
class _Walker:
    side: Side
    step: float
    done: bool


def terrain(fit: Fit, wanted: tuple[Target, ...]) -> Terrain:
    """The terrain of ``fit`` for the profiles of ``wanted``.

    Raises
    ------
    UnsupportedModelError
        Where covariances, or variances other than zero, are held, or with a residual structure.
    """
    if fit.objective.held and not fit.objective.structures:
        raise UnsupportedModelError(
            "profiles of a fit with held covariances, or held variances other than zero, are not "
            "available; use method='wald', or leave these entries free"
        )
    if fit.residual is not None:
        raise UnsupportedModelError(
            "profiles of a fit with a residual structure are not available in this version; use "
            "method='wald'"
        )
    if fit.objective.structures:
        check_refits(wanted)
        return Terrain(fit, None, {})
    space = geometry(fit)
    pairs = {t.parameter.index: t.parameter.variances for t in wanted if t.parameter.variances}
    variances = sorted({index for pair in pairs.values() for index in pair})
    if not variances:
        return Terrain(fit, space, {})
    every = {target.parameter.index: target for target in targets(fit)}
    held = lanes(fit, space, [(every[index], 0.0) for index in variances])
    found = _highest(fit, space, held, held.x)
    without = dict(zip(variances, found.loglik.tolist(), strict=True))
    floors = {index: max(without[i] for i in pair) for index, pair in pairs.items()}
    return Terrain(fit, space, floors)


def walk(
    ground: Terrain,
    wanted: tuple[Target, ...],
    cutoff: float,
    n_steps: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Side, ...]:
    """Both sides of each target, in steps of about ``cutoff / n_steps`` of zeta.

    A side ends at the first point with ``zeta >= cutoff``, or at the bound of the legal values.
    """
    jump = cutoff / n_steps
    walkers = [_start(ground, t, sign, jump) for t in wanted for sign in (-1, 1)]
    for _ in range(_ROUNDS):
        active = [i for i, walker in enumerate(walkers) if not walker.done]
        if not active:
            break
        values = [_next_value(walkers[i]) for i in active]
        sides = [walkers[i].side for i in active]
        starts = [_ahead(side, value) for side, value in zip(sides, values, strict=True)]
        points = evaluate(ground, sides, values, starts)
        for i, point in zip(active, points, strict=True):
            walkers[i] = _advance(walkers[i], point, jump, cutoff)
        if progress is not None:
            progress(sum(walker.done for walker in walkers), len(walkers))
    return tuple(walker.side for walker in walkers)


def evaluate(
    ground: Terrain,
    sides: list[Side],
    values: list[float],
    starts: list[FloatArray],
) -> list[CurvePoint]:
    """One point of each side, from a start for the rest."""
    fit, points = ground.fit, []
    found = _maxima(ground, sides, values, starts)
    for i, (side, value) in enumerate(zip(sides, values, strict=True)):
        loglik, distance = float(found.loglik[i]), float(found.distance[i])
        if distance > _FAR:
            raise StrategyError(
                f"profile: at {side.target} = {value} the maximum over the other parameters was "
                f"not found; the last step was {distance:.2g} standard errors"
            )
        loglik = max(loglik, ground.floors.get(side.target.parameter.index, -np.inf))
        loss = fit.loglik - loglik
        if loss < -_BETTER:
            raise ArgumentError(
                f"profile: at {side.target} = {value} the log-likelihood is {-loss:.3g} higher "
                "than that of the fit, which is not at its maximum; fit with another strategy"
            )
        zeta = float(np.sqrt(2.0 * max(loss, 0.0)))
        points.append(CurvePoint(value, loglik, zeta, found.x[i]))
    return points


def _maxima(
    ground: Terrain, sides: list[Side], values: list[float], starts: list[FloatArray]
) -> LaneMaxima:
    pairs = [(side.target, value) for side, value in zip(sides, values, strict=True)]
    if ground.space is not None:
        held = lanes(ground.fit, ground.space, pairs)
        return _highest(ground.fit, ground.space, held, np.stack(starts))
    each = [refit(ground.fit, *pair, x) for pair, x in zip(pairs, starts, strict=True)]
    x, loglik, distance = zip(*each, strict=True)
    reached = np.array(distance) <= _FAR
    return LaneMaxima(
        np.stack(x), np.where(reached, loglik, -np.inf), np.zeros(len(x)), reached.astype(float)
    )


def _highest(fit: Fit, space: Geometry, held: Lanes, start: FloatArray) -> LaneMaxima:
    """The maxima near ``start``; around a singular fit, the highest ones of several starts.

    There the likelihood of the rest has local maxima, on different sides of the boundary. With
    several grouping factors lanes are evaluated one by one, so that there are fewer starts.
    """
    best = maximize_lanes(fit.objective, held, space.sigma, start)
    if not fit.certificate.singular:
        return best
    generator = np.random.default_rng(0)
    more = _MORE_STARTS if fit.objective.system.one_factor else _MORE_STARTS_OF_SEVERAL
    for _ in range(more):
        moved = held.x + 0.5 * generator.normal(size=start.shape)
        other = maximize_lanes(fit.objective, held, space.sigma, moved)
        higher = (other.loglik > best.loglik + _GAIN) & (other.converged == 1)
        best = LaneMaxima(
            x=np.where(higher[:, None], other.x, best.x),
            loglik=np.where(higher, other.loglik, best.loglik),
            distance=np.where(higher, other.distance, best.distance),
            converged=np.where(higher, 1.0, best.converged),
        )
    return best


def _start(ground: Terrain, target: Target, sign: int, jump: float) -> _Walker:
    fit, space = ground.fit, ground.space
    here = [(target, target.estimate)]
    x = estimates(fit) if space is None else lanes(fit, space, here).x[0]
    side = Side(target, sign, (CurvePoint(target.estimate, fit.loglik, 0.0, x),))
    step = jump * target.std_error
    if not np.isfinite(step) or step == 0.0:
        step = 0.1 * (abs(target.estimate) if space is None else _typical(space, target))
    return _Walker(side, step, target.estimate == side.bound)


def _typical(space: Geometry, target: Target) -> float:
    if target.kind == "cor":
        return 1.0
    if target.kind == "sd":
        return float(space.unit[space.effect[target.parameter.index]])
    return space.sigma


def _next_value(walker: _Walker) -> float:
    side = walker.side
    value = side.points[-1].value + side.sign * walker.step
    return side.sign * min(side.sign * value, side.sign * side.bound)


def _ahead(side: Side, value: float) -> FloatArray:
    """The rest's coordinates, extrapolated from the last two points."""
    last = side.points[-1]
    if len(side.points) < 2:
        return last.x
    before = side.points[-2]
    return interpolate(before, last, value)


def interpolate(a: CurvePoint, b: CurvePoint, value: float) -> FloatArray:
    """Coordinates on the straight line through those of two points."""
    return a.x + (b.x - a.x) * ((value - a.value) / (b.value - a.value))


def _advance(walker: _Walker, point: CurvePoint, jump: float, cutoff: float) -> _Walker:
    side = walker.side
    moved = point.zeta - side.points[-1].zeta
    if np.isinf(moved):
        step = abs(point.value - side.points[-1].value)
        if step > _END * abs(point.value - side.points[0].value):
            return _Walker(side, 0.3 * step, False)
        return _Walker(attrs.evolve(side, end=side.points[-1].value), step, True)
    tiny = 1e-10 * max(abs(point.value), abs(side.points[-1].value))
    if moved > 2.0 * jump and walker.step > tiny:
        return _Walker(side, walker.step * max(0.1, jump / moved), False)
    side = attrs.evolve(side, points=(*side.points, point))
    length = abs(point.value - side.points[-2].value)
    growth = min(3.0, jump / moved) if moved > 0 else 3.0
    return _Walker(
        side, length * max(growth, 0.2), point.zeta >= cutoff or point.value == side.bound
    )
