"""Conditional modes of the random effects (BLUPs) and their conditional covariances."""

import numpy as np
import polars as pl

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.levels import Levels, levels_of
from lmmkit.inference.uncertainty import factor_covariances
from lmmkit.likelihood.reported import effect_names
from lmmkit.linalg import block_diagonal
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
        levels in their own. A level without rows has mode 0 and its prior standard deviation,
        unless a known covariance ties it to levels with rows. Where random terms have labels of
        different types, ``level`` is text.
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
    found = levels_of(fit)
    covariances = _by_term(fit, _covariances(fit, found))
    parts = zip(design.terms, effect_names(design), _modes(fit, found), covariances, strict=True)
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


def random_effects_covariance(fit: Fit, *, joint: bool = False) -> tuple[FloatArray, ...]:
    """The conditional covariance of every level's effects: lme4's ``condVar`` in full.

    ``Psi - Psi Z'V^-1Z Psi``, computed as ``sigma2 T (I + T'S T)^-1 T'`` with T the relative
    covariance factor and S what the rows say of the level's effects, so that it is positive
    semidefinite, at a singular Psi too. Other levels' effects are integrated out.

    Parameters
    ----------
    fit : Fit
    joint : bool
        Of all terms on a grouping factor together: the covariance between the effects that
        different terms give to one level is in it.

    Returns
    -------
    tuple of ndarray (m_k, q_k, q_k)
        One a random term, in the order of its levels; Psi for a level without rows. If joint, one a
        grouping factor, in the order of their first terms, with the effects of its terms side by
        side.
    """
    check_fit(fit)
    if not isinstance(joint, bool):
        raise ArgumentError(
            f"random_effects_covariance: expected joint to be True or False, got {joint!r}"
        )
    if not fit.design.terms:
        return ()
    together = _covariances(fit, levels_of(fit))
    return together if joint else _by_term(fit, together)


def _covariances(fit: Fit, found: Levels) -> tuple[FloatArray, ...]:
    """Of all terms on each grouping factor together."""
    moments, together = fit.objective.moments, []
    for number, (factor, levels) in enumerate(zip(moments.factors, found.factors, strict=True)):
        known = levels.position >= 0
        across = block_diagonal([moments.basis.z[k] for k in factor.terms])
        own = factor_covariances(moments, found.terms, number)
        covariance = np.empty((len(known), *(len(across),) * 2))
        covariance[:] = block_diagonal([fit.natural.psi[k] for k in factor.terms])
        here = levels.position[known]
        covariance[known] = fit.natural.sigma2 * (across @ own[here] @ across.T)
        together.append(adopt(covariance))
    return tuple(together)


def _by_term(fit: Fit, together: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    found = {}
    for factor, covariance in zip(fit.objective.moments.factors, together, strict=True):
        start = 0
        for k in factor.terms:
            term = fit.design.terms[k]
            block = slice(start, start + term.q)
            found[k] = adopt(covariance[: len(term.levels), block, block].copy())
            start += term.q
    return tuple(found[k] for k in range(len(found)))


def _modes(fit: Fit, found: Levels) -> tuple[FloatArray, ...]:
    """The modes (m_k, q_k) of each term, in the units of the data."""
    design, moments = fit.design, fit.objective.moments
    terms = {}
    for factor, levels in zip(moments.factors, found.factors, strict=True):
        known = levels.position >= 0
        across = block_diagonal([moments.basis.z[k] for k in factor.terms])
        full = np.zeros((len(known), len(across)))
        full[known] = levels.modes[levels.position[known]] @ across.T
        ends = np.cumsum([design.terms[k].q for k in factor.terms])[:-1]
        for k, modes in zip(factor.terms, np.split(full, ends, axis=1), strict=True):
            terms[k] = modes[: len(design.terms[k].levels)]
    return tuple(terms[k] for k in range(len(terms)))
