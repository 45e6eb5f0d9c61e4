"""Coordinates in which one parameter is held by leaving it out, for many parameters side by side.

A lane is one parameter held at one value. Its coordinates are ``x = (u, tau)`` with
``sigma = sigma_hat exp(tau)`` and a factor of every Psi that is linear in u: the lower triangular
one, taken in an order of the effects in which those concerned come first. There a standard
deviation is the factor's first element, and the correlation of the first two effects is the
direction of its second row. So the bounds, a standard deviation of 0 and a correlation of 1 or -1,
are values like any other.
"""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.targets import Target
from lmmkit.linalg import psd_factor
from lmmkit.records import (
    FloatArray,
    float_array,
    float_arrays,
    record,
)

_NUDGE = 0.01


@record
class Geometry:
    """The random effects of a fit as columns in standard coordinates, relative to sigma_hat.

    Attributes
    ----------
    sizes : tuple of int
        Effects of each term, those held at zero left out.
    effect : dict
        From the packed index of a variance to e.
    sigma : float
    columns : ndarray (q, q)
        Column e: what one unit of effect e is in standard coordinates; of length 1.
    unit : ndarray (q,)
        The unit of effect e, in the user's units.
    psi : tuple of ndarray (q_k, q_k)
        The estimates, of the effects that are there, in these units.
    """

    sizes: tuple[int, ...]
    effect: dict[int, int]
    sigma: float
    columns: FloatArray = float_array(2)
    unit: FloatArray = float_array(1)
    psi: tuple[FloatArray, ...] = float_arrays(2)


@record
class Lanes:
    """L lanes; ``S = base + sum_a u_a directions_a`` is a factor of all Psi.

    Attributes
    ----------
    base : ndarray (L, q, q)
        In standard coordinates, as directions are.
    directions : ndarray (L, n, q, q)
    frozen : ndarray (L, n + 1)
        1 where an entry of x does not move.
    positive : ndarray (L, n + 1)
        1 where an entry of x is at least 0.
    least : ndarray (L, n + 1)
        Starts keep an entry of x at least this far from zero, where the gradient vanishes.
    a : ndarray (L, p)
        Fixed effects in standard coordinates satisfy ``a'beta = b``; zeros where none is held.
    b : ndarray (L,)
    x : ndarray (L, n + 1)
        Where the estimates are, as nearly as the lane has them.
    """

    base: FloatArray = float_array(3)
    directions: FloatArray = float_array(4)
    frozen: FloatArray = float_array(2)
    positive: FloatArray = float_array(2)
    least: FloatArray = float_array(2)
    a: FloatArray = float_array(2)
    b: FloatArray = float_array(1)
    x: FloatArray = float_array(2)


def geometry(fit: Fit) -> Geometry:
    """The geometry of ``fit``."""
    basis = fit.objective.moments.basis
    sigma = float(np.sqrt(fit.natural.sigma2))
    q = sum(fit.objective.sizes)
    columns, unit = np.zeros((q, q)), np.zeros(q)
    effect: dict[int, int] = {}
    psi = []
    start, index = 0, len(basis.x)
    for c, matrix in zip(basis.z, fit.natural.psi, strict=True):
        present = np.flatnonzero((c != 0).any(axis=1))
        block = slice(start, start + len(present))
        raw = np.linalg.inv(c[present]) / sigma
        length = np.sqrt((raw**2).sum(axis=0))
        columns[block, block] = raw / length
        unit[block] = 1.0 / length
        scaled = matrix[np.ix_(present, present)] * np.outer(length, length)
        psi.append(scaled)
        effect |= {index + i * (i + 3) // 2: start + e for e, i in enumerate(present.tolist())}
        start, index = start + len(present), index + len(c) * (len(c) + 1) // 2
    return Geometry(fit.objective.sizes, effect, sigma, columns, unit, tuple(psi))


def lanes(fit: Fit, space: Geometry, held: list[tuple[Target, float]]) -> Lanes:
    """One lane for each target and value."""
    parts = [_lane(fit, space, target, value) for target, value in held]
    return Lanes(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def _lane(fit: Fit, space: Geometry, target: Target, value: float) -> tuple[FloatArray, ...]:
    basis = fit.objective.moments.basis
    q = len(space.columns)
    first = _effects_concerned(space, target)
    base = np.zeros((q, q))
    directions: list[FloatArray] = []
    x: list[float] = []
    frozen: list[bool] = []
    positive: list[bool] = []
    least: list[float] = []
    start = 0
    for size, psi in zip(space.sizes, space.psi, strict=True):
        here = [e - start for e in first if start <= e < start + size]
        order = _order(psi, here)
        factor = psd_factor(psi[np.ix_(order, order)])
        for r in range(size):
            column = space.columns[:, start + order[r]]
            if len(here) == 2 and r == 1:
                across = np.zeros(q)
                across[start : start + 2] = value, np.sqrt(max(1.0 - value**2, 0.0))
                rows = [(np.outer(column, across), float(np.sqrt(psi[order[1], order[1]])))]
                rows.append((np.zeros((q, q)), 0.0))
            else:
                unit = np.eye(q)[start : start + r + 1]
                rows = [(np.outer(column, unit[k]), float(factor[r, k])) for k in range(r + 1)]
            if len(here) == 1 and r == 0:
                base = rows[0][0] * (value / space.unit[start + order[0]])
                rows = [(np.zeros((q, q)), 0.0)]
            for k, (direction, coordinate) in enumerate(rows):
                still = not direction.any()
                bounded = len(here) == 2 and r < 2 and k == 0
                directions.append(direction)
                x.append(coordinate)
                frozen.append(still)
                positive.append(bounded)
                least.append(_NUDGE if not still and (k == r or bounded) else 0.0)
        start += size
    fixed_tau = fit.objective.held_sigma2 is not None or target.kind == "sigma"
    x.append(float(np.log(value / space.sigma)) if target.kind == "sigma" else 0.0)
    a, b = np.zeros(basis.x.shape[1]), 0.0
    if target.kind == "fixed":
        a = basis.x[target.parameter.index]
        b = value - float(basis.origin[target.parameter.index])
    return (
        base,
        np.array(directions).reshape(len(directions), q, q),
        np.array([*frozen, fixed_tau], dtype=np.float64),
        np.array([*positive, False], dtype=np.float64),
        np.array([*least, 0.0]),
        a,
        np.array(b),
        np.array(x),
    )


def _order(psi: FloatArray, here: list[int]) -> list[int]:
    """``here`` first, then always the effect with most variance left given those before it.

    An effect early in the order whose variance vanishes would leave the rows after it undetermined.
    """
    order: list[int] = []
    left = psi.copy()
    while len(order) < len(psi):
        rest = [e for e in range(len(psi)) if e not in order]
        at = len(order)
        pivot = here[at] if at < len(here) else max(rest, key=lambda e: float(left[e, e]))
        order.append(pivot)
        if left[pivot, pivot] > 0:
            left = left - np.outer(left[pivot], left[pivot]) / left[pivot, pivot]
    return order


def _effects_concerned(space: Geometry, target: Target) -> list[int]:
    if target.kind == "sd":
        return [space.effect[target.parameter.index]]
    if target.parameter.variances is not None:
        return [space.effect[index] for index in target.parameter.variances]
    return []
