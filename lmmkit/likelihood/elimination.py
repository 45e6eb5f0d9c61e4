"""One value of D: random effects eliminated stage by stage, and what derivatives start from.

Let stage k have the effects' cross-products S given the stages before it, as
:mod:`lmmkit.likelihood.grouped` factors them, ``S = F F'`` and ``N = I + F'DF = L L'`` of each
level. With ``U_l = F^-1 S_kl`` for a later stage l, eliminating stage k leaves

    S_ll' <- S_ll' - U_l'U_l' + (L^-1 U_l)'(L^-1 U_l').

The levels of a stage of the chain stay independent, since the stages before are nested in it. The
last stage is dense: with ``D = T T'``, ``M = I + T'S T = L L'`` is factored by LAPACK.
"""

from typing import Any

import numpy as np

from lmmkit.likelihood import grouped
from lmmkit.likelihood.sparse import Sparse, block_diagonal, by_effect, by_level, plus
from lmmkit.likelihood.system import Node, System
from lmmkit.linalg import gram, inverse_lower, psd_factor, semidefinite_cholesky, solve_lower
from lmmkit.moments.collapse import Patterns
from lmmkit.records import FloatArray, computed_array, record

_NEARLY_SINGULAR = 1e-4


@record
class Stage:
    """A stage of the chain, eliminated.

    Attributes
    ----------
    patterns : Patterns
        Of ``S``; all of one level each but in the first stage.
    done : grouped.Elimination
    inside : dict
        ``U_l`` of each later stage l.
    solved : dict
        ``L^-1 U_l``.
    """

    patterns: Patterns
    done: grouped.Elimination
    inside: dict[int, Sparse]
    solved: dict[int, Sparse]


@record
class DenseStage:
    """The last stage, eliminated.

    Attributes
    ----------
    node : Node
    S : ndarray (n, n)
    factors : tuple of ndarray (q_k, q_k)
        T of each grouping factor.
    ST : ndarray (n, n)
    root : ndarray (n, n)
        L, lower.
    outer : ndarray (n, p + 1)
        ``Z'V^-1[X y]``, V with the stages before.
    """

    node: Node
    S: FloatArray = computed_array()
    factors: tuple[FloatArray, ...]
    ST: FloatArray = computed_array()
    root: FloatArray = computed_array()
    outer: FloatArray = computed_array()

    def rows(self, k: int) -> slice:
        """Where the effects of the node's factor k are."""
        return slice(self.node.starts[k], self.node.starts[k + 1])

    def regular(self, k: int) -> bool:
        """Whether T of factor k has an inverse that loses no digits that matter."""
        diagonal = np.diagonal(self.factors[k])
        return bool((diagonal > _NEARLY_SINGULAR * diagonal.max()).all())


@record
class Elimination:
    """All random effects eliminated.

    Attributes
    ----------
    system : System
    D : ndarray (..., q, q)
    log_det : ndarray (...)
        ``log|V|``; NaN where V is not positive definite.
    products : ndarray (..., p + 1, p + 1)
        ``[X y]'V^-1[X y]``.
    stages : tuple of Stage
    dense : DenseStage or None
    """

    system: System
    D: FloatArray = computed_array()
    log_det: FloatArray = computed_array()
    products: FloatArray = computed_array()
    stages: tuple[Stage, ...]
    dense: DenseStage | None


def eliminate(system: System, D: FloatArray) -> Elimination:
    """Eliminate all random effects at ``D`` (..., q, q); leading axes for one factor only."""
    first = grouped.eliminate(system.first, own(D, system.nodes[0]))
    if system.one_factor:
        stage = Stage(system.first, first, {}, {})
        return Elimination(system, D, first.log_det, first.products, (stage,), None)
    log_det, products = first.log_det, first.products
    across, outer = dict(system.across), dict(system.outer)
    stages = [_couple(Stage(system.first, first, system.inside, {}), across, outer, new=False)]
    for k in range(1, system.last):
        patterns, inside = _factored(k, across, outer, products)
        done = grouped.eliminate(patterns, own(D, system.nodes[k]))
        log_det, products = log_det + done.log_det, done.products
        stages.append(_couple(Stage(patterns, done, inside, {}), across, outer, new=True))
    dense = None
    if system.last in outer:
        last = system.last
        dense = _dense(system.nodes[-1], D, across[last, last], outer[last])
        if dense is None:
            return Elimination(system, D, np.array(np.nan), products, tuple(stages), None)
        seen = solve_triangular(dense.root, times_factor(dense, dense.outer.T).T)
        log_det = log_det + 2.0 * np.log(np.diagonal(dense.root)).sum()
        products = products - seen.T @ seen
    return Elimination(system, D, log_det, products, tuple(stages), dense)


