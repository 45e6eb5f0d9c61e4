"""Nonlinear least squares of a few variables."""

from collections.abc import Callable

import numpy as np

from lmmkit.records import FloatArray

_ITERATIONS = 100
_ENOUGH = 1e-13


def least_squares(
    residuals: Callable[[FloatArray], FloatArray],
    slopes: Callable[[FloatArray], FloatArray],
    theta: FloatArray,
    size: float,
) -> FloatArray:
    """Where the residuals (r,), with derivatives (r, n), have the least squares.

    By Levenberg and Marquardt's method; ``size`` is a sum of squares beside which a gain is none.
    """
    residual, J = residuals(theta), slopes(theta)
    damping = 1e-3
    for _ in range(_ITERATIONS):
        normal = J.T @ J
        own = np.diagonal(normal)
        ridge = np.diag(np.where(own > 0.0, own, 1.0))
        moved = theta - np.linalg.solve(normal + damping * ridge, J.T @ residual)
        after = residuals(moved)
        gain = float(residual @ residual - after @ after)
        if gain > 0.0:
            theta, residual, J, damping = moved, after, slopes(moved), 0.1 * damping
            if gain <= _ENOUGH**2 * size:
                break
        else:
            damping *= 10.0
            if damping > 1e12:
                break
    return theta
