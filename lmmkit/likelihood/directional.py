"""What second derivatives need, for all directions E, F of the relative covariances.

With one grouping factor levels are independent, and a sum over them is all; with several, the
elimination ties them (:mod:`lmmkit.likelihood.coupled`, :mod:`lmmkit.likelihood.weighted`).
"""

import numpy as np

from lmmkit.likelihood.coupled import trace_products
from lmmkit.likelihood.directions import direction_blocks
from lmmkit.likelihood.pieces import Pieces
from lmmkit.likelihood.sums import beta_delta, between, level_sums
from lmmkit.likelihood.terms import Terms
from lmmkit.likelihood.weighted import inner_products
from lmmkit.records import FloatArray, computed_array, evolve, record


@record
class Directional:
    """For n directions.

    Attributes
    ----------
    trace : ndarray (..., n, n)
        ``sum tr(W E W F)``.
    inner : ndarray (..., n, n)
        ``sum r'E W F r`` over the residuals' s / sigma and the columns of ``B C^-1/2``.
    beta_delta : ndarray (..., p, n)
        ``sum B'E s``.
    determinant : ndarray (..., n, n)
        ``tr(C^-1 sum B'E B C^-1 sum B'F B)``.
    """

    trace: FloatArray = computed_array()
    inner: FloatArray = computed_array()
    beta_delta: FloatArray = computed_array()
    determinant: FloatArray = computed_array()


def directional(
    parts: Pieces,
    sizes: tuple[int, ...],
    *,
    trace: bool = True,
    residual: bool = True,
    leverage: bool = True,
    rough: bool = False,
) -> Directional:
    """All sums at one point.

    Parameters
    ----------
    parts : Pieces
    sizes : tuple of int
        Number of effects of each term.
    trace : bool
        Whether the trace is wanted; it is dear where factors are crossed.
    residual, leverage : bool
        Whether ``inner`` has the residuals' part, and under REML that of B.
    rough : bool
        Whether six digits of the trace are enough.
    """
    point, totals = parts.point, parts.elimination.totals
    if parts.terms is not None and parts.terms.coupling is not None:
        several = _of_several(parts, parts.terms, sizes, residual, leverage)
        if not trace:
            return several
        across = direction_blocks(sizes)
        return evolve(several, trace=trace_products(parts.terms, across, rough=rough))
    if totals is None:
        sums = level_sums(parts.factors[0], sizes, residual=residual)
    else:
        sums = totals.level_sums(point.C, point.beta, parts.restricted, sizes)
    return Directional(
        trace=sums.trace,
        inner=leverage * sums.leverage + residual * sums.residual / point.sigma2[..., None, None],
        beta_delta=sums.beta_delta,
        determinant=_determinant(parts, sums.between),
    )


def _of_several(
    parts: Pieces,
    terms: Terms,
    sizes: tuple[int, ...],
    residual: bool,
    leverage: bool,
) -> Directional:
    """Of several grouping factors, but the trace."""
    leverage = leverage and parts.restricted
    across = direction_blocks(sizes)
    n, p = across.shape[-1], parts.point.C.shape[-1]
    mixed: FloatArray = np.zeros((p, n))
    explained: FloatArray = np.zeros((n, p, p))
    for factor in parts.factors:
        mixed = mixed + beta_delta(factor, sizes)
        if leverage:
            explained = explained + between(factor, sizes)
    return Directional(
        trace=np.zeros((n, n)),
        inner=inner_products(terms, _columns_of(parts, residual, leverage), across),
        beta_delta=mixed,
        determinant=_determinant(parts, explained),
    )


def _determinant(parts: Pieces, between: FloatArray) -> FloatArray:
    solved = np.linalg.solve(parts.point.C[..., None, :, :], between)
    product: FloatArray = np.einsum("...iab,...jba->...ij", solved, solved)
    return product


def _columns_of(parts: Pieces, residual: bool, leverage: bool) -> list[FloatArray]:
    """Of each factor, ``s / sigma`` and ``B C^-1/2``: (q, r, m)."""
    root = _semidefinite_root(np.linalg.inv(parts.point.C)) if leverage else None
    found = []
    for factor in parts.factors:
        columns = [factor.B[:, :0]]
        if residual:
            columns.append(factor.s[:, None] / np.sqrt(parts.point.sigma2))
        if root is not None:
            columns.append(np.einsum("apk,pr->ark", factor.B, root))
        found.append(np.concatenate(columns, axis=1))
    return found


def _semidefinite_root(a: FloatArray) -> FloatArray:
    """R of ``a = R R'``; rounding can take an inverse past the edge of what Cholesky accepts."""
    values, vectors = np.linalg.eigh(a)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
