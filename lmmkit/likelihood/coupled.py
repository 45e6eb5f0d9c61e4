"""Second derivatives where several factors tie the levels together.

``log|V|`` is a sum over the stages of the elimination, and what a stage leaves depends on its own D
and, through S, on the D of the stages before. So first derivatives of S by the D of earlier stages
are carried forward through the elimination, and second ones are contracted, where they arise, with
K, the derivative of what follows by S (see :mod:`lmmkit.likelihood.terms`).
"""

from typing import Any

import numpy as np

from lmmkit.likelihood.elimination import Elimination, own
from lmmkit.likelihood.pairs import weighed
from lmmkit.likelihood.remainder import Remainder
from lmmkit.likelihood.sparse import (
    Sparse,
    block_diagonal,
    dense_blocks,
    diagonal_blocks,
    row_blocks,
)
from lmmkit.likelihood.terms import Coupling, Terms, block_of
from lmmkit.records import FloatArray, IntArray

Tangent = dict[tuple[int, int], Any]
_COLUMNS_AT_A_TIME = 128
_LEVELS_AT_A_TIME = 64


def trace_products(terms: Terms, across: FloatArray, *, rough: bool = False) -> FloatArray:
    """``sum tr(W E W F)`` over all pairs of levels, for all directions E, F: shape (n, n).

    Parameters
    ----------
    terms : Terms
    across : ndarray (q, q, n)
        The directions of D.
    rough : bool
        Whether single precision is enough for the largest products.
    """
    coupling, done = terms.coupling, terms.elimination
    assert coupling is not None
    total = np.zeros((across.shape[-1],) * 2)
    tangents: dict[int, Tangent] = {}
    for k in range(done.system.last):
        node = done.system.nodes[k]
        if not node.factors:
            continue
        mine = _directions(across, node.columns[0])
        _own_part(total, coupling, k, mine)
        _earlier_part(total, done, coupling, k, mine, tangents)
        _carry(done, coupling, k, mine, tangents)
    if done.remainder is not None:
        _remainder_part(total, done, coupling, across, tangents, rough)
    return total


def _directions(across: FloatArray, columns: IntArray) -> dict[int, FloatArray]:
    """The directions that change D among ``columns``, from their positions."""
    blocks = across[columns[:, None], columns]
    return {e: blocks[..., e] for e in np.flatnonzero(blocks.any(axis=(0, 1))).tolist()}


def _add(total: FloatArray, e: int, f: int, value: float) -> None:
    total[e, f] += value
    if e != f:
        total[f, e] += value


def _own_part(total: FloatArray, coupling: Coupling, k: int, mine: dict[int, FloatArray]) -> None:
    """Both directions of the stage's own D."""
    W, below = coupling.W[k], coupling.below[k]
    rest = W - 2.0 * below
    for e, E in mine.items():
        left = E @ W
        for f, F in mine.items():
            if f <= e:
                _add(total, e, f, float(np.einsum("mij,jk,mki->", left, F, rest)))


def _earlier_part(
    total: FloatArray,
    done: Elimination,
    coupling: Coupling,
    k: int,
    mine: dict[int, FloatArray],
    tangents: dict[int, Tangent],
) -> None:
    """One or both directions of the D of an earlier stage."""
    if not tangents:
        return
    D = own(done.D, done.system.nodes[k])
    q, C, W = len(D), coupling.C[k], coupling.W[k]
    J = np.eye(q) - D @ W
    K = J @ D
    products = _times_inverse(C, coupling)
    own_blocks, within, tied = {}, {}, {}
    for e, S in tangents.items():
        own_blocks[e] = S[k, k]
        within[e] = {to: S[k, to] - _left(S[k, k] @ D, part) for to, part in C.items()}
        tied[e] = sum((row_blocks(products[to], within[e][to], q) for to in C), np.zeros_like(W))
        inner = np.swapaxes(J, 1, 2) @ own_blocks[e] @ J - 2.0 * tied[e] @ J
        for f, F in mine.items():
            _add(total, e, f, -float(np.einsum("mij,ji->", inner, F)))
    for e in tangents:
        onward = _times_inverse(within[e], coupling)
        left = K @ own_blocks[e] @ K
        for f in tangents:
            if f > e:
                continue
            value = float(np.einsum("mij,mji->", left, own_blocks[f]))
            for to in C:
                value += 2.0 * float(
                    np.einsum("mij,mji->", K, row_blocks(onward[to], within[f][to], q))
                )
            _add(total, e, f, value)


