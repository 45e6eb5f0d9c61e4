"""Confidence intervals of all parameters."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import polars as pl

from lmmkit.errors import ArgumentError, UnsupportedModelError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, normal_quantile
from lmmkit.inference.curve_points import CurvePoint, Side, Terrain, evaluate, terrain
from lmmkit.inference.targets import Target, targets
from lmmkit.inference.walk import interpolate, walk
from lmmkit.residual.contract import ResidualParameter

_STEPS = 3
_ROUNDS = 60
_EXACT = 1e-9


def confidence_intervals(
    fit: Fit,
    method: str = "wald",
    level: float = 0.95,
    *,
    which: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Confidence intervals of fixed effects, standard deviations, correlations and sigma.

    ``wald``: a fixed effect's is ``estimate -+ z se``. Those of standard deviations and of sigma
    are symmetric in their logarithm, those of correlations in Fisher's ``atanh``, with standard
    errors by the delta method from the full observed information on the natural scale. Beside an
    estimate far below its standard error they are 0 and infinity: it says nothing about the scale.
    Those of a residual structure's parameters are as in :func:`residual_parameters`.

    ``profile``: the values at which the maximum of the log-likelihood over the other parameters is
    ``z^2 / 2`` below that of the fit; under REML the restricted log-likelihood, in which a held
    fixed effect enters through the residuals alone. Where this is not reached within the legal
    values the limit is their bound: 0, 1, -1 or infinity. Where a residual variance depends on the
    fitted values, it stays at those of the fit.

    Parameters
    ----------
    fit : Fit
    method : {"wald", "profile"}
    level : float
    which : str, tuple, or sequence of these; optional
        As in :func:`~lmmkit.inference.profile.profile`.
    progress : callable (finished, total), optional
        Of profiles: called with the number of limits that are bracketed.

    Returns
    -------
    polars.DataFrame
        One row a parameter: ``group`` (null for a fixed effect), ``term``, ``kind`` (``fixed``,
        ``sd``, ``cor``, ``sigma`` or, of a residual structure, ``structure``), ``estimate``,
        ``conf_low``, ``conf_high``. Limits are null
        for a parameter that is held and, by Wald, for one without a standard error; the estimate of
        a correlation with an effect whose variance is zero is null.

    Raises
    ------
    ArgumentError
        For an argument that is not one of its legal values.
    UnsupportedModelError
        For a method that this version lacks.
    """
    check_fit(fit)
    if method == "bootstrap":
        raise UnsupportedModelError(
            "confidence_intervals: bootstrap intervals are not available in this version; expected "
            "method 'wald' or 'profile'"
        )
    if method not in ("wald", "profile"):
        raise ArgumentError(
            f"confidence_intervals: expected method 'wald' or 'profile', got {method!r}"
        )
    z = normal_quantile(level)
    chosen = targets(fit, which)
    found = (
        [_wald(t, z) for t in chosen] if method == "wald" else _profile(fit, chosen, z, progress)
    )
    rows = [
        (t.parameter.group, t.parameter.term, t.kind, t.estimate, *limits)
        for t, limits in zip(chosen, found, strict=True)
    ]
    schema = {
        "group": pl.String(),
        "term": pl.String(),
        "kind": pl.String(),
        "estimate": pl.Float64(),
        "conf_low": pl.Float64(),
        "conf_high": pl.Float64(),
    }
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.col("estimate", "conf_low", "conf_high").fill_nan(None))


def _wald(target: Target, z: float) -> tuple[float, float]:
    estimate, half = target.estimate, z * target.std_error
    if np.isnan(half):
        return np.nan, np.nan
    if target.kind == "structure":
        own = ResidualParameter(target.parameter.term, target.lower, target.upper)
        centre, half = float(own.theta(estimate)), half / float(own.slope(estimate))
        return float(own.value(centre - half)), float(own.value(centre + half))
    if target.kind in ("fixed", "loading", "free"):
        return estimate - half, estimate + half
    if target.kind == "cor":
        if abs(estimate) >= 1.0:
            return np.nan, np.nan
        centre, half = np.arctanh(estimate), half / (1.0 - estimate**2)
        return float(np.tanh(centre - half)), float(np.tanh(centre + half))
    with np.errstate(over="ignore"):
        factor = float(np.exp(half / estimate))
    return estimate / factor, estimate * factor


def _profile(
    fit: Fit,
    chosen: tuple[Target, ...],
    z: float,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[float, float]]:
    walked = [t for t in chosen if t.has_profile]
    ground = terrain(fit, tuple(walked))
    limits = iter(_refine(ground, list(walk(ground, tuple(walked), z, _STEPS, progress)), z))
    result = []
    for target in chosen:
        if target.free and np.isnan(target.estimate):
            result.append((target.lower, target.upper))
        elif not target.has_profile:
            result.append((np.nan, np.nan))
        else:
            result.append((next(limits), next(limits)))
    return result


def _refine(ground: Terrain, sides: list[Side], z: float) -> list[float]:
    """The value of each side where zeta is z, or its bound."""
    for _ in range(_ROUNDS):
        active = [i for i, side in enumerate(sides) if _open(side, z)]
        if not active:
            break
        values = [_crossing(sides[i], z) for i in active]
        brackets = [_bracket(sides[i], z) for i in active]
        starts = [interpolate(*ends, v) for ends, v in zip(brackets, values, strict=True)]
        beyond = [high.x for _, high in brackets]
        points = evaluate(ground, [sides[i] for i in active], values, starts, beyond)
        for i, point in zip(active, points, strict=True):
            sides[i] = attrs.evolve(sides[i], points=(*sides[i].points, point))
    return [_limit(side, z) for side in sides]


def _limit(side: Side, z: float) -> float:
    if max(point.zeta for point in side.points) < z - _EXACT:
        return side.bound
    return min(side.points, key=lambda point: abs(point.zeta - z)).value


def _open(side: Side, z: float) -> bool:
    if max(point.zeta for point in side.points) < z:
        return False
    low, high = _bracket(side, z)
    width = abs(high.value - side.points[0].value)
    return min(abs(p.zeta - z) for p in side.points) > _EXACT and (
        abs(high.value - low.value) > 1e-10 * width
    )


def _bracket(side: Side, z: float) -> tuple[CurvePoint, CurvePoint]:
    """The neighbouring points between which zeta passes z first."""
    ordered = sorted(side.points, key=lambda point: side.sign * point.value)
    beyond = next(i for i, point in enumerate(ordered) if point.zeta >= z)
    return ordered[beyond - 1], ordered[beyond]


def _crossing(side: Side, z: float) -> float:
    """Inverse interpolation through the four points nearest to z, kept inside the bracket."""
    low, high = _bracket(side, z)
    near = sorted(side.points, key=lambda point: abs(point.zeta - z))[:4]
    zetas = np.array([point.zeta for point in near])
    middle = 0.5 * (low.value + high.value)
    if len(np.unique(zetas)) < len(zetas):
        return middle
    gaps = zetas[:, None] - zetas + np.eye(len(zetas))
    factors = (z - zetas)[None, :] / gaps
    np.fill_diagonal(factors, 1.0)
    value = float(factors.prod(axis=1) @ np.array([point.value for point in near]))
    inside = min(low.value, high.value) < value < max(low.value, high.value)
    return value if inside else middle
