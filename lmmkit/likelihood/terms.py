"""Per-level W and ``Z'V^-1[X y]`` of every factor, from an elimination.

A stage alone gives them for the effects eliminated up to it; what is eliminated later is taken
off on the way back. With ``C_l = Z_k'V_k^-1 Z_l`` (V_k of the stages up to k) and ``K`` the
matrix ``(D^-1 + S)^-1`` of all later stages,

    Z_k'V^-1[X y] = Z_k'V_k^-1[X y] - sum_l C_l b_l,      W = W_k - C K C',

where b are the modes. K is needed where C C' is not zero, which is where the elimination filled
in (Takahashi's equations).
"""

from typing import Any

import numpy as np

from lmmkit.likelihood.elimination import Elimination, Stage, own
from lmmkit.likelihood.grouped import GroupTerms, group_terms
from lmmkit.likelihood.pairs import seen
from lmmkit.likelihood.remainder import Remainder
from lmmkit.likelihood.sparse import (
    Sparse,
    block_diagonal,
    by_effect,
    by_level,
    dense_blocks,
    row_blocks,
    sampled,
)
from lmmkit.linalg import cholesky, psd_factor, solve_lower
from lmmkit.records import FloatArray, IntArray, computed_array, record


@record
class FactorTerms:
    """What every derivative is made of, for one grouping factor.

    Attributes
    ----------
    factor : int
        Position of the factor; -1 where there is none.
    columns : ndarray (q,)
        Which columns of D are its effects.
    terms : GroupTerms
        Over the factor's levels, or the patterns and stand-ins of the only factor.
    """

    factor: int
    columns: IntArray
    terms: GroupTerms


@record
class Coupling:
    """What ties the stages together: for second derivatives and for solving.

    Attributes
    ----------
    C : tuple of dict
        Of each stage of the chain, ``C_l`` of the later ones, sparse.
    W : tuple of ndarray (m, q, q)
        Of each stage of the chain, ``Z_k'V_k^-1 Z_k``.
    below : tuple of ndarray (m, q, q)
        ``C K C'``.
    inverse : dict
        K: sparse blocks of later stages; where both are the last, a matrix of the stored entries,
        which a chain of several stages needs.
    selected : ndarray (size,)
        The same entries, as they are stored.
    """

    C: tuple[dict[int, Sparse], ...]
    W: tuple[FloatArray, ...]
    below: tuple[FloatArray, ...]
    inverse: dict[tuple[int, int], Any]
    selected: FloatArray = computed_array()


@record
class Terms:
    """:class:`FactorTerms` of every factor; the coupling where there are several."""

    factors: tuple[FactorTerms, ...]
    elimination: Elimination
    coupling: Coupling | None


def all_terms(elimination: Elimination) -> Terms:
    """The terms after :func:`~lmmkit.likelihood.elimination.eliminate`."""
    system = elimination.system
    local = [group_terms(stage.patterns, stage.done) for stage in elimination.stages]
    if system.one_factor:
        node = system.nodes[0]
        columns = node.columns[0] if node.columns else np.zeros(0, dtype=np.int32)
        position = node.factors[0] if node.factors else -1
        return Terms((FactorTerms(position, columns, local[0]),), elimination, None)
    inverse: dict[tuple[int, int], Any] = {}
    modes: dict[int, FloatArray] = {}
    factors: list[FactorTerms] = []
    K: FloatArray = np.zeros(0)
    if elimination.remainder is not None:
        K = elimination.remainder.selected_inverse()
        if system.pairs is None:
            inverse[system.last, system.last] = system.layout.matrix(K)
        modes[system.last], factors = _remainder_terms(elimination.remainder, K)
    C, W, below = [], [], []
    for k in reversed(range(system.last)):
        stage, node = elimination.stages[k], system.nodes[k]
        D = own(elimination.D, node)
        C.append(_couplings(stage))
        W.append(np.moveaxis(local[k].W_each, -1, 0))
        if system.pairs is None:
            below.append(_taken_off(k, C[-1], inverse, D, stage))
        else:
            G, between = stage.onto(), seen(system.pairs, K)
            below.append(np.asarray(np.einsum("ikm,mkl,jlm->mij", G, between, G)))
        projected = local[k].projected
        for to, part in C[-1].items():
            projected = projected - by_level(part @ modes[to], len(D))
        total = np.ascontiguousarray(np.moveaxis(W[-1] - below[-1], 0, -1))
        modes[k] = by_effect(np.einsum("ab,brm->arm", D, projected))
        if node.factors:
            counts = np.ones(total.shape[-1])
            terms = GroupTerms(total, total, projected, counts)
            factors.append(FactorTerms(node.factors[0], node.columns[0], terms))
    coupling = Coupling(tuple(C[::-1]), tuple(W[::-1]), tuple(below[::-1]), inverse, K)
    return Terms(tuple(sorted(factors, key=lambda f: f.factor)), elimination, coupling)