def _times_inverse(rows: dict[int, Sparse], coupling: Coupling) -> dict[int, Any]:
    """``rows K``."""
    return {
        to: sum(part @ block_of(coupling.inverse, j, to) for j, part in rows.items()) for to in rows
    }


def _left(blocks: FloatArray, part: Sparse) -> Sparse:
    """A block diagonal matrix (m, q, q) times a sparse one."""
    return block_diagonal(np.moveaxis(blocks, 0, -1)) @ part


def _carry(
    done: Elimination,
    coupling: Coupling,
    k: int,
    mine: dict[int, FloatArray],
    tangents: dict[int, Tangent],
) -> None:
    """Derivatives of what stage k leaves, in place of ``tangents``."""
    C, m, pairs = coupling.C[k], len(coupling.W[k]), None if k else done.system.pairs
    D = np.broadcast_to(own(done.D, done.system.nodes[k]), coupling.W[k].shape)
    places = [(to, j) for to in C for j in C if j >= to]
    onward = {to: _left(D, part) for to, part in C.items()}
    for e, S in tangents.items():
        within = {to: S[k, to] - _left(S[k, k], part) for to, part in onward.items()}
        after = {key: block for key, block in S.items() if k not in key}
        for to, j in places:
            change = -(within[to].T @ onward[j]) - onward[to].T @ S[k, j]
            after[to, j] = _kept(done, to, j, after.get((to, j)), change)
        tangents[e] = after
    if pairs is not None:
        G, last = done.stages[k].onto(), done.system.last
        assert done.remainder is not None
        for e, E in mine.items():
            if done.remainder.invertible:
                tangents[e] = {}
                continue
            change = weighed(pairs, np.einsum("kim,kl,ljm->ijm", G, E, G))
            tangents[e] = {(last, last): -done.system.layout.matrix(change)}
        return
    for e, E in mine.items():
        moved = {to: _left(np.broadcast_to(E, (m, *E.shape)), part) for to, part in C.items()}
        tangents[e] = {(to, j): _kept(done, to, j, None, -(C[to].T @ moved[j])) for to, j in places}


def _kept(done: Elimination, to: int, j: int, before: Any, change: Sparse) -> Any:
    """A block of a tangent as the system keeps it."""
    if to == j:
        if to == done.system.last:
            change = change.toarray()
        else:
            change = diagonal_blocks(change, len(done.system.nodes[to].columns[0]))
    return change if before is None else before + change


def _remainder_part(
    total: FloatArray,
    done: Elimination,
    coupling: Coupling,
    across: FloatArray,
    tangents: dict[int, Tangent],
    rough: bool,
) -> None:
    remainder, last = done.remainder, done.system.last
    assert remainder is not None
    K = remainder.inverse(coupling.selected)
    mine = [_directions(across, columns) for columns in remainder.node.columns]
    S = K[:0] if remainder.invertible else remainder.layout.matrix(remainder.S)
    SK = S if remainder.invertible else remainder.layout.times(remainder.S, K)
    changes = {e: tangent.get((last, last), S) for e, tangent in tangents.items()}
    solved = _times_changes(K, changes, across, done, coupling, np.float32 if rough else np.float64)
    for e, ahead in solved.items():
        for f, other in solved.items():
            if f <= e:
                _add(total, e, f, float(np.einsum("ij,ji->", ahead, other)))
        for k, directions in enumerate(mine):
            inner = _seen_by_factor(remainder, k, changes[e], ahead, K, SK)
            for f, F in directions.items():
                _add(total, e, f, -float(np.einsum("mij,ji->", inner, F)))
    if remainder.invertible:
        _between_inverses(total, remainder, K, mine)
    else:
        _between_levels(total, remainder, S - remainder.layout.times(remainder.S, SK.T), mine)


