"""The cross-products that the Gaussian likelihood needs; no row is left in them."""

import attrs
import numpy as np
import polars as pl

from lmmkit.design.relation import LevelCovariance
from lmmkit.errors import DataError
from lmmkit.linalg import block_diagonal
from lmmkit.moments.basis import Basis
from lmmkit.moments.factors import FactorMoments, PairMoments, merge_levels, merge_pairs
from lmmkit.records import (
    FloatArray,
    evolve,
    float_array,
    record,
    require,
    same,
)


@record
class Moments:
    """Sums over rows, in the standard coordinates of ``basis``, whitened by the prior weights.

    They add: ``moments(a | b) = moments(a) + moments(b)``, associative, with an empty element.
    Rows of one level may come in several pieces.

    Attributes
    ----------
    n_obs : int
    log_weights : float
        Sum of the logarithms of the prior weights.
    xx : ndarray (p, p)
        X'X.
    xy : ndarray (..., p)
        X'y.
    yy : ndarray (...)
        y'y.
    factors : tuple of FactorMoments
        One a grouping factor.
    pairs : tuple of PairMoments
        One a pair of factors; and one a factor on several levels of which a row loads.
    sizes : tuple of int
        Number of columns of each term.
    basis : Basis
    labels : tuple of polars.Series
        What the level codes mean, see :class:`~lmmkit.design.blocks.GroupBlock`.
    relations : tuple of LevelCovariance or None
        The known covariance between the levels of each term; empty where there is none.
    """

    n_obs: int
    log_weights: float
    xx: FloatArray = float_array(2)
    xy: FloatArray = float_array()
    yy: FloatArray = float_array()
    factors: tuple[FactorMoments, ...]
    pairs: tuple[PairMoments, ...]
    sizes: tuple[int, ...]
    basis: Basis
    labels: tuple[pl.Series, ...] = attrs.field(default=(), repr=False)
    relations: tuple[LevelCovariance | None, ...] = attrs.field(default=(), repr=False)

    def __attrs_post_init__(self) -> None:
        p = len(self.xx)
        require(self.xy.shape[-1:] == (p,), f"Moments.xy: expected {(p,)}, got {self.xy.shape}")
        placed = sorted(k for factor in self.factors for k in factor.terms)
        require(
            placed == list(range(len(self.sizes))),
            f"Moments: {len(self.sizes)} terms, those of the factors are {placed}",
        )
        for factor in self.factors:
            q = sum(self.sizes[k] for k in factor.terms)
            require(
                factor.zx.shape[1:] == (q, p),
                f"Moments: expected {(q, p)} in zx of each level, got {factor.zx.shape[1:]}",
            )

    def relation(self, factor: FactorMoments) -> LevelCovariance | None:
        """The known covariance between the levels of a factor."""
        return self.relations[factor.terms[0]] if self.relations else None

    def n_levels(self, factor: FactorMoments) -> int:
        """The levels seen, or those of the relation."""
        relation = self.relation(factor)
        return len(factor.levels) if relation is None else len(relation.levels)

    @property
    def levels_of_terms(self) -> tuple[int, ...]:
        """Number of levels of each term's factor."""
        counts = {k: self.n_levels(factor) for factor in self.factors for k in factor.terms}
        return tuple(counts[k] for k in range(len(self.sizes)))

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        if self.sizes != other.sizes or self.xx.shape != other.xx.shape:
            raise DataError(
                f"moments of two different models do not add: X has {len(self.xx)} and "
                f"{len(other.xx)} columns, the random terms {self.sizes} and {other.sizes}"
            )
        if [f.terms for f in self.factors] != [f.terms for f in other.factors]:
            raise DataError(
                "moments of two different models do not add: their random terms share grouping "
                f"factors as {[f.terms for f in self.factors]} and "
                f"{[f.terms for f in other.factors]}"
            )
        if self.labels and other.labels and not same(self.labels, other.labels):
            raise DataError(
                "moments of two codings of the grouping factor do not add: the same code means "
                "another level; take both from blocks of one design, or build the designs with the "
                "same RandomTerm.levels"
            )
        if self.n_obs and other.n_obs and not same(self.relations, other.relations):
            raise DataError(
                "moments of two different models do not add: the known covariances between the "
                "levels of their random terms are not the same"
            )
        if not same(self.basis, other.basis):
            other = change_basis(other, self.basis)
        return Moments(
            n_obs=self.n_obs + other.n_obs,
            log_weights=self.log_weights + other.log_weights,
            xx=self.xx + other.xx,
            xy=self.xy + other.xy,
            yy=self.yy + other.yy,
            factors=tuple(
                merge_levels([a, b]) for a, b in zip(self.factors, other.factors, strict=True)
            ),
            pairs=merge_pairs([*self.pairs, *other.pairs]),
            sizes=self.sizes,
            basis=self.basis,
            labels=self.labels or other.labels,
            relations=self.relations or other.relations,
        )


