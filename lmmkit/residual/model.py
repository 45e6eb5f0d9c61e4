"""A residual structure bound to a design: from theta to an objective without residual structure.

With ``L L' = G R G / weights`` of all rows, ``L^-1 y = L^-1 X beta + L^-1 Z b + noise`` is a model
with independent residuals of variance sigma2, whose log-likelihood less ``log|L|`` is that of y.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lmmkit.design.design import Design
from lmmkit.design.group import group
from lmmkit.likelihood.impose import impose
from lmmkit.likelihood.objective import Objective, ml, reml
from lmmkit.linalg import transposed
from lmmkit.moments import Moments, cross_products
from lmmkit.moments.basis import Basis
from lmmkit.moments.moments import empty_moments
from lmmkit.records import (
    FloatArray,
    IntArray,
    adopt,
    evolve,
    float_array,
    float_arrays,
    int_array,
    record,
)
from lmmkit.residual.contract import (
    Coordinates,
    ResidualParameter,
    VarianceFunction,
)
from lmmkit.residual.crossed import CrossedTerm
from lmmkit.residual.residual import Residual
from lmmkit.residual.sums import PatternSums
from lmmkit.residual.whiten import Whitener

_WIDEST = math.log(1e6)
_FARTHEST = 200.0
_STEP = 1e-4


@record
class ResidualModel:
    """A residual structure that has learned from a design, and the design with its rows sorted.

    Attributes
    ----------
    residual : Residual
    sizes : tuple of int
        Numbers of parameters of its parts, the correlation's first.
    design : Design
        Rows sorted by residual group and coordinate; no offset, no weights.
    order : ndarray (N,) of int32
        The sorted rows' positions in the design that was given.
    log_scale : ndarray (N,)
        Half the logarithm of the weights.
    covariates : tuple of ndarray (N, d)
        What each variance function sees; a fitted value is NaN until it is known.
    rows : Coordinates
        The correlation's view of the sorted rows; every row alone without one.
    seen : tuple of Coordinates
        Each variance function's.
    whitener : Whitener or None
    basis : Basis
        Standard coordinates, the same at every theta.
    sums : tuple of PatternSums
        What stands for the rows where groups are alike, and random effects those of a group: for
        derivatives, and without random effects for the likelihood.
    crossed : tuple of CrossedTerm
        The random terms whose levels change inside residual groups.
    """

    residual: Residual
    sizes: tuple[int, ...]
    design: Design
    rows: Coordinates
    seen: tuple[Coordinates, ...]
    whitener: Whitener | None
    basis: Basis
    sums: tuple[PatternSums, ...]
    crossed: tuple[CrossedTerm, ...]
    order: IntArray = int_array(1)
    log_scale: FloatArray = float_array(1)
    covariates: tuple[FloatArray, ...] = float_arrays(2)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """The parameters of all parts, the correlation's first; no two of one name."""
        taken: dict[str, int] = {}
        unique = []
        for parameter in (p for part in parts(self.residual) for p in part.parameters):
            copy = taken.setdefault(parameter.name, 0)
            taken[parameter.name] += 1
            name = f"{parameter.name}.{copy}" if copy else parameter.name
            unique.append(evolve(parameter, name=name))
        return tuple(unique)

    def split(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """Theta of each part, the correlation's first."""
        return tuple(np.split(theta, np.cumsum(self.sizes)[:-1]))

    def values(self, theta: FloatArray) -> FloatArray:
        """The parameters (k,) at theta."""
        each = zip(parts(self.residual), self.split(theta), strict=True)
        return np.concatenate([part.values(own) for part, own in each])

    def starts(self) -> FloatArray:
        """Places to start from, (s, k): the correlation's, each variance function at its first."""
        proposals = [np.atleast_2d(part.start()) for part in parts(self.residual)]
        own = self.residual.correlation is not None
        count = len(proposals[0]) if own else 1
        return np.concatenate([np.resize(rows, (count, rows.shape[1])) for rows in proposals], 1)

    def alternatives(self) -> tuple[tuple[slice, FloatArray], ...]:
        """The place in theta and the starts (s, k) of variance functions that have several."""
        found, start = [], 0
        for part in parts(self.residual):
            own = slice(start, start + len(part.parameters))
            rows = np.atleast_2d(part.start())
            if part is not self.residual.correlation and len(rows) > 1:
                found.append((own, rows))
            start = own.stop
        return tuple(found)

    def log_root(self, theta: FloatArray) -> FloatArray:
        """Logarithm (N,) of each sorted row's ``sqrt(weight) / g``."""
        return self.log_scale - self._log_deviation(theta, self.covariates)

    def _log_deviation(
        self, theta: FloatArray, covariates: tuple[FloatArray, ...]
    ) -> FloatArray | float:
        each = self.variance_parts(theta, covariates)
        return sum((part.log_deviation(own, seen) for part, own, seen in each), 0.0)

    def variance_parts(
        self, theta: FloatArray, covariates: tuple[FloatArray, ...]
    ) -> Iterator[tuple[VarianceFunction, FloatArray, FloatArray]]:
        """Each variance function with its own theta and covariates."""
        own = self.split(theta)[self.residual.correlation is not None :]
        return zip(self.residual.variances, own, covariates, strict=True)

    def whitened(self, theta: FloatArray) -> tuple[Design, float] | None:
        """The design ``L^-1 [y X Z]`` and ``-log|L L'|``.

        None where R is not positive definite, or where standard deviations differ by more than a
        factor of a million, so that rows with large ones would count as rounding.
        """
        design = self.design
        crossed = {each.term: each for each in self.crossed}
        apart = [
            term
            for k, term in enumerate(design.terms)
            if term.Z is not design.X and k not in crossed
        ]
        p = design.X.shape[1]
        columns = np.concatenate([design.y[None], design.X.T, *(term.Z.T for term in apart)])
        log_root = self.log_root(theta)
        own = self.split(theta)[0]
        if np.ptp(log_root) > _WIDEST:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            root = np.exp(log_root)
            columns *= root
            log_weights = 2.0 * float(log_root.sum())
            if self.whitener is not None:
                log_weights -= self.whitener.whiten(own, columns)
        if not np.isfinite(log_weights) or not np.isfinite(columns).all():
            return None
        X = adopt(np.ascontiguousarray(columns[1 : p + 1].T))
        start, terms = p + 1, []
        for k, term in enumerate(design.terms):
            if self.whitener is not None and k in crossed:
                terms.append(crossed[k].whitened(term, self.whitener, own, root))
                continue
            Z = X
            if term.Z is not design.X:
                Z = adopt(np.ascontiguousarray(columns[start : start + term.q].T))
                start += term.q
            terms.append(evolve(term, Z=Z))
        return evolve(design, y=adopt(columns[0]), X=X, terms=tuple(terms)), log_weights

    def noise(self, theta: FloatArray, spherical: FloatArray) -> FloatArray:
        """Residuals relative to sigma, (draws, N), from independent standard normal numbers."""
        drawn = np.array(spherical)
        if self.whitener is not None:
            self.whitener.colour(self.split(theta)[0], drawn)
        drawn *= np.exp(-self.log_root(theta))
        ordered = np.empty_like(drawn)
        ordered[:, self.order] = drawn
        return ordered

    def centred(self, theta: FloatArray) -> "ResidualModel":
        """The model in standard coordinates of effects on rows of the mean ``log g`` at theta."""
        mean = float((self.log_scale - self.log_root(theta)).mean())
        size = math.exp(min(max(mean, -_FARTHEST), _FARTHEST))
        return evolve(self, basis=evolve(self.basis, z=tuple(size * c for c in self.basis.z)))

    def mean_slope(self, theta: FloatArray) -> FloatArray:
        """Derivatives (k,) of the mean of ``log g`` over the rows."""
        steps = _STEP * np.eye(len(theta))
        ahead, behind = (
            np.array([self.log_root(theta + sign * step).mean() for step in steps])
            for sign in (1.0, -1.0)
        )
        return np.asarray((behind - ahead) / (2.0 * _STEP))

    def objective(self, theta: FloatArray, *, restricted: bool) -> Objective | None:
        """The log-likelihood of the data at theta; None where R is not positive definite."""
        summed = self.sums and not self.design.terms
        moments = self._of_sums(theta) if summed else self._of_rows(theta)
        if moments is None:
            return None
        return impose(reml(moments) if restricted else ml(moments), self.design)

    def _of_rows(self, theta: FloatArray) -> Moments | None:
        found = self.whitened(theta)
        if found is None:
            return None
        design, log_weights = found
        return evolve(cross_products(group(design), self.basis), log_weights=log_weights)

    def _of_sums(self, theta: FloatArray) -> Moments | None:
        total = np.zeros((self.design.X.shape[1] + 1,) * 2)
        log_weights = 2.0 * float(self.log_scale.sum())
        deviations = [self.log_deviation_of(theta, sums) for sums in self.sums]
        if np.ptp(np.concatenate([each.ravel() for each in deviations])) > _WIDEST:
            return None
        for sums, deviation in zip(self.sums, deviations, strict=True):
            factor = sums.factor(self.residual.correlation, self.split(theta)[0])
            if factor is None:
                return None
            root = np.linalg.inv(factor) * np.exp(-deviation)[:, None, :]
            total += sums.cross_products(transposed(root) @ root)
            log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
            log_weights -= 2.0 * float(sums.count @ (deviation.sum(axis=1) + log_det))
        return evolve(
            empty_moments((), self.basis),
            n_obs=self.design.n_obs,
            log_weights=log_weights,
            xx=total[:-1, :-1],
            xy=total[-1, :-1],
            yy=total[-1, -1],
        )

    def log_deviation_of(self, theta: FloatArray, sums: PatternSums) -> FloatArray:
        """Logarithm (P, n) of g of the rows of patterns."""
        each = self._log_deviation(theta, sums.covariates)
        return np.broadcast_to(each, math.prod(sums.shape)).reshape(sums.shape)

    def with_fitted(self, fitted: FloatArray) -> "ResidualModel":
        """The model whose variances are taken at these fitted values of the design's rows."""
        updated = []
        for part, values in zip(self.residual.variances, self.covariates, strict=True):
            columns = np.array(values)
            columns[:, [name is None for name in part.columns]] = fitted[self.order, None]
            updated.append(columns)
        return evolve(self, covariates=tuple(updated))


def parts(residual: Residual) -> tuple[Any, ...]:
    """The correlation, if there is one, and the variance functions."""
    first = () if residual.correlation is None else (residual.correlation,)
    return (*first, *residual.variances)
