"""From moments to what one evaluation of the likelihood reads: groups factored and collapsed.

For group i let ``Z'Z = F F'``. The rows of Z enter only through F, and those of X and y only
through ``U = F^-1 Z'[X y]``, their part inside the span of Z, and the cross-products of what lies
outside it. Groups with equal F form a pattern. Every sum over the groups of a pattern is linear in
the sum of ``vec(U) vec(U)'``, whose rank is at most q (p + 1): so many stand-in groups replace
them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lmmkit.linalg import gram, semidefinite_cholesky, solve_lower, triangle
from lmmkit.moments.factors import FactorMoments
from lmmkit.moments.moments import Moments
from lmmkit.records import FloatArray, IntArray, adopt, float_array, int_array, record

_FEW_MEMBERS = 2
_GROUPS_AT_A_TIME = 4_096
_INSIDE = 1e-13
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@record
class Patterns:
    """Groups collapsed to distinct patterns.

    Attributes
    ----------
    factor : ndarray (q, q, P)
        Lower factor F of Z'Z of each pattern.
    count : ndarray (P,)
        Number of groups of each pattern.
    inside : ndarray (..., q, p + 1, K)
        ``F^-1 Z'[X y]`` of the K groups or stand-ins.
    pattern : ndarray (K,) of int32
        The pattern of each of them; ``0 .. K - 1`` where K = P.
    outside : ndarray (..., p + 1, p + 1)
        Cross-products of [X y] outside the span of Z, over all groups.
    """

    factor: FloatArray = float_array(3)
    count: FloatArray = float_array(1)
    inside: FloatArray = float_array()
    pattern: IntArray = int_array(1)
    outside: FloatArray = float_array(None)

    @property
    def one_each(self) -> bool:
        """Whether every pattern has exactly one group."""
        return len(self.pattern) == len(self.count)


def collapse(
    moments: Moments, factor: FactorMoments | None = None, *, stand_ins: bool = True
) -> Patterns:
    """The patterns of a factor's levels, by default of the first one's.

    Equal patterns are found by exact equality of Z'Z. Without stand-ins the levels stay as they
    are, which they must where other factors tell them apart.
    """
    if factor is None:
        factor = moments.factors[0] if moments.factors else no_levels(moments)
    m, q, p = factor.zx.shape
    lead = factor.zy.shape[:-2]
    first, pattern, count = _distinct(factor.zz)
    root = np.empty((q, q, len(first)))
    for part in runs_of(len(first), _GROUPS_AT_A_TIME):
        members = part if len(first) == m else first[part]
        root[..., part] = semidefinite_cholesky(factor.zz[members].transpose(1, 2, 0).copy())
    inside = np.empty((*lead, q, p + 1, m))
    explained = np.zeros((*lead, p + 1, p + 1))
    for part in runs_of(m, _GROUPS_AT_A_TIME):
        products = np.empty((*lead, q, p + 1, part.stop - part.start))
        products[..., :p, :] = factor.zx[part].transpose(1, 2, 0)
        products[..., p, :] = np.swapaxes(factor.zy[..., part, :], -1, -2)
        each = root[..., part if len(first) == m else pattern[part]]
        inside[..., part] = projected = solve_lower(each, products)
        explained += gram(projected)
    total = _all_cross_products(moments)
    outside = _without_rounding(total - explained, total)
    if stand_ins:
        inside, pattern = _stand_ins(inside, pattern, count)
    return Patterns(
        factor=adopt(root),
        count=count,
        inside=adopt(inside),
        pattern=pattern,
        outside=outside,
    )


def runs_of(n: int, step: int) -> Iterator[slice]:
    """``0 .. n`` in runs of ``step``, small enough for the processor's cache."""
    for start in range(0, n, max(step, 1)):
        yield slice(start, min(start + step, n))


def no_levels(moments: Moments) -> FactorMoments:
    """The moments of a factor without levels and effects."""
    p, lead = len(moments.xx), moments.yy.shape
    return FactorMoments(
        terms=(),
        levels=np.zeros(0, dtype=np.int32),
        zz=np.zeros((0, 0, 0)),
        zx=np.zeros((0, 0, p)),
        zy=np.zeros((*lead, 0, 0)),
    )


def _all_cross_products(moments: Moments) -> FloatArray:
    p = len(moments.xx)
    products = np.empty((*moments.yy.shape, p + 1, p + 1))
    products[..., :p, :p] = moments.xx
    products[..., p, :p] = products[..., :p, p] = moments.xy
    products[..., p, p] = moments.yy
    return products


def _without_rounding(outside: FloatArray, total: FloatArray) -> FloatArray:
    """Columns that lie in the span of Z have nothing outside it: what rounding left goes.

    It would swamp their part inside, which shrinks as the random effects' variance grows.
    """
    here = np.diagonal(outside, axis1=-2, axis2=-1)
    real = here > _INSIDE * np.diagonal(total, axis1=-2, axis2=-1)
    return np.asarray(outside * real[..., None, :] * real[..., :, None])


def hashes(rows: FloatArray) -> NDArray[np.uint64]:
    """A hash (m,) of the bits of each row of (m, n): equal rows have equal ones."""
    # sums of the numbers do not tell apart what differs by rounding
    odd = np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * _GOLDEN | np.uint64(1)
    bits = np.ascontiguousarray(rows + 0.0).view(np.uint64)
    return np.asarray(((bits ^ (bits >> np.uint64(31))) * odd).sum(axis=1))


def _distinct(zz: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """First position, inverse and count of the distinct matrices of (m, q, q), by hashing."""
    m, q, _ = zz.shape
    rows, columns = triangle(q)
    entries = zz[:, rows, columns]
    key = hashes(entries)
    ordered = np.sort(key)
    distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])] if m else ordered
    each = np.arange(m, dtype=np.int32)
    if len(distinct) == m:
        return each, each, np.ones(m)
    inverse = np.searchsorted(distinct, key).astype(np.int32)
    first = np.empty(len(distinct), dtype=np.int32)
    first[inverse[::-1]] = each[::-1]
    if not np.array_equal(entries[first].take(inverse, axis=0), entries):
        return each, each, np.ones(m)
    return first, inverse, np.bincount(inverse).astype(np.float64)


def _stand_ins(
    inside: FloatArray, pattern: IntArray, count: FloatArray
) -> tuple[FloatArray, IntArray]:
    """At most q (p + 1) stand-ins a pattern, with the sums of ``vec(U) vec(U)'`` of its groups."""
    *lead, q, r, m = inside.shape
    if m < _FEW_MEMBERS * q * r * len(count):
        return inside, pattern
    vectors = inside.reshape(*lead, q * r, m)
    if len(count) > 1:
        vectors = vectors[..., np.argsort(pattern, kind="stable")]
    ends = np.cumsum(count).astype(np.int64)
    sums = np.empty((*lead, q * r, q * r, len(count)))
    for k, (start, end) in enumerate(zip(np.concatenate([[0], ends]), ends, strict=False)):
        members = vectors[..., start:end]
        sums[..., k] = members @ np.swapaxes(members, -1, -2)
    roots = semidefinite_cholesky(sums, tolerance=1e-15)
    stand_ins = np.moveaxis(roots, -2, -1).reshape(*lead, q, r, len(count) * q * r)
    return stand_ins, np.repeat(np.arange(len(count), dtype=np.int32), q * r)
