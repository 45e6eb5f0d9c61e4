"""``Z'V^-1 Z`` times vectors of random effects, where several factors tie the levels together."""

from typing import Any

import numpy as np

from lmmkit.likelihood.elimination import own
from lmmkit.likelihood.sparse import by_effect, by_level
from lmmkit.likelihood.terms import Terms
from lmmkit.linalg import solve_lower
from lmmkit.records import FloatArray


def inner_products(terms: Terms, columns: list[FloatArray], across: FloatArray) -> FloatArray:
    """``sum_r r'E W F r`` for all directions E, F: shape (n, n).

    Parameters
    ----------
    terms : Terms
    columns : list of ndarray (q, r, m)
        The vectors r of effects, by factor.
    across : ndarray (q, q, n)
        The directions of D.
    """
    system, n = terms.elimination.system, across.shape[-1]
    each = {factor.factor: k for k, factor in enumerate(terms.factors)}
    moved = {}
    for k, node in enumerate(system.nodes):
        parts = [np.zeros((0, n * columns[0].shape[1]))]
        for f, own_columns in zip(node.factors, node.columns, strict=True):
            E = across[own_columns[:, None], own_columns]
            changed = np.einsum("abe,brm->maer", E, columns[each[f]])
            m, a, _, r = changed.shape
            parts.append(changed.reshape(m * a, n * r))
        moved[k] = np.concatenate(parts)
    total = np.zeros((n, n))
    for k, weighed in weighted(terms, moved).items():
        r = moved[k].shape[1] // n
        pairs = (moved[k].T @ weighed).reshape(n, r, n, r)
        total += np.einsum("erfr->ef", pairs)
    return total


def weighted(terms: Terms, vectors: dict[int, FloatArray]) -> dict[int, FloatArray]:
    """``Z'V^-1 Z v`` of effects ``v`` (m q, r), by stage of the elimination."""
    done, coupling = terms.elimination, terms.coupling
    assert coupling is not None
    system = done.system
    within = sum(
        (part @ vectors[to] for to, part in system.inside.items()),
        by_effect(_apply(system.first.factor[..., system.first.pattern], vectors[0], True)),
    )
    outer = {to: np.zeros_like(vectors[to]) for to in system.outer}
    for to, j in system.across:
        if to == system.last:
            outer[to] = outer[to] + system.layout.times(system.across[to, to], vectors[to])
            continue
        outer[to] = outer[to] + _times(system.across[to, j], vectors[j])
        if to != j:
            outer[j] = outer[j] + system.across[to, j].T @ vectors[to]
    result = {}
    for k, stage in enumerate(done.stages):
        q = len(stage.patterns.factor)
        if k:
            root = stage.patterns.factor
            within = by_effect(solve_lower(root, by_level(outer[k], q)))
        root = stage.done.root[..., stage.patterns.pattern]
        after = solve_lower(root, by_level(within, q))
        result[k] = by_effect(np.einsum("kim,krm->irm", stage.half(), after))
        for to, part in stage.solved.items():
            outer[to] = outer[to] + part.T @ by_effect(after)
            if k:
                outer[to] = outer[to] - stage.inside[to].T @ within
    modes = {}
    if done.remainder is not None:
        last = system.last
        modes[last] = done.remainder.solve(outer[last])
        result[last] = done.remainder.unexplained(outer[last], modes[last])
    for k in reversed(range(system.last)):
        for to, part in coupling.C[k].items():
            result[k] = result[k] - part @ modes[to]
        D = own(done.D, system.nodes[k])
        q = len(D)
        modes[k] = by_effect(np.einsum("ab,brm->arm", D, by_level(result[k], q)))
    return result


def _apply(blocks: FloatArray, effects: FloatArray, transposed: bool) -> FloatArray:
    """Level by level, ``F v`` or ``F'v``: a stack."""
    subscripts = "jim,jrm->irm" if transposed else "ijm,jrm->irm"
    return np.asarray(np.einsum(subscripts, blocks, by_level(effects, len(blocks))))


def _times(block: Any, effects: FloatArray) -> FloatArray:
    if isinstance(block, np.ndarray):
        return by_effect(_apply(np.moveaxis(block, 0, -1), effects, False))
    return np.asarray(block @ effects)
