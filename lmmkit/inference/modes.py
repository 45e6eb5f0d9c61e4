"""Conditional modes of the random effects (BLUPs) and their conditional covariances."""

import numpy as np
import polars as pl

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.levels import level_terms
from lmmkit.inference.parameters import effect_names
from lmmkit.linalg import block_diagonal, cholesky, psd_factor, solve_lower
from lmmkit.records import FloatArray, adopt


def random_effects(fit: Fit) -> pl.DataFrame:
    """One row a group, level and effect: the conditional mode and its standard error.

    ``b = Psi Z'V^-1 (y - X beta)``, at the estimates. The standard error is conditional on the
    data, beta and the variances taken as known, as lme4's ``condVar`` is.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    polars.DataFrame
        ``group, level, term, estimate, std_error``: terms in the formula's order, each one's
        levels in their own. A level without rows has mode 0 and its prior standard deviation. Where
        random terms have labels of different types, ``level`` is text.
    """
    check_fit(fit)
    design = fit.design
    if not design.terms:
        return pl.DataFrame(
            schema={
                "group": pl.String,
                "level": pl.String,
                "term": pl.String,
                "estimate": pl.Float64,
                "std_error": pl.Float64,
            }
        )
    parts = zip(
        design.terms,
        effect_names(design),
        _modes(fit),
        random_effects_covariance(fit),
        strict=True,
    )
    one_type = len({term.levels.dtype for term in design.terms}) == 1
    frames = []
    for term, names, modes, covariance in parts:
        m, q = modes.shape
        levels = term.levels if one_type else term.levels.cast(pl.String)
        variances = np.diagonal(covariance, axis1=1, axis2=2)
        frames.append(
            pl.DataFrame(
                {
                    "group": pl.repeat(term.group, m * q, eager=True),
                    "level": levels.gather(np.repeat(np.arange(m), q)),
                    "term": pl.Series(names).gather(np.tile(np.arange(q), m)),
                    "estimate": modes.ravel(),
                    "std_error": np.sqrt(variances).ravel(),
                }
            )
        )
    return pl.concat(frames)


def random_effects_covariance(fit: Fit) -> tuple[FloatArray, ...]:
    """The conditional covariance of every level's effects: lme4's ``condVar`` in full.

    ``Psi - Psi Z'V^-1Z Psi``, computed as ``sigma2 T (I + T'Z'ZT)^-1 T'`` with T the relative
    covariance factor, so that it is positive semidefinite, at a singular Psi too.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    tuple of ndarray (m_k, q_k, q_k)
        One a random term, in the order of its levels; Psi for a level without rows.
    """
    check_fit(fit)
    design, moments = fit.design, fit.objective.moments
    basis = moments.basis
    if not design.terms:
        return ()
    factor = block_diagonal([psd_factor(p) for p in basis.standard_psi(fit.profile.psi_rel)])
    q, m = len(factor), len(moments.factors[0].levels)
    products = np.ascontiguousarray(np.moveaxis(moments.factors[0].zz, 0, -1))
    half = (factor.T @ products.reshape(q, q * m)).reshape(q, q, m)
    M = np.einsum("ikm,kj->ijm", half, factor)
    M[np.arange(q), np.arange(q)] += 1.0
    across = block_diagonal(basis.z) @ factor
    root = solve_lower(cholesky(M), np.broadcast_to(across.T[..., None], (*across.T.shape, m)))
    covariances, start = [], 0
    for term, psi in zip(design.terms, fit.natural.psi, strict=True):
        own = root[:, start : start + term.q]
        covariance = np.empty((len(term.levels), term.q, term.q))
        covariance[:] = psi
        products = np.einsum("kim,kjm->mij", own, own)
        covariance[moments.factors[0].levels] = fit.natural.sigma2 * products
        covariances.append(adopt(covariance))
        start += term.q
    return tuple(covariances)


def _modes(fit: Fit) -> tuple[FloatArray, ...]:
    """The modes (m_k, q_k) of each term, in the units of the data."""
    terms = fit.design.terms
    found = level_terms(fit)
    user = found.modes @ block_diagonal(fit.objective.moments.basis.z).T
    full = np.zeros((len(found.position), user.shape[1]))
    full[found.position >= 0] = user[found.position[found.position >= 0]]
    return tuple(np.split(full, np.cumsum([term.q for term in terms])[:-1], axis=1))
