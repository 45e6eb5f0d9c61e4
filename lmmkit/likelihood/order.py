"""In which order grouping factors are eliminated, found once from what meets in the rows."""

import numpy as np

from lmmkit.moments.moments import Moments


def elimination_order(moments: Moments) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the factors eliminated level by level, in order, and of the remaining ones.

    The effects of two levels of a factor are tied by a factor that was eliminated before, unless
    that one is nested in it. So the factors of the first kind are nested, each in the next ones;
    the levels of the others are factored together. Of the possible orders, the one with fewest
    effects remaining is taken.
    """
    effects = [moments.n_levels(factor) * factor.zz.shape[1] for factor in moments.factors]
    tied = {pair.first for pair in moments.pairs if pair.first == pair.second}
    tied |= {k for k, f in enumerate(moments.factors) if moments.relation(f) is not None}
    nested = _nestings(moments)
    free = [k for k, n in enumerate(effects) if n and k not in tied]
    by_size = sorted(free, key=lambda k: -effects[k])
    chains = [_chain(start, by_size, nested) for start in by_size] or [()]
    best = max(chains, key=lambda chain: sum(effects[k] for k in chain))
    return best, tuple(k for k, n in enumerate(effects) if n and k not in best)


def _chain(start: int, by_size: list[int], nested: set[tuple[int, int]]) -> tuple[int, ...]:
    chain = [start]
    for k in by_size:
        if k not in chain and all((earlier, k) in nested for earlier in chain):
            chain.append(k)
    return tuple(chain)


def _nestings(moments: Moments) -> set[tuple[int, int]]:
    """(a, b) where every level of factor a meets one level of factor b only."""
    found = set()
    for pair in moments.pairs:
        for inner, outer, codes in (
            (pair.first, pair.second, pair.rows),
            (pair.second, pair.first, pair.columns),
        ):
            if inner != outer and np.bincount(codes).max(initial=0) <= 1:
                found.add((inner, outer))
    return found
