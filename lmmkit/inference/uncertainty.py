"""Conditional covariances ``P = (D^-1 + Z'Z)^-1`` of random effects, a part of them at a time.

P is never formed. Given the effects of all later stages of the elimination, those of stage k have
the covariance ``T (I + T'S T)^-1 T'`` of each level, and depend on the later ones through ``-D C``
(see :mod:`lmmkit.likelihood.terms`). So ``g'P g`` is a sum over the stages of g's parts, where a
part ``g_k`` changes the later ones to ``g_l - C_l'D g_k``: squares only, at a singular D too.
"""

from typing import Any

import numpy as np

from lmmkit.inference.levels import FactorLevels, Levels, at
from lmmkit.inference.loadings import Loadings
from lmmkit.likelihood.elimination import own
from lmmkit.likelihood.sparse import Sparse, block_diagonal
from lmmkit.likelihood.terms import Terms
from lmmkit.linalg import cholesky, psd_factor, solve_lower
from lmmkit.moments.factors import FactorMoments
from lmmkit.moments.moments import Moments
from lmmkit.records import FloatArray, IntArray, adopt

_ROWS_AT_A_TIME = 8_192
_ENTRIES = 4_000_000


def factor_covariances(moments: Moments, terms: Terms, number: int) -> FloatArray:
    """P of each level's effects b, (m, q, q), for the levels that have a place in the arrays."""
    system = terms.elimination.system
    for k, node in enumerate(system.nodes):
        if number not in node.factors:
            continue
        if k < system.last or terms.coupling is None:
            given = np.moveaxis(_given_later(terms, k), -1, 0)
            if terms.coupling is None:
                return given
            D = own(terms.elimination.D, node)
            return given + D @ terms.coupling.below[k] @ D
        which = node.factors.index(number)
        rows = slice(node.starts[which], node.starts[which + 1])
        assert terms.elimination.remainder is not None
        remainder, selected = terms.elimination.remainder, terms.coupling.selected
        relation = moments.relation(moments.factors[number])
        if relation is None:
            return adopt(selected[system.layout.at(*node.level_blocks(which))])
        inverse, q = remainder.inverse(selected)[rows, rows], len(node.columns[which])
        m = len(relation.root)
        left = np.tensordot(relation.root, inverse.reshape(m, q, m, q), 1)
        return adopt(np.einsum("iakb,ik->iab", left, relation.root))
    return np.zeros((0, 0, 0))


