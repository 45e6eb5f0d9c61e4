"""Estimates of the residual structure's parameters, and what they cost the others in precision."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, normal_quantile
from lmmkit.inference.information import information_of
from lmmkit.inference.surface import Coordinates
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import null_space
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, evolve
from lmmkit.residual.profile import FLAT, Differences, differences
from lmmkit.residual.restriction import slopes

_STILL = 1e-7


def residual_parameters(fit: Fit, level: float = 0.95) -> pl.DataFrame:
    """The parameters of the residual structure, with Wald intervals.

    Parameters
    ----------
    fit : Fit
    level : float
        Coverage of the intervals.

    Returns
    -------
    polars.DataFrame
        ``term, estimate, std_error, conf_low, conf_high``, one row a parameter, none without a
        residual structure. Standard errors come from the observed information of all parameters;
        those of parameters on their boundary, see ``Fit.certificate``, are null.
        The intervals are symmetric on a scale without bounds, as nlme's are: the logarithm of a
        positive parameter, ``log((v - low) / (high - v))`` of one between bounds. Those of a
        parameter that the data do not identify are null.
    """
    check_fit(fit)
    z = normal_quantile(level)
    rows = []
    if fit.residual is not None:
        values, errors = fit.residual.estimates, standard_errors(fit)
        for parameter, value, error in zip(
            fit.residual.model.parameters, values.tolist(), errors.tolist(), strict=True
        ):
            low = high = np.nan
            if np.isfinite(error):
                centre, half = parameter.theta(value), z * error / parameter.slope(value)
                low, high = (float(parameter.value(centre + s * half)) for s in (-1.0, 1.0))
            rows.append((parameter.name, value, error, low, high))
    names = ("estimate", "std_error", "conf_low", "conf_high")
    schema = {"term": pl.String(), **dict.fromkeys(names, pl.Float64())}
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def standard_errors(fit: Fit) -> FloatArray:
    """Standard errors (k,) of the residual parameters.

    NaN where they are held, not identified, or at the end of their values.
    """
    found = information_of(fit)
    local = _differences(fit, found.coordinates)
    tangent = null_space(found.held)
    across = local.across @ tangent
    rest = tangent.T @ found.matrix @ tangent
    own = np.diagonal(rest)
    scale = 1.0 / np.sqrt(np.where(own > 0.0, own, 1.0))  # beta has the unit of the response
    inverse = np.linalg.pinv(rest * np.outer(scale, scale), rcond=1e-12, hermitian=True)
    across = across * scale
    values, vectors = np.linalg.eigh(-local.hessian - across @ inverse @ across.T)
    known = values > FLAT
    jacobian, moves = _jacobian(fit)
    loadings = jacobian @ vectors
    errors: FloatArray = np.sqrt((loadings[:, known] ** 2 / values[known]).sum(axis=1))
    unknown = np.linalg.norm(loadings[:, ~known], axis=1) > 1e-4 * np.linalg.norm(loadings, axis=1)
    assert fit.residual is not None, "there are parameters of a residual structure"
    outside = np.isin(fit.residual.names, fit.certificate.boundary)
    return np.where(unknown | outside | ~moves, np.nan, errors)


def information_lost(fit: Fit, coordinates: Coordinates) -> FloatArray:
    """What not knowing the residual parameters takes from the information of the others, (n, n).

    ``I_ut I_tt^-1 I_tu`` for the coordinates u.
    """
    if fit.residual is None:
        return np.zeros((coordinates.inward.shape[1],) * 2)
    local = _differences(fit, coordinates)
    inverse = np.linalg.pinv(-local.hessian, rcond=1e-10, hermitian=True)
    lost: FloatArray = local.across.T @ inverse @ local.across
    return lost


def _differences(fit: Fit, coordinates: Coordinates) -> Differences:
    """Derivatives of the log-likelihood by theta, and by theta and the coordinates."""
    residual = fit.residual
    assert residual is not None, "there are parameters of a residual structure"
    exact = residual.expand(fit.objective, coordinates.at)
    if exact is not None:
        return evolve(exact, across=exact.across @ coordinates.inward)

    at = coordinates.at

    def measure(objective: Objective) -> tuple[float, Callable[[], FloatArray]]:
        standard = objective.standardized()
        return float(standard.loglik(at)), lambda: standard.score(at)

    free = residual.theta[residual.free]
    slope, near = residual.around(free)
    found = differences(near, fit.objective, free, measure)
    if slope.any():
        found = _sheared(fit.objective, found, 2.0 * float(at.sigma2) * slope, at)
    return evolve(found, across=found.across @ coordinates.inward)


def _sheared(
    objective: Objective, found: Differences, slope: FloatArray, at: NaturalParams
) -> Differences:
    """With sigma2 held, from derivatives along which it changes by ``-slope`` (k,)."""
    standard = objective.standardized()
    score = float(standard.score(at)[-1])
    bend = -standard.observed_information(at)[-1]
    both = np.outer(slope, found.across[:, -1])
    twice = bend[-1] + score / float(at.sigma2)
    across = found.across + np.outer(slope, bend)
    across[:, -1] += slope * score / float(at.sigma2)
    return Differences(
        gradient=found.gradient + score * slope,
        hessian=found.hessian + both + both.T + twice * np.outer(slope, slope),
        across=across,
    )


def _jacobian(fit: Fit) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Derivatives (k, f) of the parameters by the free elements of theta; which of them move."""
    residual = fit.residual
    assert residual is not None, "there are parameters of a residual structure"
    every = np.arange(len(residual.theta), dtype=np.int32)
    by_theta = slopes(residual.model.values, residual.theta, every)
    jacobian: FloatArray = by_theta @ residual.tangent()
    moves = np.linalg.norm(jacobian, axis=1) > _STILL * np.linalg.norm(by_theta, axis=1)
    return jacobian, moves
