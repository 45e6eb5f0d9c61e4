"""Structures made of structures: blocks along the diagonal, and Kronecker products."""

from typing import Any

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.linalg import block_diagonal
from lmmkit.records import FloatArray, IntArray, evolve, record
from lmmkit.structures.contract import (
    CovarianceStructure,
    Derivatives,
    Kind,
    bound,
    canonical,
    derivatives,
    natural,
    quantities,
    require_structure,
)


def _structures(instance: Any, attribute: Any, values: tuple[Any, ...]) -> None:
    for value in values:
        require_structure(value, type(instance).__name__)


def _sizes(instance: Any, attribute: Any, sizes: tuple[Any, ...]) -> None:
    n = len(instance.structures)
    if len(sizes) != n or not all(isinstance(q, int) and q > 0 for q in sizes):
        raise ParameterError(
            f"{type(instance).__name__}.sizes: expected {n} numbers of effects, one a structure, "
            f"got {sizes!r}"
        )


@record
class Blocks:
    """Blocks along the diagonal: effects of different blocks are uncorrelated.

    Attributes
    ----------
    structures : tuple of CovarianceStructure
    sizes : tuple of int
        Number of effects of each block, in the order of the term's effects.
    """

    structures: tuple[CovarianceStructure, ...] = attrs.field(
        converter=tuple, validator=_structures
    )
    sizes: tuple[int, ...] = attrs.field(converter=tuple, validator=_sizes)

    @property
    def parts(self) -> tuple[object, ...]:
        """The blocks' structures."""
        return self.structures

    def at(self, effects: tuple[str, ...]) -> "Blocks":
        """Each block's structure for its effects."""
        if sum(self.sizes) != len(effects):
            raise ParameterError(
                f"Blocks: the sizes {self.sizes} make {sum(self.sizes)} effects, the term has "
                f"{len(effects)}: {', '.join(effects)}"
            )
        pairs = zip(self.structures, self._effects(effects), strict=True)
        return evolve(self, structures=tuple(bound(block, own) for block, own in pairs))

    def n_params(self, q: int) -> int:
        """All blocks'."""
        return sum(s.n_params(size) for s, size in zip(self.structures, self.sizes, strict=True))

    def start(self, q: int) -> FloatArray:
        """Each block's."""
        pairs = zip(self.structures, self.sizes, strict=True)
        return np.concatenate([s.start(size) for s, size in pairs])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """Block diagonal."""
        return block_diagonal([s.covariance(t, size) for s, t, size in self._split(theta)])

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Exact where the blocks' are."""
        n = len(theta)
        first, second = np.zeros((n, q, q)), np.zeros((n, n, q, q))
        start = row = 0
        for structure, own, size in self._split(theta):
            some, rows = slice(start, start + len(own)), slice(row, row + size)
            first[some, rows, rows], second[some, some, rows, rows] = derivatives(
                structure, own, size
            )
            start, row = start + len(own), row + size
        return first, second

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """Each block's; with its number where two blocks have one name."""
        pairs = zip(self.structures, self._effects(effects), strict=True)
        listed = [[x.name for x in quantities(s, own)] for s, own in pairs]
        flat = [name for names in listed for name in names]
        if len(set(flat)) == len(flat):
            return tuple(flat)
        return tuple(f"{name}.{k}" for k, names in enumerate(listed, 1) for name in names)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Each block's."""
        pairs = zip(self.structures, self.sizes, strict=True)
        return tuple(x.kind for s, size in pairs for x in quantities(s, _any(size)))

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """Each block's."""
        return np.concatenate([natural(s, t, size) for s, t, size in self._split(theta)])

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """Each block's."""
        return np.concatenate([canonical(s, t, size) for s, t, size in self._split(theta)])

    def _split(self, theta: FloatArray) -> list[tuple[CovarianceStructure, FloatArray, int]]:
        counts = [s.n_params(size) for s, size in zip(self.structures, self.sizes, strict=True)]
        pieces = np.split(theta, np.cumsum(counts)[:-1])
        return list(zip(self.structures, pieces, self.sizes, strict=True))

    def _effects(self, effects: tuple[str, ...]) -> list[tuple[str, ...]]:
        ends = np.cumsum(self.sizes)
        return [effects[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]


def _any(q: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(q))


@record
class Kronecker:
    """``Psi = A x B``: a separable covariance.

    The covariance of the effects ``(i, j)`` and ``(k, l)`` is ``A_ik B_jl``. The scale is A's: B
    is divided by its first variance, and its first parameter is held.

    Attributes
    ----------
    structures : tuple of CovarianceStructure
        A and B.
    sizes : tuple of int
        Numbers of rows of A and of B; the term has as many effects as their product.
    first_fastest : bool
        Whether the effects come in the order (1, 1), (2, 1), ...: set from names such as
        ``"a[x]:b[y]"``, A being of the levels of a.
    """

    structures: tuple[CovarianceStructure, ...] = attrs.field(
        converter=tuple, validator=_structures
    )
    sizes: tuple[int, ...] = attrs.field(converter=tuple, validator=_sizes)
    first_fastest: bool = False

    def __attrs_post_init__(self) -> None:
        if len(self.structures) != 2:
            raise ParameterError(
                f"Kronecker: expected two structures, got {len(self.structures)}; a product of "
                "three is Kronecker of a Kronecker"
            )

    @property
    def parts(self) -> tuple[object, ...]:
        """A and B."""
        return self.structures

    def at(self, effects: tuple[str, ...]) -> "Kronecker":
        """A and B for the parts of names such as ``"a[x]:b[y]"``."""
        if np.prod(self.sizes) != len(effects):
            raise ParameterError(
                f"Kronecker: the sizes {self.sizes} make {int(np.prod(self.sizes))} effects, the "
                f"term has {len(effects)}: {', '.join(effects)}"
            )
        pairs = [effect.split(":") for effect in effects]
        named = all(len(pair) == 2 for pair in pairs)
        turned = evolve(self, first_fastest=named and pairs[0][1] == pairs[1 % len(pairs)][1])
        both = zip(self.structures, turned._effects(effects), strict=True)
        return evolve(turned, structures=tuple(bound(part, own) for part, own in both))

    def n_params(self, q: int) -> int:
        """Both's, less one for the scale."""
        a, b = (s.n_params(size) for s, size in zip(self.structures, self.sizes, strict=True))
        return a + b - 1

    def start(self, q: int) -> FloatArray:
        """Both's."""
        (a, b), (rows, columns) = self.structures, self.sizes
        return np.concatenate([a.start(rows), b.start(columns)[1:]])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``A x B / B_11``."""
        (a, b), (rows, columns) = self.structures, self.sizes
        first, second = self._split(theta)
        B = b.covariance(second, columns)
        return self._ordered(np.kron(a.covariance(first, rows), B / B[0, 0]))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Exact where A's and B's are."""
        (a, b), (rows, columns) = self.structures, self.sizes
        first, second = self._split(theta)
        A, (dA, d2A) = a.covariance(first, rows), derivatives(a, first, rows)
        B, dB, d2B = _unit(b.covariance(second, columns), *derivatives(b, second, columns))
        dB, d2B = dB[1:], d2B[1:, 1:]
        n, m = len(theta), len(first)
        one, two = np.empty((n, q, q)), np.empty((n, n, q, q))
        one[:m], one[m:] = np.kron(dA, B), np.kron(A, dB)
        two[:m, :m], two[m:, m:] = np.kron(d2A, B), np.kron(A, d2B)
        for i in range(m):
            two[i, m:] = two[m:, i] = np.kron(dA[i], dB)
        return self._ordered(one), self._ordered(two)

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """A's, and B's without the first; with their number where both have one name."""
        (a, b), (left, right) = self.structures, self._effects(effects)
        A = [x.name for x in quantities(a, left)]
        B = [x.name for x in quantities(b, right)][1:]
        if set(A) & set(B):
            return (*(f"{name}.1" for name in A), *(f"{name}.2" for name in B))
        return (*A, *B)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A's, and B's: its standard deviations are relative to its first."""
        (a, b), (rows, columns) = self.structures, self.sizes
        A = [x.kind for x in quantities(a, _any(rows))]
        B = [x.kind for x in quantities(b, _any(columns))][1:]
        return (*A, *(Kind.SHAPE if kind is Kind.SD else kind for kind in B))

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """A's, and B's: its standard deviations are relative to its first."""
        (a, b), (rows, columns) = self.structures, self.sizes
        first, second = self._split(theta)
        values = natural(b, second, columns)
        kinds = [x.kind for x in quantities(b, _any(columns))]
        scaled = np.where([kind is Kind.SD for kind in kinds], values / values[0], values)
        return np.concatenate([natural(a, first, rows), scaled[1:]])

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """A's, and B's: its first parameter is held at its start, and stays."""
        (a, b), (rows, columns) = self.structures, self.sizes
        first, second = self._split(theta)
        return np.concatenate([canonical(a, first, rows), canonical(b, second, columns)[1:]])

    def _split(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        (a, b), (rows, columns) = self.structures, self.sizes
        m = a.n_params(rows)
        return theta[:m], np.concatenate([b.start(columns)[:1], theta[m:]])

    def _order(self) -> IntArray:
        place = np.arange(np.prod(self.sizes), dtype=np.int32).reshape(self.sizes)
        return (place.T if self.first_fastest else place).ravel()

    def _ordered(self, matrices: FloatArray) -> FloatArray:
        order = self._order()
        return np.asarray(matrices[..., order[:, None], order])

    def _effects(self, effects: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        rows, columns = self.sizes
        if not all(effect.count(":") == 1 for effect in effects):
            return _any(rows), _any(columns)
        listed = [effects[i].split(":") for i in np.argsort(self._order())]
        return (
            tuple(pair[0] for pair in listed[::columns]),
            tuple(pair[1] for pair in listed[:columns]),
        )


def _unit(
    B: FloatArray, dB: FloatArray, d2B: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``U = B / B_11`` and its derivatives."""
    scale = B[0, 0]
    U, dU, d2U = B / scale, dB / scale, d2B / scale
    # of B = scale U: dB_ij = scale dU_ij + dscale_i U_j + dscale_j U_i + d2scale_ij U
    slope, bend = dU[:, 0, 0], d2U[:, :, 0, 0]
    dU = dU - np.multiply.outer(slope, U)
    mixed = np.multiply.outer(slope, dU)
    d2U = d2U - mixed - np.swapaxes(mixed, 0, 1) - np.multiply.outer(bend, U)
    return U, dU, d2U