def empty_moments(
    sizes: tuple[int, ...], basis: Basis, factors: tuple[tuple[int, ...], ...] | None = None
) -> Moments:
    """The neutral element of addition.

    Parameters
    ----------
    sizes : tuple of int
        Number of columns of each term.
    basis : Basis
    factors : tuple of tuple of int, optional
        The terms on each grouping factor; by default all share one.
    """
    p, lead = basis.x.shape[1], basis.origin.shape[:-1]
    if factors is None:
        factors = (tuple(range(len(sizes))),) if sizes else ()
    widths = [sum(sizes[k] for k in terms) for terms in factors]
    return Moments(
        n_obs=0,
        log_weights=0.0,
        xx=np.zeros((p, p)),
        xy=np.zeros((*lead, p)),
        yy=np.zeros(lead),
        factors=tuple(
            FactorMoments(
                terms=terms,
                levels=np.zeros(0, dtype=np.int32),
                zz=np.zeros((0, q, q)),
                zx=np.zeros((0, q, p)),
                zy=np.zeros((*lead, 0, q)),
            )
            for terms, q in zip(factors, widths, strict=True)
        ),
        pairs=(),
        sizes=sizes,
        basis=basis,
    )


def change_basis(moments: Moments, basis: Basis) -> Moments:
    """The same data's moments in the standard coordinates of another basis."""
    old = moments.basis
    x = np.linalg.solve(old.x, basis.x)
    z = tuple(np.linalg.solve(a, b) for a, b in zip(old.z, basis.z, strict=True))
    return recombine(moments, x, z, old.standard_beta(basis.origin), basis)


def recombine(
    moments: Moments,
    x: FloatArray,
    z: tuple[FloatArray, ...],
    shift: FloatArray,
    basis: Basis,
) -> Moments:
    """Moments of the columns ``X x`` and ``Z_k z_k``, and of the response ``y - X shift``."""
    xy = moments.xy - shift @ moments.xx
    yy = moments.yy - (shift * (moments.xy + xy)).sum(axis=-1)
    by_factor = [block_diagonal([z[k] for k in factor.terms]) for factor in moments.factors]
    return Moments(
        n_obs=moments.n_obs,
        log_weights=moments.log_weights,
        xx=x.T @ moments.xx @ x,
        xy=xy @ x,
        yy=yy,
        factors=tuple(
            evolve(
                factor,
                zz=c.T @ factor.zz @ c,
                zx=c.T @ factor.zx @ x,
                zy=(factor.zy - np.einsum("mqp,...p->...mq", factor.zx, shift)) @ c,
            )
            for factor, c in zip(moments.factors, by_factor, strict=True)
        ),
        pairs=tuple(
            evolve(pair, zz=by_factor[pair.first].T @ pair.zz @ by_factor[pair.second])
            for pair in moments.pairs
        ),
        sizes=tuple(c.shape[1] for c in z),
        basis=basis,
        labels=moments.labels,
        relations=moments.relations,
    )
