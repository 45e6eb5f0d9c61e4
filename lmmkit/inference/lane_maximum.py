"""Maximize the log-likelihood in every lane at once, by Newton's method."""

import attrs
import numpy as np
from numpy.typing import NDArray

from lmmkit.inference.lanes import Lanes
from lmmkit.likelihood import derivatives
from lmmkit.likelihood.objective import Objective
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, float_array, record

_CLOSE = 1e-6
_FLAT = 1e-10
_SHORTEST = 1e-9
_WORK = 4_000_000


@record
class LaneMaxima:
    """Maxima of L lanes.

    Attributes
    ----------
    x : ndarray (L, n + 1)
    loglik : ndarray (L,)
        Minus infinity where a lane has no place.
    distance : ndarray (L,)
        Length of the last Newton step, in standard errors.
    converged : ndarray (L,)
        1 where the distance is negligible.
    """

    x: FloatArray = float_array(2)
    loglik: FloatArray = float_array(1, finite=False)
    distance: FloatArray = float_array(1, finite=False)
    converged: FloatArray = float_array(1)


@attrs.frozen(eq=False)
class LanePlace:
    """Log-likelihood (L,), its gradient (L, n + 1) and Hessian (L, n + 1, n + 1) by x."""

    loglik: FloatArray
    gradient: FloatArray
    hessian: FloatArray


