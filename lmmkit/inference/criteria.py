"""Information criteria, and one row that describes a fit."""

import math

import polars as pl

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.likelihood.constraints import Relation


def information_criteria(fit: Fit) -> pl.DataFrame:
    """AIC, AICc and BIC, as lme4 counts.

    With k parameters and N rows: ``AIC = -2 loglik + 2 k``, ``AICc = AIC + 2 k (k + 1) / (N - k -
    1)``, ``BIC = -2 loglik + k log N``. Under REML loglik is the restricted one, N is still the
    number of rows and k still counts beta: compare such fits only where X is the same.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    polars.DataFrame
        One row: ``n_parameters, loglik, aic, aicc, bic``. ``n_parameters`` counts fixed effects,
        variances, covariances, sigma2 and the parameters of a residual structure, less those that
        are held; one on the boundary counts.
        ``aicc`` is null where N is at most k + 1.
    """
    check_fit(fit)
    n, k = fit.design.n_obs, count_parameters(fit)
    deviance = -2.0 * fit.loglik
    aic = deviance + 2.0 * k
    return pl.DataFrame(
        {
            "n_parameters": [k],
            "loglik": [fit.loglik],
            "aic": [aic],
            "aicc": [aic + 2.0 * k * (k + 1) / (n - k - 1) if n > k + 1 else None],
            "bic": [deviance + k * math.log(n)],
        },
        schema_overrides={"aicc": pl.Float64},
    )


def glance(fit: Fit) -> pl.DataFrame:
    """One row that describes a fit.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    polars.DataFrame
        ``n_obs, n_groups`` (levels of the grouping factor; null where there is not exactly one
        factor), ``criterion`` ("REML" or "ML"), ``n_parameters, loglik, aic, aicc, bic, deviance``
        (-2 loglik), ``sigma, df_residual`` (rows less parameters), ``converged``, and ``singular``
        (whether some covariance of random effects is on the boundary).
    """
    criteria = information_criteria(fit)
    factors = {term.group: len(term.levels) for term in fit.design.terms}
    n = fit.design.n_obs
    return pl.DataFrame(
        {
            "n_obs": [n],
            "n_groups": [next(iter(factors.values())) if len(factors) == 1 else None],
            "criterion": [fit.objective.criterion.value],
        },
        schema_overrides={"n_groups": pl.Int64},
    ).hstack(
        [
            *criteria,
            pl.Series("deviance", [-2.0 * fit.loglik]),
            pl.Series("sigma", [math.sqrt(fit.natural.sigma2)]),
            pl.Series("df_residual", [n - criteria["n_parameters"].item()]),
            pl.Series("converged", [fit.certificate.converged]),
            pl.Series("singular", [bool(fit.certificate.singular)]),
        ]
    )


def count_parameters(fit: Fit) -> int:
    """Number of parameters that were estimated."""
    structure = 0 if fit.residual is None else len(fit.residual.free)
    relations = sum(isinstance(constraint, Relation) for constraint in fit.objective.held)
    return int(fit.objective.free.sum()) + structure - relations
