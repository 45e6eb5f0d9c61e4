"""One value of D: random effects eliminated stage by stage, and what derivatives start from.

Let stage k have the effects' cross-products S given the stages before it, as
:mod:`lmmkit.likelihood.grouped` factors them, ``S = F F'`` and ``N = I + F'DF = L L'`` of each
level. With ``U_l = F^-1 S_kl`` for a later stage l, eliminating stage k leaves

    S_ll' <- S_ll' - U_l'U_l' + (L^-1 U_l)'(L^-1 U_l').

The levels of a stage of the chain stay independent, since the stages before are nested in it. The
effects of the last stage are factored together: ``D^-1 + S = L L'``, or ``I + T'S T = L L'`` where
a factor's ``D = T T'`` is nearly singular.
"""

from typing import Any

import numpy as np

from lmmkit.likelihood import grouped
from lmmkit.likelihood.blocks import plus
from lmmkit.likelihood.nodes import Node
from lmmkit.likelihood.pairs import weighed
from lmmkit.likelihood.remainder import Remainder, factored_remainder
from lmmkit.likelihood.sparse import Sparse, block_diagonal, by_effect, by_level
from lmmkit.likelihood.system import System
from lmmkit.likelihood.totals import Totals, better_as_totals, totals
from lmmkit.linalg import gram, inverse_lower, semidefinite_cholesky, solve_lower
from lmmkit.moments.collapse import Patterns
from lmmkit.records import FloatArray, computed_array, record


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

    def half(self) -> FloatArray:
        """``L^-1 F'`` of each level: (q, q, m)."""
        Y = solve_lower(self.done.root, np.swapaxes(self.patterns.factor, 0, 1))
        return Y[..., self.patterns.pattern]

    def inverse(self) -> FloatArray:
        """``L^-1`` of each level: (q, q, m)."""
        return inverse_lower(self.done.root)[..., self.patterns.pattern]

    def onto(self) -> FloatArray:
        """``G = F L^-T L^-1`` of each level, with which ``Z'V^-1 Z_l = G U_l``: (q, q, m)."""
        return np.asarray(np.einsum("kim,kjm->ijm", self.half(), self.inverse()))


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
        () where there are ``totals``.
    remainder : Remainder or None
    totals : Totals or None
        In place of the only stage, where its levels are many.
    """

    system: System
    D: FloatArray = computed_array()
    log_det: FloatArray = computed_array()
    products: FloatArray = computed_array()
    stages: tuple[Stage, ...]
    remainder: Remainder | None
    totals: Totals | None = None


def eliminate(system: System, D: FloatArray, *, kept: bool = False) -> Elimination:
    """Eliminate all random effects at ``D`` (..., q, q).

    Leading axes are for one factor only. If ``kept``, its stage is there, not totals.
    """
    if system.one_factor:
        return _one_factor(system, D, kept)
    first = grouped.eliminate(system.first, own(D, system.nodes[0]))
    log_det, products = first.log_det, first.products
    across, outer = dict(system.across), dict(system.outer)
    start = Stage(system.first, first, system.inside, {})
    stages = [_couple(system, start, across, outer, new=False)]
    for k in range(1, system.last):
        patterns, inside = _factored(k, across, outer, products)
        done = grouped.eliminate(patterns, own(D, system.nodes[k]))
        log_det, products = log_det + done.log_det, done.products
        stage = Stage(patterns, done, inside, {})
        stages.append(_couple(system, stage, across, outer, new=True))
    remainder = None
    if system.last in outer:
        last = system.last
        remainder = factored_remainder(system, D, across[last, last], outer[last])
        if remainder is None:
            return Elimination(system, D, np.array(np.nan), products, tuple(stages), None)
        seen = remainder.seen
        log_det = log_det + remainder.log_det
        products = products - seen.T @ seen
    return Elimination(system, D, log_det, products, tuple(stages), remainder)


def _one_factor(system: System, D: FloatArray, kept: bool) -> Elimination:
    if better_as_totals(system.first) and not kept:
        sums = totals(system.first, own(D, system.nodes[0]))
        return Elimination(system, D, sums.log_det, sums.products, (), None, sums)
    done = grouped.eliminate(system.first, own(D, system.nodes[0]))
    stage = Stage(system.first, done, {}, {})
    return Elimination(system, D, done.log_det, done.products, (stage,), None)


def own(D: FloatArray, node: Node) -> FloatArray:
    """The block of D of a stage of one factor."""
    if not node.columns:
        return D[..., :0, :0]
    c = node.columns[0]
    return D if len(c) == D.shape[-1] else D[..., c[:, None], c]


def _couple(
    system: System,
    stage: Stage,
    across: dict[tuple[int, int], Any],
    outer: dict[int, FloatArray],
    *,
    new: bool,
) -> Stage:
    """Take a stage out of the blocks of the later ones, in place of ``across`` and ``outer``."""
    if not stage.inside:
        return stage
    done, last = stage.done, system.last
    inverse = stage.inverse()
    root = block_diagonal(inverse)
    solved = {to: root @ part for to, part in stage.inside.items()}
    within, after = by_effect(stage.patterns.inside), by_effect(done.inside)
    for to, part in solved.items():
        outer[to] = outer[to] + part.T @ after
        if new:
            outer[to] = outer[to] - stage.inside[to].T @ within
    if system.pairs is not None:
        M = np.einsum("kim,kjm->ijm", inverse, inverse)
        across[last, last] = across[last, last] + weighed(system.pairs, M)
        return Stage(stage.patterns, done, stage.inside, solved)
    for to, part in solved.items():
        for m, other in solved.items():
            if m >= to:
                change = part.T @ other
                if new:
                    change = change - stage.inside[to].T @ stage.inside[m]
                across[to, m] = plus(across[to, m], change, system.layout)
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
        outside=products - gram(within),
    )
    return patterns, inside