def maximize_lanes(
    objective: Objective,
    lanes: Lanes,
    sigma: float,
    start: FloatArray,
    max_iterations: int = 100,
) -> LaneMaxima:
    """The maximum of each lane near ``start`` (L, n + 1); sigma is where tau is 0."""
    step = len(start)
    if objective.system.one_factor:
        patterns = objective.system.first
        width = patterns.inside.shape[-1] * patterns.inside.shape[-2] * sum(objective.sizes)
        step = max(1, _WORK // max(1, width))
    pieces = [
        _maximize(objective, _some(lanes, piece), sigma, start[piece], max_iterations)
        for piece in np.array_split(np.arange(len(start)), -(-len(start) // step))
    ]
    fields = ("x", "loglik", "distance", "converged")
    return LaneMaxima(*(np.concatenate([getattr(p, name) for p in pieces]) for name in fields))


def _maximize(
    objective: Objective, lanes: Lanes, sigma: float, start: FloatArray, max_iterations: int
) -> LaneMaxima:
    x = np.where(np.abs(start) < lanes.least, lanes.least, start)
    x = np.where(lanes.positive == 1, np.maximum(x, 0.0), x)
    x = np.where(lanes.frozen == 1, lanes.x, x)
    place = evaluate_lanes(objective, lanes, sigma, x)
    loglik, distance = place.loglik.copy(), np.full(len(x), np.inf)
    converged = np.zeros(len(x))
    active = np.arange(len(x))
    step, slope = _newton(lanes, x, place)
    length = _cap(step, x)
    for _ in range(max_iterations):
        distance[active] = np.sqrt(np.maximum(slope, 0.0))
        close = distance[active] <= _CLOSE
        converged[active[close]] = 1.0
        moving = ~close & (length > _SHORTEST)
        active, length = active[moving], length[moving]
        step, slope = step[moving], slope[moving]
        if not len(active):
            break
        some = _some(lanes, active)
        trial = x[active] + length[:, None] * step
        trial = np.where(some.positive == 1, np.maximum(trial, 0.0), trial)
        place = evaluate_lanes(objective, some, sigma, trial)
        rise = place.loglik - loglik[active]
        noise = 1e-13 * (1.0 + np.abs(loglik[active]))
        better = rise > np.where(slope < 1e-6, -noise, 1e-4 * length * slope)
        taken = active[better]
        x[taken], loglik[taken] = trial[better], place.loglik[better]
        new_step, new_slope = _newton(some, trial, place)
        step = np.where(better[:, None], new_step, step)
        slope = np.where(better, new_slope, slope)
        length = np.where(better, _cap(step, trial), 0.3 * length)
    return LaneMaxima(x, loglik, distance, converged)


def _some(lanes: Lanes, chosen: NDArray[np.intp]) -> Lanes:
    if len(chosen) == len(lanes.b):
        return lanes
    names = ("base", "directions", "frozen", "positive", "least", "a", "b", "x")
    return Lanes(*(getattr(lanes, name)[chosen] for name in names))


def _cap(step: FloatArray, x: FloatArray) -> FloatArray:
    """The step length that keeps tau's change below 1 and the factor's below its own size."""
    tau = np.abs(step[:, -1])
    factor = np.abs(step[:, :-1]).max(axis=1, initial=0.0)
    size = 3.0 * (1.0 + np.abs(x[:, :-1]).max(axis=1, initial=0.0))
    return np.asarray(1.0 / np.maximum(1.0, np.maximum(tau, factor / size)))


def _newton(lanes: Lanes, x: FloatArray, place: LanePlace) -> tuple[FloatArray, FloatArray]:
    """A step of ascent that does not leave a bound, and its inner product with the gradient."""
    at_bound = (lanes.positive == 1) & (x <= 0)
    still = (lanes.frozen == 1) | (at_bound & (place.gradient < 0))
    step, slope = _ascent(place, still)
    leaving = at_bound & (step < 0)
    return _ascent(place, still | leaving) if leaving.any() else (step, slope)


def _ascent(place: LanePlace, still: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Directions flat beside the others, or in which a length of one changes nothing, stay."""
    gradient = np.where(still, 0.0, place.gradient)
    curvature = np.where(still[:, :, None] | still[:, None, :], 0.0, -place.hessian)
    values, vectors = np.linalg.eigh(curvature)
    values = np.abs(values)
    largest = values.max(axis=1, initial=1.0)[:, None]
    known = values > _FLAT * largest
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=known)
    along = np.einsum("lij,li->lj", vectors, gradient) * inverse
    step = np.where(still, 0.0, np.einsum("lij,lj->li", vectors, along))
    return step, (step * gradient).sum(axis=1)


def evaluate_lanes(objective: Objective, lanes: Lanes, sigma: float, x: FloatArray) -> LanePlace:
    """The log-likelihood of each lane with its first two derivatives by x, beta profiled out."""
    u, tau = x[:, :-1], x[:, -1]
    shrink, sigma2 = np.exp(-2.0 * tau), sigma**2 * np.exp(2.0 * tau)
    S = lanes.base + np.einsum("la,laij->lij", u, lanes.directions)
    rows, columns = _packed_entries(objective.sizes)
    D = S @ np.swapaxes(S, 1, 2) * shrink[:, None, None]
    delta = D[:, rows, columns]
    found = _relative(objective, lanes, D, sigma2)
    gradient, p = found.gradient, lanes.a.shape[1]
    inner = _beta_profiled(found.hessian, lanes.a)

    n = u.shape[1]
    products = lanes.directions @ np.swapaxes(S, 1, 2)[:, None]
    change = (products + np.swapaxes(products, 2, 3))[:, :, rows, columns] * shrink[:, None, None]
    across = np.zeros((len(x), n + 1, n + 1))
    across[:, :n, :n] = np.swapaxes(change, 1, 2)
    across[:, :n, n] = -2.0 * delta
    across[:, n, n] = 2.0 * sigma2
    by_delta, by_sigma2 = gradient[:, p:-1], gradient[:, -1]
    by_x = np.einsum("li,lij->lj", gradient[:, p:], across)
    second = np.swapaxes(across, 1, 2) @ inner @ across
    weight = np.zeros_like(S)
    weight[:, rows, columns] = by_delta * shrink[:, None]
    weight = weight + np.swapaxes(weight, 1, 2)
    second[:, :n, :n] += np.einsum(
        "laij,lbij->lab", lanes.directions, weight[:, None] @ lanes.directions
    )
    mixed = -2.0 * by_x[:, :n]
    second[:, :n, n] += mixed
    second[:, n, :n] += mixed
    second[:, n, n] += 4.0 * ((by_delta * delta).sum(axis=1) + by_sigma2 * sigma2)
    known = np.isfinite(found.loglik)
    return LanePlace(
        loglik=found.loglik,
        gradient=np.where(known[:, None], by_x, 0.0),
        hessian=np.where(known[:, None, None], second, 0.0),
    )


def _relative(objective: Objective, lanes: Lanes, D: FloatArray, sigma2: FloatArray) -> LanePlace:
    """The same by (beta, delta, sigma2); lane by lane where there are several grouping factors."""
    if objective.system.one_factor:
        return _derivatives(objective, lanes.a, lanes.b, D, sigma2)
    each = [_derivatives(objective, *at) for at in zip(lanes.a, lanes.b, D, sigma2, strict=True)]
    return LanePlace(
        loglik=np.array([place.loglik for place in each]),
        gradient=np.array([place.gradient for place in each]),
        hessian=np.array([place.hessian for place in each]),
    )


def _derivatives(
    objective: Objective, a: FloatArray, b: FloatArray, D: FloatArray, sigma2: FloatArray
) -> LanePlace:
    """At relative covariances D, with the best beta for which ``a'beta = b``.

    Where D is too large for a likelihood that is minus infinity, and the derivatives are not its.
    """
    located = objective.locate(D, None, sigma2)
    lost = ~np.isfinite(located.loglik)
    if lost.any():
        located = objective.locate(np.where(lost[..., None, None], 0.0, D), None, sigma2)
        D = located.D
    if a.any():
        solved = np.linalg.solve(located.point.C, a[..., None])[..., 0]
        scale = (a * solved).sum(axis=-1)
        gap = (a * located.point.beta).sum(axis=-1) - b
        pull = np.divide(gap, scale, out=np.zeros_like(gap), where=scale > 0)
        beta = located.point.beta - pull[..., None] * solved
        located = objective.locate(D, beta, sigma2)
    at = (objective.pieces(located), objective.degrees_of_freedom, objective.sizes)
    return LanePlace(
        loglik=np.where(lost, -np.inf, located.loglik),
        gradient=derivatives.gradient(*at),
        hessian=derivatives.hessian(*at).assembled(),
    )


def _beta_profiled(hessian: FloatArray, a: FloatArray) -> FloatArray:
    """The Hessian over (delta, sigma2) where beta is the best one with ``a'beta`` given."""
    p = a.shape[1]
    across = hessian[:, :p, p:]
    solved = np.linalg.solve(hessian[:, :p, :p], np.concatenate([across, a[..., None]], axis=2))
    inner = hessian[:, p:, p:] - np.swapaxes(across, 1, 2) @ solved[..., :-1]
    scale = (a * solved[..., -1]).sum(axis=1)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    held = np.einsum("lpi,lp->li", across, solved[..., -1])
    return np.asarray(inner + inverse[:, None, None] * held[:, :, None] * held[:, None, :])


def _packed_entries(sizes: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows = np.zeros(sum(map(triangle_size, sizes)), dtype=np.intp)
    columns = rows.copy()
    start = place = 0
    for size in sizes:
        block = slice(place, place + triangle_size(size))
        rows[block], columns[block] = (index + start for index in np.tril_indices(size))
        start, place = start + size, place + triangle_size(size)
    return rows, columns
