"""Walk along profile likelihoods, outwards from the estimates, all parameters side by side.

At a value v of one parameter let l(v) be the maximum of the log-likelihood over the others, and

    zeta(v) = sign(v - estimate) sqrt(2 (l_max - l(v))),

which is close to a straight line, and is standard normal in large samples.
"""

from collections.abc import Callable

import attrs
import numpy as np

from lmmkit.errors import LmmkitError
from lmmkit.inference.curve_points import CurvePoint, Side, Terrain, tried_points
from lmmkit.inference.lanes import lanes
from lmmkit.inference.refits import estimates
from lmmkit.inference.targets import Target
from lmmkit.inference.units import natural_unit
from lmmkit.records import FloatArray

_ROUNDS = 200
_END = 1e-4
_FAR_OUT = 1e2
_LEVEL = 1e-3
_FARTHEST = 1e2


@attrs.frozen(eq=False)
class _Walker:
    """A side that is flat until a multiple of the distance ``far`` from the estimate ends there."""

    side: Side
    step: float
    far: float
    done: bool


def walk(
    ground: Terrain,
    wanted: tuple[Target, ...],
    cutoff: float,
    n_steps: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Side, ...]:
    """Both sides of each target, in steps of about ``cutoff / n_steps`` of zeta.

    A side ends at the first point with ``zeta >= cutoff``, at the bound of the legal values, or so
    far away that a log-likelihood which has not fallen until then does not fall.
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
        tried = tried_points(ground, sides, values, starts)
        for i, (point, fault) in zip(active, tried, strict=True):
            walkers[i] = _advance(walkers[i], point, fault, jump, cutoff)
        if progress is not None:
            progress(sum(walker.done for walker in walkers), len(walkers))
    return tuple(walker.side for walker in walkers)


def _start(ground: Terrain, target: Target, sign: int, jump: float) -> _Walker:
    fit, space = ground.fit, ground.space
    here = [(target, target.estimate)]
    x = estimates(fit) if space is None else lanes(fit, space, here).x[0]
    side = Side(target, sign, (CurvePoint(target.estimate, fit.loglik, 0.0, x),))
    unit, step = natural_unit(fit, target), jump * target.std_error
    if not np.isfinite(step) or step == 0.0:
        step = 0.1 * unit
    far = step
    if target.kind != "fixed":
        step, far = min(step, max(abs(target.estimate), unit)), unit
    return _Walker(side, step, _FAR_OUT * far, target.estimate == side.bound)


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


def _advance(
    walker: _Walker, point: CurvePoint, fault: LmmkitError | None, jump: float, cutoff: float
) -> _Walker:
    side = walker.side
    moved = point.zeta - side.points[-1].zeta
    away = abs(point.value - side.points[0].value)
    if fault is not None:
        # far away, a log-likelihood that arithmetic cannot hold any more has not fallen
        if away < walker.far or point.zeta >= cutoff:
            raise fault
        return attrs.evolve(walker, done=True)
    if np.isinf(moved) and away >= walker.far and side.points[-1].zeta < 0.5 * cutoff:
        return attrs.evolve(walker, done=True)
    if np.isinf(moved):
        step = abs(point.value - side.points[-1].value)
        if step > _END * away:
            return attrs.evolve(walker, step=0.3 * step)
        return attrs.evolve(walker, side=attrs.evolve(side, end=side.points[-1].value), done=True)
    tiny = 1e-10 * max(abs(point.value), abs(side.points[-1].value))
    if moved > 2.0 * jump and walker.step > tiny:
        return attrs.evolve(walker, step=walker.step * max(0.1, jump / moved))
    side = attrs.evolve(side, points=(*side.points, point))
    length = abs(point.value - side.points[-2].value)
    most = 3.0 if moved > _LEVEL * jump else 10.0
    growth = min(most, jump / moved) if moved > 0 else most
    done = point.zeta >= cutoff or point.value == side.bound or away >= _FARTHEST * walker.far
    return attrs.evolve(walker, side=side, step=length * max(growth, 0.2), done=done)
