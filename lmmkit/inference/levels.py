"""What every level's rows say, at the estimates: for modes, predictions and their variances.

In standard coordinates, relative to sigma2, with ``V = I + Z D Z'`` over all rows and effects and
``C = X'V^-1X``, the mixed-model equations give

    b_hat = D Z'V^-1(y - X beta_hat),
    Var(x'beta_hat + g'(b_hat - b)) = sigma2 (g'P g + a'C^-1 a),
    P = D - D Z'V^-1Z D,    a = x - X'V^-1Z D g,

where g is what a row loads on each effect. With a known covariance ``K = R R'`` between the levels
the equations are those of independent effects u, and ``b = (R x I) u``.
"""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.loadings import Loadings, fitted_rows, new_loadings, standard_rows
from lmmkit.likelihood.elimination import eliminate
from lmmkit.likelihood.system import System
from lmmkit.likelihood.terms import FactorTerms, Terms, all_terms
from lmmkit.linalg import block_diagonal
from lmmkit.moments.collapse import collapse
from lmmkit.moments.factors import FactorMoments
from lmmkit.records import FloatArray, IntArray, adopt, evolve, float_array, int_array, record


@record
class FactorLevels:
    """The levels of one grouping factor; the columns of all terms on it side by side.

    Attributes
    ----------
    position : ndarray (codes,) of int32
        Where each level code stands in the arrays below; -1 for a level of which nothing is known.
    D : ndarray (q, q)
        Relative covariance of a level's effects.
    modes : ndarray (m, q)
        Conditional modes of b.
    DB : ndarray (m, q, p)
        ``Cov(b, y) V^-1 X``, relative.
    """

    position: IntArray = int_array(1)
    D: FloatArray = float_array(2)
    modes: FloatArray = float_array(2)
    DB: FloatArray = float_array(3)


@record
class Levels:
    """The levels of all grouping factors at the estimates of a fit.

    Attributes
    ----------
    factors : tuple of FactorLevels
        In the order of the moments' factors.
    terms : Terms
        What they come from; ``W_each`` and ``projected`` are of every level.
    C : ndarray (p, p)
        ``X'V^-1X`` over all rows.
    """

    factors: tuple[FactorLevels, ...]
    terms: Terms
    C: FloatArray = float_array(2)


def levels_of(fit: Fit) -> Levels:
    """The levels of ``fit``, each on its own."""
    moments = fit.objective.moments
    beta = moments.basis.standard_beta(_beta(fit))
    terms = level_terms(fit)
    found = {own.factor: own for own in terms.factors}
    factors = []
    for number, factor in enumerate(moments.factors):
        if number in found:
            factors.append(_factor_levels(fit, factor, found[number], terms, beta))
        else:
            nothing = np.zeros((0, 0, len(beta)))
            nowhere = np.full(_codes(fit, factor), -1, dtype=np.int32)
            factors.append(FactorLevels(nowhere, np.zeros((0, 0)), np.zeros((0, 0)), nothing))
    return Levels(tuple(factors), terms, np.asarray(terms.elimination.products[:-1, :-1]))


def level_terms(fit: Fit) -> Terms:
    """The terms at the estimates with every level on its own, also where there is one factor."""
    return all_terms(eliminate(_each_level(fit), relative_covariance(fit), kept=True))


def relative_covariance(fit: Fit) -> FloatArray:
    """D at the estimates."""
    return block_diagonal(fit.objective.moments.basis.standard_psi(fit.profile.psi_rel))


def _each_level(fit: Fit) -> System:
    system, moments = fit.objective.system, fit.objective.moments
    if not system.one_factor or not system.nodes[0].factors:
        return system
    factor = moments.factors[system.nodes[0].factors[0]]
    return evolve(system, first=collapse(moments, factor, stand_ins=False))


def _factor_levels(
    fit: Fit, factor: FactorMoments, own: FactorTerms, terms: Terms, beta: FloatArray
) -> FactorLevels:
    moments = fit.objective.moments
    D = terms.elimination.D[own.columns[:, None], own.columns]
    DB = np.einsum("ab,brm->mar", D, own.terms.projected)
    position = np.full(_codes(fit, factor), -1, dtype=np.int32)
    relation = moments.relation(factor)
    if relation is None:
        position[factor.levels] = np.arange(len(factor.levels))
    else:
        DB = np.tensordot(relation.root, DB, 1)
        position[:] = np.arange(len(position))
    modes = DB[..., -1] - DB[..., :-1] @ beta
    return FactorLevels(position, D, adopt(modes), adopt(DB[..., :-1]))


def _codes(fit: Fit, factor: FactorMoments) -> int:
    """The number of level codes there are."""
    return max(len(fit.design.terms[k].levels) for k in factor.terms)


def mean(fit: Fit, X: FloatArray, offset: FloatArray | None) -> FloatArray:
    """``offset + X beta``."""
    fitted: FloatArray = X @ _beta(fit)
    return fitted if offset is None else fitted + offset


def random_part(fit: Fit) -> FloatArray:
    """``Z b`` at the conditional modes, for the rows of the fit."""
    if not fit.design.terms:
        return np.zeros(fit.design.n_obs)
    rows = new_loadings(fit.design, fitted_rows(fit.design))
    return modes_part(levels_of(fit), standard_rows(fit, rows))


def modes_part(levels: Levels, rows: tuple[Loadings, ...]) -> FloatArray:
    """``g'b`` at the conditional modes, for rows in standard coordinates; new levels add 0."""
    total: FloatArray = np.zeros(len(rows[0].Z))
    for factor, loadings in zip(levels.factors, rows, strict=True):
        for codes, Z in loadings.memberships():
            place = at(factor.position, codes)
            if len(factor.modes):
                total += (place >= 0) * np.vecdot(Z, factor.modes[place])
    return adopt(total)


def at(position: IntArray, codes: IntArray) -> IntArray:
    """Where codes stand, -1 for those of new levels."""
    place: IntArray = np.where(codes >= 0, position[codes], -1)
    return place


def _beta(fit: Fit) -> FloatArray:
    """Beta."""
    beta = fit.natural.beta
    assert beta is not None, "the estimates of a fit hold beta"
    return beta
