"""Residuals of a fit, of four kinds."""

import numpy as np
import polars as pl

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.group import group
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.levels import mean, random_part
from lmmkit.linalg import block_diagonal
from lmmkit.records import FloatArray

_KINDS = ("conditional", "marginal", "pearson", "normalized")


def residuals(fit: Fit, kind: str = "conditional") -> pl.DataFrame:
    """Residuals, one a row of the fit.

    ``conditional``: ``y - offset - X beta - Z b`` with b the conditional modes; ``marginal``:
    ``y - offset - X beta``; ``pearson``: the conditional one in units of its standard deviation
    ``sigma / sqrt(weight)``; ``normalized``: ``L^-1 (y - offset - X beta)``, where ``V = L L'`` is
    the marginal covariance of a group with its rows in the order of the frame. Under the model the
    normalized residuals are independent with variance 1; their squares sum to ``r'V^-1 r``.

    Parameters
    ----------
    fit : Fit
    kind : {"conditional", "marginal", "pearson", "normalized"}

    Returns
    -------
    polars.DataFrame
        ``row`` (position in the frame of the fit), ``fitted`` (``offset + X beta``, and ``+ Z b``
        for conditional and pearson), ``residual``.

    Raises
    ------
    ArgumentError
        For another kind.
    """
    check_fit(fit)
    if kind not in _KINDS:
        raise ArgumentError(f"residuals: expected kind to be one of {_KINDS}, got {kind!r}")
    design = fit.design
    fitted = mean(fit, design.X, design.offset)
    if kind in ("conditional", "pearson"):
        fitted = fitted + random_part(fit)
    residual: FloatArray = design.y - fitted
    if kind == "pearson":
        residual = residual * _root_weights(fit) / np.sqrt(fit.natural.sigma2)
    if kind == "normalized":
        residual = _normalized(fit, residual)
    return pl.DataFrame({"row": design.rows, "fitted": fitted, "residual": residual})


def _root_weights(fit: Fit) -> FloatArray | float:
    return 1.0 if fit.design.weights is None else np.sqrt(fit.design.weights)


def _normalized(fit: Fit, residual: FloatArray) -> FloatArray:
    if not fit.design.terms:
        return residual * _root_weights(fit) / np.sqrt(fit.natural.sigma2)
    psi = block_diagonal(fit.natural.psi)
    normalized = np.empty_like(residual)
    for block in group(fit.design):
        normalized[block.rows] = _innovations(
            block, residual[block.rows], psi, float(fit.natural.sigma2)
        )
    return normalized


def _innovations(
    block: GroupBlock, residual: FloatArray, psi: FloatArray, sigma2: float
) -> FloatArray:
    """``L^-1 r`` of every group, shape (g, n), row by row without forming L.

    Row i of L^-1 r is the error of predicting ``r_i`` from the earlier rows, over its standard
    deviation. The random effects' mean and covariance given the rows so far predict it, so that the
    cost is O(n q^2) a group and the memory O(q^2).
    """
    Z = np.concatenate(block.Z, axis=2)
    g, n, q = Z.shape
    noise = np.full((g, n), sigma2) if block.weights is None else sigma2 / block.weights
    modes = np.zeros((g, q))
    covariance = np.broadcast_to(psi, (g, q, q)).copy()
    result = np.empty((g, n))
    for i in range(n):
        z = Z[:, i]
        with_effects = np.einsum("gab,gb->ga", covariance, z)
        deviation = np.sqrt((z * with_effects).sum(axis=1) + noise[:, i])
        result[:, i] = (residual[:, i] - (z * modes).sum(axis=1)) / deviation
        gain = with_effects / deviation[:, None]
        modes += gain * result[:, i, None]
        covariance -= gain[:, :, None] * gain[:, None, :]
    return result
