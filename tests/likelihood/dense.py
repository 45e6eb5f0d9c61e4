"""Likelihoods and scores of all parameterizations by n x n algebra, for real and complex numbers.

Complex ones give derivatives exact to rounding: ``f'(x) = Im f(x + ih) / h`` (Squire & Trapp 1998).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from lmmkit.parameters import NaturalParams, ProfileParams, SquareRootParams
from tests.dense_oracle import (
    DenseModel,
    gls,
    marginal_covariance,
    residual_direction,
    spread,
    vech_directions,
)
from tests.likelihood.cases import Place

Kind: TypeAlias = Literal["natural", "profile", "square root"]
Params: TypeAlias = NaturalParams | ProfileParams | SquareRootParams
KINDS: tuple[Kind, ...] = ("natural", "profile", "square root")
Array: TypeAlias = NDArray[Any]
_STEP = 1e-30


def record(kind: Kind, place: Place, *, beta: bool) -> Params:
    """The record of ``place``; beta is profiled out unless ``beta``."""
    given = place.beta if beta else None
    relative = tuple(t @ t.T for t in place.factors)
    if kind == "natural":
        return NaturalParams(tuple(place.sigma2 * d for d in relative), place.sigma2, given)
    if kind == "profile":
        return ProfileParams(relative, given)
    return SquareRootParams(place.factors, given)


@attrs.frozen(eq=False)
class Dense:
    """One parameterization of a model; its vectors are in the documented packed order."""

    model: DenseModel
    kind: Kind
    reml: bool
    beta: bool

    @property
    def m(self) -> int:
        n, p = self.model.X.shape
        return int(n - p * self.reml)

    def natural(self, packed: Array) -> tuple[Array, list[Array], Any]:
        """Beta, psi and sigma2 at ``packed``, the profiled ones at their best."""
        matrices = self.matrices(packed)
        given = packed[: self.model.X.shape[1]] if self.beta else None
        if self.kind == "natural":
            psi, sigma2 = matrices, packed[-1]
        else:
            psi = [t @ t.T for t in matrices] if self.kind == "square root" else matrices
            sigma2 = self._best_sigma2(psi, given)
            psi = [sigma2 * matrix for matrix in psi]
        beta = gls(self.model, psi, sigma2)[0] if given is None else given
        return beta, psi, sigma2

    def loglik(self, packed: Array) -> Any:
        beta, psi, sigma2 = self.natural(packed)
        V = marginal_covariance(self.model, psi, sigma2)
        r = self._residual(beta)
        total = self.m * np.log(2 * np.pi) + _log_det(V) + r @ np.linalg.solve(V, r)
        if self.reml:
            total += _log_det(self.model.X.T @ np.linalg.solve(V, self.model.X))
        return -0.5 * total

    def score(self, packed: Array) -> Array:
        """``-1/2 tr(P H) + 1/2 u'H u`` by each direction H of V, ``X'u`` by beta, ``u = V^-1 r``.

        Profiled parameters are at their best, so that they add nothing.
        """
        beta, psi, sigma2 = self.natural(packed)
        inverse = np.linalg.inv(marginal_covariance(self.model, psi, sigma2))
        u = inverse @ self._residual(beta)
        P = inverse
        if self.reml:
            VX = inverse @ self.model.X
            P = P - VX @ np.linalg.solve(self.model.X.T @ VX, VX.T)
        by_covariance = [
            0.5 * (u @ H @ u - np.sum(P * H)) for H in self._directions(packed, sigma2)
        ]
        by_beta = self.model.X.T @ u if self.beta else u[:0]
        return np.concatenate([by_beta, np.array(by_covariance, dtype=u.dtype)])

    def matrices(self, packed: Array) -> list[Array]:
        start = self.model.X.shape[1] if self.beta else 0
        matrices = []
        for term in self.model.terms:
            matrix = np.zeros((term.Z.shape[1],) * 2, dtype=packed.dtype)
            for i in range(len(matrix)):
                for j in range(i + 1):
                    matrix[i, j] = packed[start]
                    if self.kind != "square root":
                        matrix[j, i] = packed[start]
                    start += 1
            matrices.append(matrix)
        return matrices

    def _directions(self, packed: Array, sigma2: Any) -> Iterator[Array]:
        for term, matrix in zip(self.model.terms, self.matrices(packed), strict=True):
            for E in vech_directions(len(matrix)):
                if self.kind == "natural":
                    yield spread(term, E)
                elif self.kind == "profile":
                    yield spread(term, sigma2 * E)
                else:
                    change = np.tril(E) @ matrix.T
                    yield spread(term, sigma2 * (change + change.T))
        if self.kind == "natural":
            yield residual_direction(self.model)

    def _best_sigma2(self, relative: Sequence[Array], beta: Array | None) -> Any:
        if beta is None:
            beta = gls(self.model, relative, 1.0)[0]
        r = self._residual(beta)
        return r @ np.linalg.solve(marginal_covariance(self.model, relative, 1.0), r) / self.m

    def _residual(self, beta: Array) -> Array:
        r: Array = self.model.y - self.model.offset - self.model.X @ beta
        return r


def _log_det(matrix: Array) -> Any:
    sign, log_abs = np.linalg.slogdet(matrix)
    return log_abs + np.log(sign)


def derivative(function: Callable[[Array], Any], x: Array) -> Array:
    """Derivatives of a function of real arguments, the last axis over x."""
    columns = [np.imag(function(x + 1j * e)) / _STEP for e in _STEP * np.eye(len(x))]
    return np.stack(columns, axis=-1) if columns else np.zeros(0)