def _couplings(stage: Stage) -> dict[int, Sparse]:
    """``C_l = F L^-T (L^-1 U_l)``."""
    if not stage.solved:
        return {}
    left = block_diagonal(np.swapaxes(stage.half(), 0, 1))
    return {to: left @ part for to, part in stage.solved.items()}


def _taken_off(
    k: int,
    C: dict[int, Sparse],
    inverse: dict[tuple[int, int], Any],
    D: FloatArray,
    stage: Stage,
) -> FloatArray:
    """``C K C'`` of each level; K's blocks of stage k go into ``inverse``."""
    m, q = stage.patterns.inside.shape[-1], len(D)
    below = np.zeros((m, q, q))
    for to, part in C.items():
        reached = sum(other @ block_of(inverse, j, to) for j, other in C.items())
        below += row_blocks(reached, part, q)
        if k:
            inverse[k, to] = block_diagonal(np.broadcast_to(-D[..., None], (q, q, m))) @ sampled(
                reached, part
            )
    if k:
        T = psd_factor(D)
        S = np.einsum("ikm,jkm->ijm", stage.patterns.factor, stage.patterns.factor)
        M = np.einsum("ki,klm,lj->ijm", T, S, T)
        M[np.arange(q), np.arange(q)] += 1.0
        half = solve_lower(cholesky(M), np.broadcast_to(T.T[..., None], S.shape))
        own_part = np.einsum("kim,kjm->ijm", half, half)
        inverse[k, k] = block_diagonal(own_part + np.einsum("ab,mbc,cd->adm", D, below, D))
    return below


def block_of(inverse: dict[tuple[int, int], Any], j: int, to: int) -> Any:
    """Block (j, to) of a symmetric matrix whose upper blocks are there."""
    return inverse[j, to] if (j, to) in inverse else inverse[to, j].T


def _remainder_terms(remainder: Remainder, K: FloatArray) -> tuple[FloatArray, list[FactorTerms]]:
    """The modes of the last stage, and the terms of its factors, from the stored entries of K."""
    node, modes = remainder.node, remainder.modes()
    projected = remainder.unexplained(remainder.outer, modes)
    S = np.zeros(0) if remainder.invertible else remainder.layout.matrix(remainder.S)
    found = []
    for k, columns in enumerate(node.columns):
        q, rows, D_inverse = len(columns), remainder.rows(k), remainder.inverses[k]
        if D_inverse is not None:
            W = D_inverse - D_inverse @ K[remainder.layout.at(*node.level_blocks(k))] @ D_inverse
        else:
            half = remainder.half(S[:, rows]).T
            W = dense_blocks(S[rows, rows], q) - row_blocks(half, half, q)
        W = np.ascontiguousarray(np.moveaxis(W, 0, -1))
        terms = GroupTerms(W, W, by_level(projected[rows], q), np.ones(node.n_levels[k]))
        found.append(FactorTerms(node.factors[k], columns, terms))
    return modes, found