def own(D: FloatArray, node: Node) -> FloatArray:
    """The block of D of a stage of one factor."""
    if not node.columns:
        return D[..., :0, :0]
    c = node.columns[0]
    return D if len(c) == D.shape[-1] else D[..., c[:, None], c]


def _couple(
    stage: Stage, across: dict[tuple[int, int], Any], outer: dict[int, FloatArray], *, new: bool
) -> Stage:
    """Take a stage out of the blocks of the later ones, in place of ``across`` and ``outer``."""
    if not stage.inside:
        return stage
    done = stage.done
    inverse = inverse_lower(done.root)
    root = block_diagonal(inverse[..., stage.patterns.pattern])
    solved = {to: root @ part for to, part in stage.inside.items()}
    within, after = by_effect(stage.patterns.inside), by_effect(done.inside)
    for to, part in solved.items():
        outer[to] = outer[to] + part.T @ after
        if new:
            outer[to] = outer[to] - stage.inside[to].T @ within
        for m, other in solved.items():
            if m >= to:
                change = part.T @ other
                if new:
                    change = change - stage.inside[to].T @ stage.inside[m]
                across[to, m] = plus(across[to, m], change)
    return Stage(stage.patterns, done, stage.inside, solved)


def _factored(
    k: int,
    across: dict[tuple[int, int], Any],
    outer: dict[int, FloatArray],
    products: FloatArray,
) -> tuple[Patterns, dict[int, Sparse]]:
    """Patterns of a later stage of the chain, a level each, and its ``U_l``."""
    blocks = np.ascontiguousarray(np.moveaxis(across[k, k], 0, -1))
    q, _, m = blocks.shape
    factor = semidefinite_cholesky(blocks)
    within = solve_lower(factor, by_level(outer[k], q))
    root = block_diagonal(inverse_lower(factor))
    inside = {to: root @ part for (j, to), part in across.items() if j == k and to > k}
    patterns = Patterns(
        factor=factor,
        count=np.ones(m),
        inside=within,
        pattern=np.arange(m, dtype=np.int32),
        outside=products - gram(within, within),
    )
    return patterns, inside


def _dense(node: Node, D: FloatArray, S: FloatArray, outer: FloatArray) -> DenseStage | None:
    """None where V is not positive definite."""
    from scipy.linalg.lapack import dpotrf

    factors = tuple(psd_factor(D[c[:, None], c]) for c in node.columns)
    ST = _times_factors(S, node, factors)
    M = _times_factors(ST.T, node, factors)
    M[np.diag_indices_from(M)] += 1.0
    root, info = dpotrf(M.T, lower=1, overwrite_a=1, clean=1)
    return None if info else DenseStage(node, S, factors, ST, root, outer)


def times_factor(dense: DenseStage, rows: FloatArray, *, transposed: bool = False) -> FloatArray:
    """``rows T``, or ``rows T'``, of rows (r, n); T is block diagonal over all levels."""
    factors = tuple(t.T for t in dense.factors) if transposed else dense.factors
    return _times_factors(rows, dense.node, factors)


def _times_factors(rows: FloatArray, node: Node, factors: tuple[FloatArray, ...]) -> FloatArray:
    product = np.empty((len(rows), rows.shape[1]))
    for t, start, end in zip(factors, node.starts[:-1], node.starts[1:], strict=True):
        part = rows[:, start:end]
        if len(t) == 1:
            np.multiply(part, t[0, 0], out=product[:, start:end])
        else:
            product[:, start:end] = (part.reshape(-1, len(t)) @ t).reshape(part.shape)
    return product


def solve_triangular(root: FloatArray, b: FloatArray, *, transposed: bool = False) -> FloatArray:
    """``L^-1 b``, or ``L^-T b``."""
    from scipy.linalg.lapack import dtrtrs

    return np.asarray(dtrtrs(root, b, lower=1, trans=int(transposed))[0])