def row_variances(moments: Moments, levels: Levels, rows: tuple[Loadings, ...]) -> FloatArray:
    """``g'P g`` of rows in standard coordinates; new levels have their prior variance."""
    if len(rows) == 1 and levels.terms.coupling is None and rows[0].codes.ndim == 1:
        return _one_level_each(levels, rows[0])
    terms, n = levels.terms, len(rows[0].Z)
    system = terms.elimination.system
    order: IntArray = np.arange(n, dtype=np.int32)
    if system.nodes[0].factors:
        codes = rows[system.nodes[0].factors[0]].codes
        codes = codes if codes.ndim == 1 else codes[:, 0]
        order = np.argsort(codes, kind="stable").astype(np.int32)
    chain = range(system.last if terms.coupling is not None else 1)
    given = {k: block_diagonal(_given_later(terms, k)) for k in chain}
    step = max(1, min(_ROWS_AT_A_TIME, _ENTRIES // max(1, system.nodes[-1].starts[-1])))
    remainder = terms.elimination.remainder
    K: FloatArray = np.zeros((0, 0))
    if terms.coupling is not None and remainder is not None:
        K = remainder.inverse(terms.coupling.selected)
    total = np.empty(n)
    for start in range(0, n, step):
        some = order[start : start + step]
        total[some] = _variances(moments, levels, _chosen(rows, some), given, K)
    return total


def _one_level_each(levels: Levels, rows: Loadings) -> FloatArray:
    """Where the levels are independent and a row has one of them."""
    (factor,) = levels.factors
    place = at(factor.position, rows.codes)
    given = np.moveaxis(_given_later(levels.terms, 0), -1, 0)
    each = np.concatenate([given, factor.D[None]])[place]
    product: FloatArray = np.vecdot(rows.Z, np.einsum("na,nab->nb", rows.Z, each))
    return product


def explained(levels: Levels, rows: tuple[Loadings, ...], p: int) -> FloatArray:
    """``X'V^-1Z D g`` of each row, (n, p)."""
    total: FloatArray = np.zeros((len(rows[0].Z), p))
    for factor, loadings in zip(levels.factors, rows, strict=True):
        for codes, Z in loadings.memberships():
            place = at(factor.position, codes)
            if len(factor.DB):
                known = (place >= 0).astype(np.float64)
                total += known[:, None] * np.einsum("na,nap->np", Z, factor.DB[place])
    return total


def _chosen(rows: tuple[Loadings, ...], some: IntArray) -> tuple[Loadings, ...]:
    return tuple(
        Loadings(r.terms, r.Z[some], r.codes[some], None if r.loads is None else r.loads[some])
        for r in rows
    )


def _variances(
    moments: Moments,
    levels: Levels,
    rows: tuple[Loadings, ...],
    given: dict[int, Sparse],
    K: FloatArray,
) -> FloatArray:
    """Rows that share levels of the first stage, side by side, share most of the work."""
    terms, coupling = levels.terms, levels.terms.coupling
    system = terms.elimination.system
    last = system.last
    total: FloatArray = np.zeros(len(rows[0].Z))
    for factor, loadings in zip(levels.factors, rows, strict=True):
        for codes, Z in loadings.memberships():
            new = at(factor.position, codes) < 0
            if new.any():
                total[new] += np.einsum("na,ab,nb->n", Z[new], factor.D, Z[new])
    loaded: dict[int, Any] = {
        k: _by_stage(moments, levels, rows, k)
        for k, node in enumerate(system.nodes)
        if node.starts[-1]
    }
    dense: Any = loaded[last] @ K if len(K) else None
    for k, own_part in given.items():
        if k not in loaded:
            continue
        mine = loaded.pop(k)
        total += _products(mine, mine @ own_part)
        if coupling is None or not coupling.C[k]:
            continue
        D = own(terms.elimination.D, system.nodes[k])
        moved = mine @ block_diagonal(
            np.broadcast_to(D[..., None], (*D.shape, mine.shape[1] // len(D)))
        )
        for to, part in coupling.C[k].items():
            loaded[to] = loaded[to] - moved @ part
            if to == last:
                used = np.unique(moved.indices)
                dense -= moved[:, used] @ (part[used] @ K)
    return total if dense is None else total + _products(loaded[last], dense)


def _products(rows: Sparse, others: Any) -> FloatArray:
    """The inner product of each row with the same row of a sparse or dense matrix."""
    if not isinstance(others, np.ndarray):
        return np.asarray(rows.multiply(others).sum(axis=1))
    entries = rows.tocoo()
    values = entries.data * others[entries.row, entries.col]
    return np.asarray(np.bincount(entries.row, values, rows.shape[0]), dtype=np.float64)


def _by_stage(moments: Moments, levels: Levels, rows: tuple[Loadings, ...], k: int) -> Sparse:
    """What rows load on the effects u of one stage, sparse."""
    from scipy.sparse import csr_array, hstack

    node = levels.terms.elimination.system.nodes[k]
    parts = []
    for number in node.factors:
        factor, loadings = moments.factors[number], rows[number]
        m, q = len(levels.factors[number].modes), loadings.Z.shape[-1]
        total = csr_array((len(loadings.Z), m * q))
        for codes, Z in loadings.memberships():
            total = total + _placed(levels.factors[number], codes, Z)
        parts.append(_in_spherical_levels(moments, factor, total, q))
    return parts[0] if len(parts) == 1 else hstack(parts, format="csr")


def _placed(factor: FactorLevels, codes: Any, Z: FloatArray) -> Sparse:
    from scipy.sparse import csr_array

    n, q = Z.shape
    place = at(factor.position, codes)
    known = place >= 0
    columns = np.where(known, place, 0)[:, None] * q + np.arange(q)
    data = np.where(known[:, None], Z, 0.0)
    shape = (n, len(factor.modes) * q)
    return csr_array((data.ravel(), columns.ravel(), np.arange(0, n * q + 1, q)), shape=shape)


def _in_spherical_levels(moments: Moments, factor: FactorMoments, rows: Sparse, q: int) -> Sparse:
    """``(R x I)'g`` where a covariance ``R R'`` between levels is known."""
    from scipy.sparse import csr_array

    relation = moments.relation(factor)
    if relation is None:
        return rows
    each = [rows[:, a::q] @ relation.root for a in range(q)]
    return csr_array(np.stack(each, axis=2).reshape(rows.shape))


def _given_later(terms: Terms, k: int) -> FloatArray:
    """``T (I + T'S T)^-1 T'`` of each level of a stage of the chain: (q, q, m)."""
    done = terms.elimination
    patterns = done.stages[k].patterns
    T = psd_factor(own(done.D, done.system.nodes[k]))
    q = len(T)
    half = np.einsum("ji,jkm->ikm", T, patterns.factor)
    M = np.einsum("ikm,jkm->ijm", half, half)
    M[np.arange(q), np.arange(q)] += 1.0
    root = solve_lower(cholesky(M), np.broadcast_to(T.T[..., None], M.shape))
    given: FloatArray = np.einsum("kim,kjm->ijm", root, root)
    return given[..., patterns.pattern]
