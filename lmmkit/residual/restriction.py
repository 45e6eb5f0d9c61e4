"""Linear equalities between the parameters of a residual structure, on the scale they are read.

``rows @ values(theta) = right``. As many elements of theta as there are equalities depend on the
others, which are the variables of the search.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lmmkit.records import FloatArray, IntArray, float_array, int_array, record
from lmmkit.residual.slopes import mixed_differences

_WIDEST = 30.0
_STEP = 1e-5
_BEND = 1e-3
_MET = 1e-13
_LONGEST = 2.0
_ROUNDS = 60
_HALVINGS = 10

Values: TypeAlias = Callable[[FloatArray], FloatArray]


@record
class Restriction:
    """Equalities of k parameters; none where ``rows`` is empty.

    Attributes
    ----------
    rows : ndarray (r, k)
    right : ndarray (r,)
    dependent : ndarray (r,) of int32
        The elements of theta that the others determine.
    """

    rows: FloatArray = float_array(2)
    right: FloatArray = float_array(1)
    dependent: IntArray = int_array(1)

    @property
    def free(self) -> IntArray:
        """The elements of theta that are free."""
        return np.setdiff1d(np.arange(self.rows.shape[1]), self.dependent).astype(np.int32)

    @property
    def held(self) -> IntArray:
        """The parameters that have a value of their own."""
        alone = self.rows[(self.rows != 0).sum(axis=1) == 1]
        return np.flatnonzero(alone.any(axis=0)).astype(np.int32)

    def complete(self, values: Values, theta: FloatArray, free: FloatArray) -> FloatArray | None:
        """Theta with these free elements; the others are sought from those of ``theta``."""
        moved = np.array(theta)
        moved[self.free] = free
        return self._met(values, moved, self.dependent)

    def project(self, values: Values, theta: FloatArray) -> FloatArray | None:
        """A place near ``theta`` where the equalities hold; None where none is found."""
        return self._met(values, theta, np.arange(len(theta), dtype=np.int32))

    def places(self, values: Values, starts: FloatArray) -> FloatArray:
        """The projections (s, k) of several starts, no two the same; those that have one."""
        found = [self.project(values, theta) for theta in starts]
        rows = np.array([theta for theta in found if theta is not None]).reshape(
            -1, starts.shape[1]
        )
        _, first = np.unique(rows.round(9), axis=0, return_index=True)
        return np.asarray(rows[np.sort(first)])

    def tangent(self, values: Values, theta: FloatArray) -> FloatArray:
        """Derivatives (k, f) of theta by its free elements."""
        k, free = len(theta), self.free
        across = np.zeros((k, len(free)))
        across[free, np.arange(len(free))] = 1.0
        by_theta = self.rows @ slopes(values, theta, np.arange(k, dtype=np.int32))
        moved = np.linalg.solve(by_theta[:, self.dependent], by_theta[:, free])
        across[self.dependent] = -moved
        return across

    def curvature(self, values: Values, theta: FloatArray, weights: FloatArray) -> FloatArray:
        """Second derivatives (f, f) of ``weights @ theta`` by the free elements of theta.

        Those of the values along the tangent, as the equalities pass them on.
        """
        by_theta = self.rows @ slopes(values, theta, np.arange(len(theta), dtype=np.int32))
        passed = np.linalg.solve(by_theta[:, self.dependent].T, weights[self.dependent]) @ self.rows
        tangent = self.tangent(values, theta)

        def along(step: FloatArray) -> float:
            return -float(passed @ values(theta + tangent @ step))

        steps = _BEND * np.eye(len(self.free))
        plus, minus = (np.array([along(sign * step) for step in steps]) for sign in (1.0, -1.0))
        centre = along(np.zeros(len(steps)))
        return mixed_differences(along, centre, plus, minus, _BEND)

    def _met(self, values: Values, theta: FloatArray, moving: IntArray) -> FloatArray | None:
        """Newton's method on the equalities alone, over some elements of theta."""
        if not len(self.rows):
            return theta
        size = 1.0 + np.abs(self.right)
        theta, gap = np.array(theta), self._gap(values, theta)
        for _ in range(_ROUNDS):
            if np.all(np.abs(gap) <= _MET * size):
                return theta
            matrix = self.rows @ slopes(values, theta, moving)
            step = np.linalg.lstsq(matrix, -gap, rcond=1e-12)[0]
            step *= min(1.0, _LONGEST / max(float(np.abs(step).max(initial=0.0)), 1e-300))
            for _ in range(_HALVINGS):
                trial = np.array(theta)
                trial[moving] = np.clip(theta[moving] + step, -_WIDEST, _WIDEST)
                ahead = self._gap(values, trial)
                if np.linalg.norm(ahead) < np.linalg.norm(gap):
                    break
                step *= 0.5
            else:
                break
            theta, gap = trial, ahead
        return theta if np.all(np.abs(gap) <= 1e3 * _MET * size) else None

    def _gap(self, values: Values, theta: FloatArray) -> FloatArray:
        return np.asarray(self.rows @ values(theta) - self.right)


def slopes(values: Values, theta: FloatArray, which: IntArray) -> FloatArray:
    """Derivatives of the parameters by some elements of theta."""
    steps = _STEP * np.eye(len(theta))[which]
    changes = [(values(theta + step) - values(theta - step)) / (2.0 * _STEP) for step in steps]
    return np.array(changes).reshape(len(which), len(theta)).T


def restriction(
    values: Values, starts: FloatArray, rows: FloatArray, right: FloatArray
) -> Restriction | None:
    """The equalities, with the dependent elements that are best to solve for near the starts.

    None where no parameters meet them, or they repeat one another.
    """
    from scipy.linalg import qr

    first = Restriction(rows, right, np.arange(len(rows), dtype=np.int32))
    places = first.places(values, starts)
    if not len(places) or not len(rows):
        return first if len(places) else None
    theta = places[0]
    by_theta = rows @ slopes(values, theta, np.arange(len(theta), dtype=np.int32))
    size = np.linalg.norm(by_theta, axis=1, keepdims=True)
    if not size.all():
        return None
    _, triangle, order = qr(by_theta / size, mode="economic", pivoting=True)
    if np.abs(np.diagonal(triangle)).min() < 1e-8:
        return None
    return Restriction(rows, right, np.sort(order[: len(rows)]).astype(np.int32))