def _times_changes(
    K: FloatArray,
    changes: dict[int, FloatArray],
    across: FloatArray,
    done: Elimination,
    coupling: Coupling,
    dtype: type[np.floating[Any]],
) -> dict[int, FloatArray]:
    """``K S_E``; of the only stage before, ``S_E = -C'EC`` with a sparse C.

    A few columns at a time stay in the processor's cache.
    """
    if len(coupling.C) != 1 or not changes:
        layout = done.system.layout
        return {e: layout.times(layout.values(S), K).T for e, S in changes.items()}
    (C,), m = coupling.C[0].values(), len(coupling.W[0])
    directions = _directions(across, done.system.nodes[0].columns[0])
    left = {
        e: _left(np.broadcast_to(-E, (m, *E.shape)), C).T.tocsr().astype(dtype)
        for e, E in directions.items()
    }
    C = C.astype(dtype, copy=False)
    moved = {e: np.empty_like(K) for e in left}
    for start in range(0, len(K), _COLUMNS_AT_A_TIME):
        some = slice(start, start + _COLUMNS_AT_A_TIME)
        CK = C @ np.ascontiguousarray(K[:, some], dtype=dtype)
        for e, back in left.items():
            moved[e][:, some] = back @ CK
    return {e: transposed.T for e, transposed in moved.items()}


def _seen_by_factor(
    remainder: Remainder,
    k: int,
    change: FloatArray,
    solved: FloatArray,
    K: FloatArray,
    SK: FloatArray,
) -> FloatArray:
    """The diagonal blocks of ``J'S_E J``, ``J = I - K S``, of factor k's levels.

    Where D has an inverse, ``J' = D^-1 K``.
    """
    q, rows, inverse = len(remainder.scales[k]), remainder.rows(k), remainder.inverses[k]
    if inverse is not None:
        blocks: FloatArray = inverse @ row_blocks(solved[rows], K[rows], q) @ inverse
        return blocks
    layout = remainder.layout
    left = change[rows] - layout.times(layout.values(change), SK[rows].T).T
    return dense_blocks(left[:, rows], q) - row_blocks(left, SK[rows], q)


def _between_inverses(
    total: FloatArray, remainder: Remainder, K: FloatArray, mine: list[dict[int, FloatArray]]
) -> None:
    """``sum tr(E W_ij F W_ij')`` of ``W = D^-1 - D^-1 K D^-1``."""
    outward: list[dict[int, FloatArray]] = []
    for k, directions in enumerate(mine):
        A, rows, m = remainder.inverses[k], remainder.rows(k), remainder.node.n_levels[k]
        assert A is not None
        own_blocks = dense_blocks(K[rows, rows], len(remainder.scales[k])).sum(axis=0)
        outward.append({e: A @ E @ A for e, E in directions.items()})
        for e, E in directions.items():
            for f, F in outward[k].items():
                if f <= e:
                    inside = m * E - 2.0 * E @ A @ own_blocks
                    _add(total, e, f, float(np.einsum("ij,ji->", inside, F)))
    _between_levels(total, remainder, K, outward)


def _between_levels(
    total: FloatArray, remainder: Remainder, M: FloatArray, mine: list[dict[int, FloatArray]]
) -> None:
    """``sum tr(E M_ij F M_ij')`` over all pairs of levels i, j."""
    node = remainder.node
    for k, right in enumerate(mine):
        for j, left in enumerate(mine[: k + 1]):
            q, r = len(node.columns[j]), len(node.columns[k])
            pairs = np.zeros((q * r, q * r))
            for start in range(node.starts[j], node.starts[j + 1], q * _LEVELS_AT_A_TIME):
                end = min(start + q * _LEVELS_AT_A_TIME, node.starts[j + 1])
                blocks = M[start:end, remainder.rows(k)].reshape(-1, q, node.n_levels[k], r)
                flat = np.swapaxes(blocks, 1, 2).reshape(-1, q * r)
                pairs += flat.T @ flat
            for e, E in left.items():
                for f, F in right.items():
                    value = np.einsum("ca,abcd,bd->", E, pairs.reshape(q, r, q, r), F)
                    if j != k or f <= e:
                        _add(total, e, f, float(value))
