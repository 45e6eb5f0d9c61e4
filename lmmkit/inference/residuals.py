"""Residuals of a fit, of four kinds."""

import numpy as np
import polars as pl

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.design import Design
from lmmkit.design.group import group
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.levels import mean, random_part
from lmmkit.linalg import block_diagonal
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray

_KINDS = ("conditional", "marginal", "pearson", "normalized")


def residuals(fit: Fit, kind: str = "conditional") -> pl.DataFrame:
    """Residuals, one a row of the fit.

    ``conditional``: ``y - offset - X beta - Z b`` with b the conditional modes; ``marginal``:
    ``y - offset - X beta``; ``pearson``: the conditional one in units of its standard deviation
    ``sigma / sqrt(weight)``, times what a variance function says; ``normalized``: ``L^-1 (y -
    offset - X beta)``, where ``V = L L'`` is the marginal covariance of a group with its rows in
    the order of the frame, or in that of the residual structure's coordinates. Under the model the
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
    if kind == "normalized" and fit.residual is None:
        residual = _normalized(design, fit.natural, residual)
    elif kind == "normalized":
        residual = _normalized_rows(fit)
    return pl.DataFrame({"row": design.rows, "fitted": fitted, "residual": residual})


def _root_weights(fit: Fit) -> FloatArray | float:
    """What makes the residuals' variances equal."""
    if fit.residual is not None:
        model = fit.residual.model
        root = np.empty(fit.design.n_obs)
        root[model.order] = np.exp(model.log_root(fit.residual.theta))
        return root
    return 1.0 if fit.design.weights is None else np.sqrt(fit.design.weights)


def _normalized(design: Design, natural: NaturalParams, residual: FloatArray) -> FloatArray:
    sigma2 = float(natural.sigma2)
    if not design.terms:
        root = 1.0 if design.weights is None else np.sqrt(design.weights)
        return np.asarray(residual * root / np.sqrt(sigma2))
    psi = block_diagonal(natural.psi)
    normalized = np.empty_like(residual)
    for block in group(design):
        normalized[block.rows] = _innovations(block, residual[block.rows], psi, sigma2)
    return normalized


def _normalized_rows(fit: Fit) -> FloatArray:
    """The same of the rows that the residual structure makes independent."""
    assert fit.residual is not None, "there is a residual structure"
    model = fit.residual.model
    white = model.whitened(fit.residual.theta)
    assert white is not None, "the residual covariance at the estimates is positive definite"
    normalized = np.empty(fit.design.n_obs)
    normalized[model.order] = _normalized(
        white[0], fit.natural, white[0].y - mean(fit, white[0].X, None)
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
