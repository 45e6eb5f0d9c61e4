"""The estimated parameters by name, and the covariance of their estimates."""

import math

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.information import information_of
from lmmkit.inference.residual_parameters import information_lost
from lmmkit.likelihood.reported import Parameter, reported
from lmmkit.linalg import null_space, vech
from lmmkit.records import FloatArray
from lmmkit.structures.contract import Kind

_FLAT, _FLAT_BESIDE_RESIDUAL = 1e-9, 2e-6
_LOADING = 1e-4
_NOTHING = 1e-8
_ROUNDING = 1e-12


def parameters(fit: Fit) -> tuple[Parameter, ...]:
    """The parameters in the order in which :meth:`NaturalParams.pack` has them.

    Returns
    -------
    tuple of Parameter
        Fixed effects, each random term's lower triangle row by row, or the parameters of its
        covariance structure, the residual variance.
    """
    check_fit(fit)
    return reported(fit.design, fit.objective.structures)


def parameter_values(fit: Fit) -> FloatArray:
    """The estimates in the order of :func:`parameters`; variances and covariances as such.

    A standard deviation of a covariance structure is one, not a variance, and positive.
    """
    check_fit(fit)
    natural, theta = fit.natural, fit.optimum.theta
    sigma = float(np.sqrt(natural.sigma2))
    parts = [vech(psi) for psi in natural.psi]
    for k, term in enumerate(fit.objective.structures):
        own = theta[k]
        if term is not None and own is not None:
            sd = np.array([x.kind is Kind.SD for x in term.quantities])
            values = term.natural(own, sigma)
            parts[k] = np.where(sd, np.abs(values), values)
    assert natural.beta is not None
    return np.concatenate([natural.beta, *parts, [natural.sigma2]])


def parameter_covariance(fit: Fit) -> FloatArray:
    """Covariance of the estimates: the inverse of the full observed information.

    Beta, every Psi, sigma2 and the residual structure's parameters are in it together, on the
    natural scale; the latter have no rows here.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    ndarray (n, n)
        In the order of :func:`parameters`, in their units. Rows and columns are NaN for a
        parameter without a standard error: one that is held, one that belongs to an effect whose
        variance is zero, and one that the data do not identify (the likelihood is flat or not at a
        maximum along it).

    Notes
    -----
    An effect whose variance is zero counts as left out. A Psi that is singular although no
    variance is zero (a correlation of one) counts as one of known rank r: the information is that
    of the likelihood on the surface of the matrices of rank r, curvature of the surface included.
    Under a covariance structure it is that of theta, and the delta method leads to the parameters
    that are reported; one at a bound has no standard error.
    """
    check_fit(fit)
    found = information_of(fit)
    coordinates = found.coordinates
    information = found.matrix - information_lost(fit, coordinates)
    least = _NOTHING * fit.objective.degrees_of_freedom / coordinates.unit**2
    unknown = np.diagonal(information) < least
    information[unknown] = information[:, unknown] = 0.0
    # the sums beside a residual structure lose more digits
    flat = _FLAT if fit.residual is None else _FLAT_BESIDE_RESIDUAL
    covariance = _inverse(information, coordinates.outward, found.held, coordinates.unit, flat)
    without = ~fit.objective.free | coordinates.at_bound
    covariance[without] = np.nan
    covariance[:, without] = np.nan
    return covariance


def _inverse(
    information: FloatArray, across: FloatArray, held: FloatArray, unit: FloatArray, flat: float
) -> FloatArray:
    """``across information^-1 across'`` where ``held`` is zero; NaN for what is not identified."""
    diagonal = np.abs(np.diagonal(information))
    scale = np.where(np.isfinite(unit), unit, 1.0)
    scale[diagonal > 0] = 1.0 / np.sqrt(diagonal[diagonal > 0])
    across = across * scale
    constraints = held * scale
    tangent = null_space(constraints)
    across = across @ tangent
    values, vectors = np.linalg.eigh(tangent.T @ (information * np.outer(scale, scale)) @ tangent)
    known = values > flat
    loadings = across @ vectors
    size = np.linalg.norm(loadings, axis=1)
    unknown = np.linalg.norm(loadings[:, ~known], axis=1) > _LOADING * size
    root = loadings[:, known] / np.sqrt(values[known])
    covariance: FloatArray = root @ root.T
    without = unknown | (size == 0)
    covariance[without] = np.nan
    covariance[:, without] = np.nan
    return covariance


def correlation(covariance: float, first: float, second: float) -> float:
    """From a covariance and two variances; NaN beside a variance of zero.

    Exactly 1 or -1 where it differs from that by rounding.
    """
    scale = math.sqrt(max(first, 0.0)) * math.sqrt(max(second, 0.0))
    ratio = covariance / scale if scale else math.nan
    return math.copysign(1.0, ratio) if abs(ratio) > 1.0 - _ROUNDING else ratio
