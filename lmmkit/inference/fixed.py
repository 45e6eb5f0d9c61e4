"""Fixed effects: estimates, their covariance, Wald z tests and intervals."""

import numpy as np
import polars as pl

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, normal_quantile, two_sided_p
from lmmkit.inference.levels import relative_covariance
from lmmkit.records import FloatArray, adopt


def fixed_effects(fit: Fit, level: float = 0.95) -> pl.DataFrame:
    """One row a fixed effect: estimate, standard error, Wald z test of zero, interval.

    Parameters
    ----------
    fit : Fit
    level : float
        Coverage of the interval.

    Returns
    -------
    polars.DataFrame
        ``term, estimate, std_error, statistic, p_value, conf_low, conf_high``. An effect that is
        held has its value and nulls. A column that was dropped because it depends on others
        (``fit.design.aliased``) has no row.

    Raises
    ------
    ArgumentError
        For a level that is not between 0 and 1.

    Notes
    -----
    ``z = beta / se`` is compared with the normal distribution; with few groups that is too
    optimistic.
    """
    check_fit(fit)
    width = normal_quantile(level)
    estimate = estimates(fit)
    std_error = np.sqrt(np.diagonal(fixed_covariance(fit)))
    statistic = estimate / std_error
    return pl.DataFrame(
        {
            "term": pl.Series(fit.design.x_names, dtype=pl.String),
            "estimate": estimate,
            "std_error": std_error,
            "statistic": statistic,
            "p_value": two_sided_p(statistic),
            "conf_low": estimate - width * std_error,
            "conf_high": estimate + width * std_error,
        }
    ).fill_nan(None)


def fixed_covariance(fit: Fit) -> FloatArray:
    """``sigma2 (X'V^-1X)^-1`` at the estimates: the covariance of beta, the variances known.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    ndarray (p, p)
        In the order of ``fit.design.x_names``; rows and columns of held effects are NaN.
    """
    check_fit(fit)
    basis = fit.objective.moments.basis
    C = fit.objective.locate(relative_covariance(fit)).point.C
    root = np.linalg.solve(np.linalg.cholesky(C), basis.x.T)
    covariance = fit.natural.sigma2 * (root.T @ root)
    held = ~fit.objective.free[: len(covariance)]
    covariance[held] = np.nan
    covariance[:, held] = np.nan
    return adopt(covariance)


def estimates(fit: Fit) -> FloatArray:
    """Beta."""
    beta = fit.natural.beta
    assert beta is not None, "the estimates of a fit hold beta"
    return beta
