"""Whether a model's covariances are among those of another, where residuals have a structure.

Decided by numbers: at the estimates of the smaller model, and at a typical place of its parameters,
the covariance of some rows has to be one that the larger model can have.
"""

from collections.abc import Callable

import numpy as np

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.covariance_family import Family, family
from lmmkit.inference.levels import mean, random_part
from lmmkit.inference.mixture import Mixture
from lmmkit.records import FloatArray, IntArray, record

_ROWS = 120
_OF_A_GROUP = 30
_REACHED = 1e-4
_STILL = 3e-3
_ZERO = 0.03
_AWAY = 0.5
_INWARD = 6.0
_CHANGED = 0.05
_FARTHEST = 25.0
_NOWHERE = 1e3
_EVALUATIONS = 200
_RANK = 1e-4


@record
class _Reached:
    """The nearest place of the larger family.

    ``misfit`` takes variables to what their covariances differ by; ``slopes`` are its derivatives
    (e, v) by all variables, zero where one may not move.
    """

    distance: float
    misfit: Callable[[FloatArray], FloatArray]
    x: FloatArray
    slopes: FloatArray


def reference_among_covariances(small: Fit, large: Fit, df: int, pair: str) -> Mixture:
    """The reference distribution, if the larger model can have the smaller one's covariances.

    Where one parameter of the larger model is at a bound there, it is the even mixture; where
    several are, or some make no difference, the plain chi-square stands for it.

    Raises
    ------
    ArgumentError
        If it cannot.
    """
    rows = _some_rows(small, large)
    fitted = mean(small, small.design.X, small.design.offset) + random_part(small)
    inner, outer = family(small, rows, fitted), family(large, rows, fitted)
    _reach(inner, outer, inner.start, pair)
    found = _reach(inner, outer, inner.typical(), pair)
    columns, n_bounds = _directions(outer, found)
    size = np.linalg.norm(columns, axis=0)
    regular = bool((size > _STILL).all())
    regular = regular and np.linalg.matrix_rank(columns / size, tol=_RANK) == len(size)
    if regular and n_bounds <= 1:
        return Mixture(((0.5, df - 1), (0.5, df)) if n_bounds else ((1.0, df),))
    return Mixture(((1.0, df),), exact=False)


def _directions(outer: Family, found: _Reached) -> tuple[FloatArray, int]:
    """How covariances change with each variable (e, v), and how many of these are at a bound.

    A variable at a bound has no slope; it moves the covariances on one side, or, of a factor's
    diagonal, on both. One that makes no difference has a column of zeros.
    """
    columns, n_bounds = [], 0
    sigma = float(np.exp(found.x[outer.n_inside - 1]))
    for i in np.flatnonzero(outer.free).tolist():
        column, diagonal = found.slopes[:, i], bool(outer.diagonal[i])
        unit = np.eye(len(found.x))[i]
        at_zero = diagonal and abs(found.x[i]) < _ZERO * sigma
        if at_zero or np.linalg.norm(column) < _STILL:
            length = _AWAY * sigma if diagonal else max(_INWARD, abs(found.x[i]))
            here = found.misfit(found.x)
            moved = [found.misfit(found.x + s * length * unit) - here for s in (-1.0, 1.0)]
            changes = [float(np.linalg.norm(each)) > _CHANGED for each in moved]
            n_bounds += at_zero or sum(changes) == 1
            column = moved[int(changes[1])]
        columns.append(column)
    return np.array(columns).T, n_bounds


def _some_rows(small: Fit, large: Fit) -> IntArray:
    """Rows of some groups, whole groups as far as these are small."""
    order, codes = _groups(large, small)
    sizes = np.bincount(codes)
    ends = np.cumsum(sizes)
    chosen: list[IntArray] = []
    for group in np.random.default_rng(0).permutation(len(sizes)).tolist():
        if sum(map(len, chosen)) >= _ROWS:
            break
        chosen.append(order[ends[group] - sizes[group] : ends[group]][:_OF_A_GROUP])
    return np.concatenate(chosen).astype(np.int32)


def _groups(*fits: Fit) -> tuple[IntArray, IntArray]:
    """The rows by residual groups, or else by levels of a random term; each one's group."""
    for fit in fits:
        if fit.residual is not None and fit.residual.model.residual.correlation is not None:
            model = fit.residual.model
            return model.order, model.rows.codes
    for fit in fits:
        if fit.design.terms:
            codes = fit.design.terms[0].codes
            codes = codes if codes.ndim == 1 else codes[:, 0]
            order = np.argsort(codes, kind="stable").astype(np.int32)
            return order, codes[order]
    every = np.arange(fits[0].design.n_obs, dtype=np.int32)
    return every, every


def _reach(inner: Family, outer: Family, at: FloatArray, pair: str) -> _Reached:
    """The place of the larger family where its covariance is that of the smaller one."""
    wanted = inner.covariance(at)
    if wanted is None:
        wanted = inner.covariance(inner.start)
    assert wanted is not None, "the smaller model has a covariance at its estimates"
    best: _Reached | None = None
    for start in _starts(inner, at, outer):
        found = _nearest(outer, start, wanted)
        if best is None or found.distance < best.distance:
            best = found
        if best.distance < _REACHED:
            return best
    raise ArgumentError(
        f"{pair} are not nested: among the covariances of the rows that the second allows there is "
        "none like those of the first; compare them by information_criteria"
    )


def _starts(inner: Family, at: FloatArray, outer: Family) -> list[FloatArray]:
    """Of the larger family: beside the smaller one's place, its estimates, and others."""
    typical = outer.typical()
    starts = [outer.start, typical]
    if outer.n_inside == inner.n_inside:
        starts = [np.append(at[: inner.n_inside], x[outer.n_inside :]) for x in starts] + starts
    if outer.structure is None:
        return starts
    model, known = outer.structure.model, outer.structure.restriction
    if inner.structure is not None:
        theta, same = np.array(outer.structure.theta), dict(inner.named(at))
        for i, name in enumerate(outer.structure.names):
            theta[i] = same.get(name, theta[i])
        places = known.places(model.values, theta[None])
        starts = [np.append(starts[0][: outer.n_inside], x[known.free]) for x in places] + starts
    others = known.places(model.values, model.starts())
    return starts + [np.append(typical[: outer.n_inside], x[known.free]) for x in others]


def _nearest(outer: Family, start: FloatArray, wanted: FloatArray) -> _Reached:
    """By least squares on the scale of correlations."""
    from scipy.optimize import least_squares

    scale = 1.0 / np.sqrt(np.diagonal(wanted))
    i, j = np.tril_indices(len(wanted))
    weight = scale[i] * scale[j]
    target = wanted[i, j] * weight

    def place(x: FloatArray) -> FloatArray:
        full = np.array(start)
        full[outer.free] = x
        return full

    def misfit(x: FloatArray) -> FloatArray:
        V = outer.covariance(x)
        if V is None or not np.isfinite(V).all():
            return np.full(len(target) + len(outer.problem.constraints), _NOWHERE)
        return np.append(V[i, j] * weight - target, outer.gaps(x))

    first = np.clip(start[outer.free], -_FARTHEST, _FARTHEST)
    found = least_squares(
        lambda x: misfit(place(x)), first, max_nfev=_EVALUATIONS, xtol=1e-10, gtol=1e-12
    )
    slopes = np.zeros((len(found.fun), len(start)))
    slopes[:, outer.free] = found.jac
    return _Reached(float(np.abs(found.fun).max()), misfit, place(found.x), slopes)
