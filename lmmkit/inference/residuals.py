"""Residuals of a fit, of four kinds."""

import numpy as np
import polars as pl

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.innovations import innovations
from lmmkit.inference.levels import mean, random_part
from lmmkit.records import FloatArray

_KINDS = ("conditional", "marginal", "pearson", "normalized")


def residuals(fit: Fit, kind: str = "conditional") -> pl.DataFrame:
    """Residuals, one a row of the fit.

    ``conditional``: ``y - offset - X beta - Z b`` with b the conditional modes; ``marginal``:
    ``y - offset - X beta``; ``pearson``: the conditional one in units of its standard deviation
    ``sigma / sqrt(weight)``, times what a variance function says; ``normalized``: ``L^-1 (y -
    offset - X beta)``, where ``V = L L'`` is the marginal covariance of a group, which shares no
    level with the rows outside it, with its rows in the order of the frame, or in that of the
    residual structure's coordinates. Under the model the
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
    ModelSizeError
        For normalized residuals, where the joint covariance of the crossed effects would not fit
        into memory.

    Notes
    -----
    With several grouping factors, normalized residuals carry along the joint covariance of the
    effects that have both earlier and later rows, e of them: O(N e^2) operations. Rows sorted by
    the factor with most levels keep e small.
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
        residual = innovations(design, fit.natural, residual)
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


def _normalized_rows(fit: Fit) -> FloatArray:
    """Of the rows that the residual structure makes independent."""
    assert fit.residual is not None, "there is a residual structure"
    model = fit.residual.model
    white = model.whitened(fit.residual.theta)
    assert white is not None, "the residual covariance at the estimates is positive definite"
    normalized = np.empty(fit.design.n_obs)
    normalized[model.order] = innovations(
        white[0], fit.natural, white[0].y - mean(fit, white[0].X, None)
    )
    return normalized
