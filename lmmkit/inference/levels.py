"""What every level's rows say, at the estimates: for modes, predictions and their variances.

In standard coordinates, relative to sigma2, with ``V = I + Z D Z'`` of a level's rows and
``C = X'V^-1X`` over all rows, the mixed-model equations give

    b_hat = D s,    s = Z'V^-1(y - X beta_hat),
    Var(x'beta_hat + z'(b_hat - b)) = sigma2 (z'(D - D W D) z + a'C^-1 a),    a = x - B'D z.
"""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.likelihood.grouped import eliminate, group_terms
from lmmkit.linalg import block_diagonal, semidefinite_cholesky, solve_lower
from lmmkit.moments.collapse import Patterns, no_levels
from lmmkit.records import FloatArray, IntArray, adopt, float_array, int_array, record


@record
class LevelTerms:
    """Per-level quantities at the estimates of a fit; the columns of all terms side by side.

    Attributes
    ----------
    position : ndarray (codes,) of int32
        Where each level code stands in the arrays below; -1 for a level without rows.
    D : ndarray (q, q)
        Relative covariance of the random effects.
    W : ndarray (m, q, q)
        ``Z'V^-1Z``.
    B : ndarray (m, q, p)
        ``Z'V^-1X``.
    modes : ndarray (m, q)
        Conditional modes ``D s``.
    C : ndarray (p, p)
        ``X'V^-1X`` over all rows.
    """

    position: IntArray = int_array(1)
    D: FloatArray = float_array(2)
    W: FloatArray = float_array(3)
    B: FloatArray = float_array(3)
    modes: FloatArray = float_array(2)
    C: FloatArray = float_array(2)


def level_terms(fit: Fit) -> LevelTerms:
    """The levels of ``fit``, each on its own: O(m q^2 (q + p))."""
    moments = fit.objective.moments
    natural = fit.natural
    D = block_diagonal([p / natural.sigma2 for p in moments.basis.standard_psi(natural.psi)])
    patterns = _each_level(fit)
    terms = group_terms(patterns, eliminate(patterns, D))
    B = np.moveaxis(terms.projected[:, :-1], -1, 0)
    Zy = terms.projected[:, -1].T
    s = Zy - B @ moments.basis.standard_beta(_beta(fit))
    codes = max((len(term.levels) for term in fit.design.terms), default=0)
    position = np.full(codes, -1, dtype=np.int32)
    for factor in moments.factors:
        position[factor.levels] = np.arange(len(factor.levels))
    return LevelTerms(
        position=position,
        D=D,
        W=np.moveaxis(terms.W, -1, 0),
        B=B,
        modes=s @ D,
        C=fit.objective.locate(D).point.C,
    )


def _each_level(fit: Fit) -> Patterns:
    moments = fit.objective.moments
    levels = moments.factors[0] if moments.factors else no_levels(moments)
    m = len(levels.levels)
    p = len(moments.xx)
    factor = semidefinite_cholesky(np.ascontiguousarray(np.moveaxis(levels.zz, 0, -1)))
    both = np.concatenate([levels.zx, levels.zy[..., None]], axis=-1)
    return Patterns(
        factor=factor,
        count=np.ones(m),
        inside=solve_lower(factor, np.ascontiguousarray(np.moveaxis(both, 0, -1))),
        pattern=np.arange(m, dtype=np.int32),
        outside=np.zeros((p + 1, p + 1)),
    )


def standard_columns(
    fit: Fit, X: FloatArray, Z: tuple[FloatArray, ...]
) -> tuple[FloatArray, FloatArray]:
    """Rows of X (n, p) and of all terms' Z (n, q) in the standard coordinates of the fit."""
    basis = fit.objective.moments.basis
    parts = [z @ c for z, c in zip(Z, basis.z, strict=True)]
    return X @ basis.x, np.concatenate([*parts, X[:, :0]], axis=1)


def mean(fit: Fit, X: FloatArray, offset: FloatArray | None) -> FloatArray:
    """``offset + X beta``."""
    fitted: FloatArray = X @ _beta(fit)
    return fitted if offset is None else fitted + offset


def random_part(fit: Fit) -> FloatArray:
    """``Z b`` at the conditional modes, for the rows of the fit."""
    design = fit.design
    if not design.terms:
        return np.zeros(design.n_obs)
    levels = level_terms(fit)
    Z = standard_columns(fit, design.X, tuple(term.Z for term in design.terms))[1]
    modes = levels.modes[levels.position[design.terms[0].codes]]
    total: FloatArray = (Z * modes).sum(axis=1)
    return adopt(total)


def _beta(fit: Fit) -> FloatArray:
    beta = fit.natural.beta
    assert beta is not None, "the estimates of a fit hold beta"
    return beta
