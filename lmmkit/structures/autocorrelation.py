"""Autocorrelations of partial autocorrelations, with their derivatives."""

from typing import TypeAlias

import numpy as np

from lmmkit.records import FloatArray

_Expanded: TypeAlias = tuple[FloatArray, FloatArray, FloatArray]
"""Values (k,) with first (k, n) and second (k, n, n) derivatives by theta (n,)."""


def autocorrelation_derivatives(theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First (n, n) and second (n, n, n) derivatives by theta of those at lags 1, ..., n.

    theta is the arcsines of the partial autocorrelations: each step of the recursion of Durbin and
    Levinson is differentiated by the rules of products and sums.
    """
    n = len(theta)
    unit = np.eye(n)
    left: _Expanded = (np.ones(1), np.zeros((1, n)), np.zeros((1, n, n)))
    rho: _Expanded = (np.zeros(0), np.zeros((0, n)), np.zeros((0, n, n)))
    weights = rho
    for k in range(n):
        sine, cosine = np.sin(theta[[k]]), np.cos(theta[k])
        partial = (sine, cosine * unit[[k]], -sine * np.outer(unit[k], unit[k])[None])
        known = _total(_product(weights, _reversed(rho)))
        rho = _joined(rho, _sum(_product(partial, left), known))
        weights = _joined(_sum(weights, _product(partial, _reversed(weights)), -1.0), partial)
        left = _sum(left, _product(_product(partial, partial), left), -1.0)
    return rho[1], rho[2]


def _reversed(a: _Expanded) -> _Expanded:
    return a[0][::-1], a[1][::-1], a[2][::-1]


def _sum(a: _Expanded, b: _Expanded, times: float = 1.0) -> _Expanded:
    return a[0] + times * b[0], a[1] + times * b[1], a[2] + times * b[2]


def _total(a: _Expanded) -> _Expanded:
    return a[0].sum(keepdims=True), a[1].sum(axis=0)[None], a[2].sum(axis=0)[None]


def _joined(a: _Expanded, b: _Expanded) -> _Expanded:
    return np.append(a[0], b[0]), np.vstack([a[1], b[1]]), np.concatenate([a[2], b[2]])


def _product(a: _Expanded, b: _Expanded) -> _Expanded:
    """Of values in pairs; one value goes with each of the other's."""
    across = a[1][:, :, None] * b[1][:, None, :]
    return (
        a[0] * b[0],
        a[1] * b[0][:, None] + a[0][:, None] * b[1],
        a[2] * b[0][:, None, None]
        + a[0][:, None, None] * b[2]
        + across
        + np.swapaxes(across, 1, 2),
    )
