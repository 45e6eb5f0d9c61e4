"""Where a fit starts when nobody says so."""

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import psd_factor
from lmmkit.moments.moments import Moments
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray

_SMALLEST, _LARGEST = 1e-3, 1e2


def standard_start(objective: Objective) -> SquareRootParams:
    """Uncorrelated random effects, in standard coordinates.

    With one grouping factor they contribute as much variance as the residual does; with several,
    as much as :func:`variance_ratios` says.
    """
    moments = objective.moments
    ratios: dict[int, float] = {}
    if not objective.system.one_factor:
        for factor, ratio in zip(moments.factors, variance_ratios(moments), strict=True):
            ratios |= dict.fromkeys(factor.terms, float(ratio))
    share = [ratios.get(k, 1.0 / max(q, 1)) for k, q in enumerate(moments.sizes)]
    factors = [np.sqrt(s) * np.eye(q) for s, q in zip(share, moments.sizes, strict=True)]
    theta = [
        None if term is None else term.start(s)
        for s, term in zip(share, objective.structures, strict=bool(objective.structures))
    ]
    return with_theta(objective, tuple(factors), tuple(theta))


def with_theta(
    objective: Objective, factors: tuple[FloatArray, ...], theta: tuple[FloatArray | None, ...]
) -> SquareRootParams:
    """Standard factors, those of structured terms from theta."""
    if not theta:
        return SquareRootParams(factors)
    own = [
        T if term is None or part is None else psd_factor(term.standard(part))
        for T, term, part in zip(factors, objective.structures, theta, strict=True)
    ]
    return SquareRootParams(tuple(own), theta=theta)


def variance_ratios(moments: Moments) -> FloatArray:
    """Moment estimates of one variance a factor, over sigma2, within sensible bounds.

    The sums ``(z'y)^2 / z'z`` over a factor's columns z have expectations that are linear in the
    variances, with the squares of ``Z_k'Z_l`` for coefficients, and so has y'y (Henderson 1953,
    method 1, the fixed effects taken as known).
    """
    n = len(moments.factors)
    coefficients, observed = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
    coefficients[n, n], observed[n] = moments.n_obs, float(moments.yy)
    inverses = []
    for k, factor in enumerate(moments.factors):
        own = np.einsum("mqq->mq", factor.zz)
        inverse = np.divide(1.0, own, out=np.zeros_like(own), where=own > 0)
        inverses.append(inverse)
        observed[k] = (factor.zy**2 * inverse).sum()
        coefficients[k, k] = (factor.zz**2 * inverse[:, :, None]).sum()
        coefficients[k, n], coefficients[n, k] = (own > 0).sum(), own.sum()
    for pair in moments.pairs:
        a, b = pair.first, pair.second
        squares = pair.zz**2
        rows = moments.factors[a].positions(pair.rows)
        columns = moments.factors[b].positions(pair.columns)
        coefficients[a, b] += (squares * inverses[a][rows][:, :, None]).sum()
        coefficients[b, a] += (squares * inverses[b][columns][:, None, :]).sum()
    variances = np.linalg.lstsq(coefficients, observed, rcond=None)[0]
    residual = max(variances[n], 0.05 * observed[n] / moments.n_obs)
    return np.clip(variances[:n] / residual, _SMALLEST, _LARGEST) if residual else np.ones(n)
