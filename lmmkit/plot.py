"""Figures of a fit, by matplotlib: the extra ``plot`` brings it."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lmmkit.errors import ArgumentError, MissingExtraError
from lmmkit.fit import Fit
from lmmkit.inference.modes import random_effects
from lmmkit.inference.residuals import residuals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_profile", "plot_random_effects", "plot_residuals"]

_CURVES = {"group", "term", "kind", "value", "zeta"}


def plot_profile(curves: pl.DataFrame) -> "Figure":
    """``|zeta|`` against the parameter's value, one panel a parameter.

    The likelihood is as good as quadratic where a curve is a V with straight sides. Dashed lines
    are the limits of 50, 80, 90, 95 and 99 % intervals.

    Parameters
    ----------
    curves : polars.DataFrame
        As :func:`~lmmkit.inference.profile.profile` returns it.

    Raises
    ------
    ArgumentError
        For another frame.
    MissingExtraError
        Without matplotlib.
    """
    if not isinstance(curves, pl.DataFrame) or not set(curves.columns) >= _CURVES:
        raise ArgumentError(
            "plot_profile: expected the frame that profile(fit) returns, with the columns "
            f"{', '.join(sorted(_CURVES))}"
        )
    parts = curves.partition_by("group", "term", "kind", maintain_order=True)
    figure = _figure(len(parts))
    for axes, part in zip(figure.axes, parts, strict=True):
        group, term, kind = part.row(0)[:3]
        axes.plot(part["value"], part["zeta"].abs(), marker=".")
        for z in (0.674, 1.282, 1.645, 1.960, 2.576):
            axes.axhline(z, color="gray", linestyle="--", linewidth=0.5)
        name = kind if kind == "sigma" else f"{kind} {term}" + (f" | {group}" if group else "")
        axes.set_title(name)
        axes.set_ylabel("|zeta|")
    return figure


def plot_random_effects(fit: Fit, z: float = 1.96) -> "Figure":
    """Conditional modes with ``z`` standard errors to each side, sorted; one panel an effect.

    Raises
    ------
    ArgumentError
        For a fit without random effects.
    MissingExtraError
        Without matplotlib.
    """
    modes = random_effects(fit)
    if modes.is_empty():
        raise ArgumentError("plot_random_effects: expected a fit with random effects, got none")
    parts = modes.partition_by("group", "term", maintain_order=True)
    figure = _figure(len(parts))
    for axes, part in zip(figure.axes, parts, strict=True):
        part = part.sort("estimate")
        rank = np.arange(part.height)
        axes.errorbar(part["estimate"], rank, xerr=z * part["std_error"], fmt=".", elinewidth=0.7)
        axes.set_title(f"{part['term'][0]} | {part['group'][0]}")
        axes.axvline(0.0, color="gray", linewidth=0.5)
        if part.height <= 60:
            axes.set_yticks(rank, part["level"].cast(pl.String), fontsize=7)
    return figure


def plot_residuals(fit: Fit, kind: str = "pearson") -> "Figure":
    """Residuals against fitted values, and against normal quantiles.

    Raises
    ------
    ArgumentError
        For a kind that :func:`~lmmkit.inference.residuals.residuals` does not know.
    MissingExtraError
        Without matplotlib.
    """
    from scipy.special import ndtri

    table = residuals(fit, kind)
    figure = _figure(2)
    against, quantiles = figure.axes
    against.plot(table["fitted"], table["residual"], ".", markersize=3)
    against.axhline(0.0, color="gray", linewidth=0.5)
    against.set(xlabel="fitted", ylabel=f"{kind} residual")
    n = table.height
    quantiles.plot(ndtri((np.arange(n) + 0.5) / n), table["residual"].sort(), ".", markersize=3)
    quantiles.set(xlabel="normal quantile", ylabel=f"{kind} residual")
    return figure


def _figure(n_panels: int) -> "Figure":
    """A figure with ``n_panels`` axes, at most three beside each other."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "figures need matplotlib, which is not installed; the extra brings it: "
            'pip install "lmmkit[plot]"'
        ) from error
    columns = min(n_panels, 3)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    for position in range(n_panels):
        figure.add_subplot(rows, columns, position + 1)
    return figure
