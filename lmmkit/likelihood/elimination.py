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
from lmmkit.likelihood.sparse import Sparse, block_diagonal, by_effect, by_level
from lmmkit.likelihood.supernodal import Factor, Layout, factored
from lmmkit.likelihood.system import System
from lmmkit.likelihood.totals import Totals, better_as_totals, totals
from lmmkit.linalg import gram, inverse_lower, psd_factor, semidefinite_cholesky, solve_lower
from lmmkit.moments.collapse import Patterns
from lmmkit.records import FloatArray, computed_array, record

_TOO_SMALL = 1e-4


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
class DenseStage:
    """The last stage, eliminated.

    Attributes
    ----------
    node : Node
    layout : Layout
    S : ndarray (size,)
        Stored by the layout.
    inverses : tuple of ndarray (q_k, q_k) or None
        ``D^-1`` of each grouping factor; None where it would swamp S, and T scales S instead.
    scales : tuple of ndarray (q_k, q_k)
        B of each grouping factor: I, or T.
    factor : Factor
        L, with ``K = (D^-1 + S)^-1 = B (L L')^-1 B'``.
    outer : ndarray (n, p + 1)
        ``Z'V^-1[X y]``, V with the stages before.
    log_det : float
        ``log|I + D S|``.
    """

    node: Node
    layout: Layout
    S: FloatArray = computed_array()
    inverses: tuple[FloatArray | None, ...]
    scales: tuple[FloatArray, ...]
    factor: Factor
    outer: FloatArray = computed_array()
    log_det: float

    def rows(self, k: int) -> slice:
        """Where the effects of the node's factor k are."""
        return slice(self.node.starts[k], self.node.starts[k + 1])

    @property
    def invertible(self) -> bool:
        """Whether every D has an inverse."""
        return all(inverse is not None for inverse in self.inverses)

    def unexplained(self, outer: FloatArray, modes: FloatArray) -> FloatArray:
        """``outer - S modes`` of ``modes = K outer``: ``D^-1 modes`` where D has an inverse."""
        parts = []
        for k, inverse in enumerate(self.inverses):
            rows, part = self.rows(k), modes[self.rows(k)]
            if inverse is None:
                parts.append(outer[rows] - self.layout.times(self.S, modes)[rows])
            else:
                levels = part.reshape(self.node.n_levels[k], len(inverse), part.shape[1])
                parts.append((inverse @ levels).reshape(part.shape))
        return np.concatenate(parts)

    def half(self, b: FloatArray) -> FloatArray:
        """``L^-1 B'b`` of b (n, k)."""
        return self.factor.half(_scaled(self.node, self.scales, b.T).T)

    def solve(self, b: FloatArray) -> FloatArray:
        """``K b`` of b (n, k)."""
        solved = self.factor.solve(_scaled(self.node, self.scales, b.T).T)
        return _scaled(self.node, self.scales, solved.T, transposed=True).T

    def selected_inverse(self) -> FloatArray:
        """The entries of K that the layout stores."""
        values = self.factor.selected_inverse()
        if self.invertible:
            return values
        return self.layout.values(self._unscaled(self.layout.matrix(values)))

    def inverse(self, selected: FloatArray) -> FloatArray:
        """K (n, n), of which the layout's entries are known."""
        if self.invertible or len(self.layout.blocks) == 1:
            return self.factor.inverse(selected)
        return self._unscaled(self.factor.inverse(self.factor.selected_inverse()))

    def _unscaled(self, inverse: FloatArray) -> FloatArray:
        half = _scaled(self.node, self.scales, inverse, transposed=True)
        return _scaled(self.node, self.scales, half.T, transposed=True).T


def _scaled(
    node: Node, scales: tuple[FloatArray, ...], rows: FloatArray, *, transposed: bool = False
) -> FloatArray:
    """``rows B``, or ``rows B'``, of rows (r, n); B is block diagonal over all levels."""
    if all(np.array_equal(scale, np.eye(len(scale))) for scale in scales):
        return rows
    product = np.empty(rows.shape)
    for k, scale in enumerate(scales):
        part = rows[:, node.starts[k] : node.starts[k + 1]]
        right = scale.T if transposed else scale
        moved = (part.reshape(-1, len(scale)) @ right).reshape(part.shape)
        product[:, node.starts[k] : node.starts[k + 1]] = moved
    return product


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
    dense : DenseStage or None
    totals : Totals or None
        In place of the only stage, where its levels are many.
    """

    system: System
    D: FloatArray = computed_array()
    log_det: FloatArray = computed_array()
    products: FloatArray = computed_array()
    stages: tuple[Stage, ...]
    dense: DenseStage | None
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
    dense = None
    if system.last in outer:
        last = system.last
        dense = _dense(system, D, across[last, last], outer[last])
        if dense is None:
            return Elimination(system, D, np.array(np.nan), products, tuple(stages), None)
        seen = dense.half(dense.outer)
        log_det = log_det + dense.log_det
        products = products - seen.T @ seen
    return Elimination(system, D, log_det, products, tuple(stages), dense)


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


def _dense(system: System, D: FloatArray, S: FloatArray, outer: FloatArray) -> DenseStage | None:
    """None where V is not positive definite."""
    node, layout = system.nodes[-1], system.layout
    blocks = [D[c[:, None], c] for c in node.columns]
    diagonal = S[layout.diagonal]
    ends = zip(node.starts, node.starts[1:], strict=False)
    sizes = [diagonal[start:end].max(initial=0.0) for start, end in ends]
    inverses = tuple(_usable_inverse(d, size) for d, size in zip(blocks, sizes, strict=True))
    scales = tuple(
        psd_factor(d) if inverse is None else np.eye(len(d))
        for d, inverse in zip(blocks, inverses, strict=True)
    )
    if all(inverse is not None for inverse in inverses):
        total = S.copy()
    else:
        half = _scaled(node, scales, layout.matrix(S))
        total = layout.values(_scaled(node, scales, half.T).copy(order="K"))
    log_det = 0.0
    for k, (d, inverse) in enumerate(zip(blocks, inverses, strict=True)):
        where = layout.at(*node.level_blocks(k))
        total[where] += np.eye(len(d)) if inverse is None else inverse
        log_det += 0.0 if inverse is None else node.n_levels[k] * float(np.linalg.slogdet(d)[1])
    factor = factored(layout, total)
    if factor is None:
        return None
    log_det += factor.log_det()
    return DenseStage(node, layout, S, inverses, scales, factor, outer, log_det)


def _usable_inverse(D: FloatArray, size: float) -> FloatArray | None:
    """``D^-1``, unless it would be so large that S, of ``size``, loses digits beside it."""
    diagonal = np.diagonal(psd_factor(D))
    if (diagonal**2 * size > _TOO_SMALL).all() and diagonal.min() > _TOO_SMALL * diagonal.max():
        return np.linalg.inv(D)
    return None
