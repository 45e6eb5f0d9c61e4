"""The last stage of the elimination, whose effects are factored together."""

import numpy as np

from lmmkit.likelihood.nodes import Node
from lmmkit.likelihood.supernodal import Factor, Layout, factored
from lmmkit.likelihood.system import System
from lmmkit.linalg import psd_factor
from lmmkit.records import FloatArray, computed_array, record

_TOO_SMALL = 1e-4


@record
class Remainder:
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
    seen : ndarray (n, p + 1)
        ``L^-1 B' outer``.
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
    seen: FloatArray = computed_array()
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
        return self._back(self.half(b))

    def modes(self) -> FloatArray:
        """``K outer``: (n, p + 1)."""
        return self._back(self.seen)

    def _back(self, half: FloatArray) -> FloatArray:
        solved = self.factor.back(half)
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


def factored_remainder(
    system: System, D: FloatArray, S: FloatArray, outer: FloatArray
) -> Remainder | None:
    """The remainder at D, from its S and ``Z'V^-1[X y]``; None where V is not positive definite."""
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
    seen = factor.half(_scaled(node, scales, outer.T).T)
    log_det += factor.log_det()
    return Remainder(node, layout, S, inverses, scales, factor, outer, seen, log_det)


def _usable_inverse(D: FloatArray, size: float) -> FloatArray | None:
    """``D^-1``, unless it would be so large that S, of ``size``, loses digits beside it."""
    diagonal = np.diagonal(psd_factor(D))
    if (diagonal**2 * size > _TOO_SMALL).all() and diagonal.min() > _TOO_SMALL * diagonal.max():
        return np.linalg.inv(D)
    return None
