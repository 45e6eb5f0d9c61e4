"""The cross-products that the Gaussian likelihood needs; no row is left in them."""

import attrs
import numpy as np
import polars as pl

from lmmkit.errors import DataError
from lmmkit.linalg import block_diagonal
from lmmkit.moments.basis import Basis
from lmmkit.records import (
    FloatArray,
    IntArray,
    adopt,
    float_array,
    int_array,
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
    levels : ndarray (m,) of int32
        Codes of the levels seen, ascending.
    zz : ndarray (m, q, q)
        Z'Z of each level; the columns of all terms side by side.
    zx : ndarray (m, q, p)
    zy : ndarray (..., m, q)
    sizes : tuple of int
        Number of columns of each term; they sum to q.
    basis : Basis
    labels : tuple of polars.Series
        What the level codes mean, see :class:`~lmmkit.design.blocks.GroupBlock`.
    """

    n_obs: int
    log_weights: float
    xx: FloatArray = float_array(2)
    xy: FloatArray = float_array()
    yy: FloatArray = float_array()
    levels: IntArray = int_array(1)
    zz: FloatArray = float_array(3)
    zx: FloatArray = float_array(3)
    zy: FloatArray = float_array()
    sizes: tuple[int, ...]
    basis: Basis
    labels: tuple[pl.Series, ...] = attrs.field(default=(), repr=False)

    def __attrs_post_init__(self) -> None:
        m, q, p = len(self.levels), sum(self.sizes), len(self.xx)
        require(
            self.zz.shape == (m, q, q), f"Moments.zz: expected {(m, q, q)}, got {self.zz.shape}"
        )
        require(
            self.zx.shape == (m, q, p), f"Moments.zx: expected {(m, q, p)}, got {self.zx.shape}"
        )
        require(self.zy.shape[-2:] == (m, q), f"Moments.zy: expected {(m, q)}, got {self.zy.shape}")
        require(self.xy.shape[-1:] == (p,), f"Moments.xy: expected {(p,)}, got {self.xy.shape}")

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        if self.sizes != other.sizes or self.xx.shape != other.xx.shape:
            raise DataError(
                f"moments of two different models do not add: X has {len(self.xx)} and "
                f"{len(other.xx)} columns, the random terms {self.sizes} and {other.sizes}"
            )
        if self.labels and other.labels and not same(self.labels, other.labels):
            raise DataError(
                "moments of two codings of the grouping factor do not add: the same code means "
                "another level; take both from blocks of one design, or build the designs with the "
                "same RandomTerm.levels"
            )
        if not same(self.basis, other.basis):
            other = change_basis(other, self.basis)
        return merge_levels(
            n_obs=self.n_obs + other.n_obs,
            log_weights=self.log_weights + other.log_weights,
            xx=self.xx + other.xx,
            xy=self.xy + other.xy,
            yy=self.yy + other.yy,
            levels=np.concatenate([self.levels, other.levels]),
            zz=np.concatenate([self.zz, other.zz]),
            zx=np.concatenate([self.zx, other.zx]),
            zy=np.concatenate([self.zy, other.zy], axis=-2),
            sizes=self.sizes,
            basis=self.basis,
            labels=self.labels or other.labels,
        )


def empty_moments(sizes: tuple[int, ...], basis: Basis) -> Moments:
    """The neutral element of addition."""
    q, p, lead = sum(sizes), basis.x.shape[1], basis.origin.shape[:-1]
    return Moments(
        n_obs=0,
        log_weights=0.0,
        xx=np.zeros((p, p)),
        xy=np.zeros((*lead, p)),
        yy=np.zeros(lead),
        levels=np.zeros(0, dtype=np.int32),
        zz=np.zeros((0, q, q)),
        zx=np.zeros((0, q, p)),
        zy=np.zeros((*lead, 0, q)),
        sizes=sizes,
        basis=basis,
    )


def merge_levels(
    *,
    n_obs: int,
    log_weights: float,
    xx: FloatArray,
    xy: FloatArray,
    yy: FloatArray,
    levels: IntArray,
    zz: FloatArray,
    zx: FloatArray,
    zy: FloatArray,
    sizes: tuple[int, ...],
    basis: Basis,
    labels: tuple[pl.Series, ...] = (),
) -> Moments:
    """Moments from pieces of levels in any order: the pieces of one level are summed."""
    if not (levels[1:] > levels[:-1]).all():
        order = np.argsort(levels, kind="stable")
        levels, zz, zx, zy = levels[order], zz[order], zx[order], zy[..., order, :]
        first = np.flatnonzero(np.concatenate([[True], levels[1:] != levels[:-1]]))
        if len(first) < len(levels):
            levels = levels[first]
            zz = np.add.reduceat(zz, first, axis=0)
            zx = np.add.reduceat(zx, first, axis=0)
            zy = np.add.reduceat(zy, first, axis=-2)
    return Moments(
        n_obs=n_obs,
        log_weights=log_weights,
        xx=xx,
        xy=xy,
        yy=yy,
        levels=adopt(levels),
        zz=adopt(zz),
        zx=adopt(zx),
        zy=adopt(zy),
        sizes=sizes,
        basis=basis,
        labels=labels,
    )


def change_basis(moments: Moments, basis: Basis) -> Moments:
    """The same data's moments in the standard coordinates of another basis."""
    old = moments.basis
    x = np.linalg.solve(old.x, basis.x)
    z = block_diagonal([np.linalg.solve(a, b) for a, b in zip(old.z, basis.z, strict=True)])
    return recombine(moments, x, z, old.standard_beta(basis.origin), moments.sizes, basis)


def recombine(
    moments: Moments,
    x: FloatArray,
    z: FloatArray,
    shift: FloatArray,
    sizes: tuple[int, ...],
    basis: Basis,
) -> Moments:
    """Moments of the columns ``X x`` and ``Z z``, and of the response ``y - X shift``."""
    xy = moments.xy - shift @ moments.xx
    yy = moments.yy - (shift * (moments.xy + xy)).sum(axis=-1)
    zy = moments.zy - np.einsum("mqp,...p->...mq", moments.zx, shift)
    return Moments(
        n_obs=moments.n_obs,
        log_weights=moments.log_weights,
        xx=x.T @ moments.xx @ x,
        xy=xy @ x,
        yy=yy,
        levels=moments.levels,
        zz=z.T @ moments.zz @ z,
        zx=z.T @ moments.zx @ x,
        zy=zy @ z,
        sizes=sizes,
        basis=basis,
        labels=moments.labels,
    )
