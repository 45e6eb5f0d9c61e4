"""Likelihood profiles."""

from collections.abc import Callable
from typing import Any

import polars as pl

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, normal_quantile
from lmmkit.inference.curve_points import Side, terrain
from lmmkit.inference.targets import targets
from lmmkit.inference.walk import walk
from lmmkit.optimize.checks import is_count


def profile(
    fit: Fit,
    which: Any = None,
    *,
    n_points: int = 10,
    level: float = 0.99,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Profile the likelihood of ``fit``, the restricted one under REML.

    At each value of one parameter the others are those that maximize the log-likelihood; ``zeta =
    sign(value - estimate) sqrt(2 (l_max - l))``. The parameters are the fixed effects, the random
    effects' standard deviations and correlations, sigma, and those of a residual structure. Under
    REML a fixed effect's profile is that of the restricted likelihood in which beta enters through
    the residuals alone.

    Parameters
    ----------
    fit : Fit
    which : str, tuple, or sequence of these; optional
        A fixed effect's name, ``"sigma"``, ``(group, effect)`` for a standard deviation or
        ``(group, effect, effect)`` for a correlation, ``(group, name)`` for a parameter of a
        covariance structure, ``("Residual", name)`` for one of the residual structure; by default
        all that are not held. A correlation with an effect whose variance is zero has no profile.
    n_points : int
        About how many points on each side of the estimate.
    level : float
        A side ends where zeta passes the limit of an interval of this level, or at the bound of the
        legal values: a standard deviation of 0, a correlation of 1 or -1.
    progress : callable (finished, total), optional
        Called with the number of sides that are finished.

    Returns
    -------
    polars.DataFrame
        One row a parameter and value: ``group``, ``term``, ``kind`` (``fixed``, ``sd``, ``cor``,
        ``sigma`` or that of a structure's parameter), ``value``, ``loglik``, ``zeta``; values
        ascend.

    Raises
    ------
    ArgumentError
        For a name that is no parameter, or a fit that is not at its maximum.
    """
    check_fit(fit)
    if not is_count(n_points):
        raise ArgumentError(
            f"profile: expected n_points to be a whole number, at least 1, got {n_points!r}"
        )
    wanted = tuple(t for t in targets(fit, which) if t.has_profile)
    cutoff = normal_quantile(level)
    sides = walk(terrain(fit, wanted), wanted, cutoff, n_points, progress)
    rows = [
        row for low, high in zip(sides[::2], sides[1::2], strict=True) for row in _rows(low, high)
    ]
    schema = {
        "group": pl.String,
        "term": pl.String,
        "kind": pl.String,
        "value": pl.Float64,
        "loglik": pl.Float64,
        "zeta": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _rows(low: Side, high: Side) -> list[tuple[Any, ...]]:
    parameter = low.target.parameter
    points = [(p, -1) for p in low.points[:0:-1]] + [(p, 1) for p in high.points]
    return [
        (parameter.group, parameter.term, low.target.kind, p.value, p.loglik, sign * p.zeta)
        for p, sign in points
    ]
