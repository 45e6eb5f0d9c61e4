"""Random terms whose covariance is a structure: theta and what it means in standard coordinates."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lmmkit.likelihood.least_squares import least_squares
from lmmkit.linalg import vech
from lmmkit.records import FloatArray, float_array, record
from lmmkit.structures.contract import (
    CovarianceStructure,
    Kind,
    Quantity,
    canonical,
    checked_covariance,
    checked_start,
    derivatives,
    has_exact_derivatives,
    natural,
    natural_jacobian,
    quantities,
    structure_name,
)
from lmmkit.structures.numeric import numeric_second

_FLAT = 1e-3
_ZERO = 1e-4
_LARGEST = 1e100


@record
class StructuredTerm:
    """A random term with ``Psi = sigma2 covariance(theta)``.

    Attributes
    ----------
    structure : CovarianceStructure
    effects : tuple of str
    inverse : ndarray (q, q)
        ``C^-1``: ``D = C^-1 covariance(theta) C^-T`` in standard coordinates.
    """

    structure: CovarianceStructure
    effects: tuple[str, ...]
    inverse: FloatArray = float_array(2)

    @property
    def name(self) -> str:
        """What messages call the structure."""
        return structure_name(self.structure)

    @property
    def q(self) -> int:
        """Number of effects."""
        return len(self.effects)

    @property
    def n(self) -> int:
        """Number of parameters."""
        return self.structure.n_params(self.q)

    @property
    def exact(self) -> bool:
        """Whether the structure brings its derivatives."""
        return has_exact_derivatives(self.structure)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The natural parameters."""
        return quantities(self.structure, self.effects)

    def covariance(self, theta: FloatArray) -> FloatArray:
        """Psi relative to sigma2, in the user's coordinates."""
        return self.structure.covariance(theta, self.q)

    def standard(self, theta: FloatArray) -> FloatArray:
        """D, the same in standard coordinates; entries too large for arithmetic are cut off."""
        with np.errstate(over="ignore", invalid="ignore"):
            psi = np.nan_to_num(self.covariance(theta), nan=_LARGEST)
        return self.inverse @ np.clip(psi, -_LARGEST, _LARGEST) @ self.inverse.T

    def derivatives(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of packed D by theta: (d, n) and (d, n, n)."""
        first, second = derivatives(self.structure, theta, self.q)
        return (
            np.moveaxis(vech(self.inverse @ first @ self.inverse.T), -1, 0),
            np.moveaxis(vech(self.inverse @ second @ self.inverse.T), -1, 0),
        )

    def natural(self, theta: FloatArray, sigma: float) -> FloatArray:
        """The natural parameters, in the units of the data."""
        return natural(self.structure, theta, self.q) * self._scale(sigma)

    def canonical(self, theta: FloatArray) -> FloatArray:
        """The theta of the same covariance that is reported."""
        return canonical(self.structure, theta, self.q)

    def natural_jacobian(self, theta: FloatArray, sigma: float) -> FloatArray:
        """Their derivative (n, n + 1) by theta and by log sigma."""
        by_theta = natural_jacobian(self.structure, theta, self.q) * self._scale(sigma)[:, None]
        power = np.array([x.kind.power for x in self.quantities], dtype=np.float64)
        return np.column_stack([by_theta, power * self.natural(theta, sigma)])

    def natural_curvature(self, theta: FloatArray, sigma: float, weights: FloatArray) -> FloatArray:
        """``sum_i weights_i d2 natural_i`` by theta and log sigma: (n + 1, n + 1)."""
        n, scale = self.n, self._scale(sigma)
        power = np.array([x.kind.power for x in self.quantities], dtype=np.float64)
        slope = self.natural_jacobian(theta, sigma)
        matrix = np.zeros((n + 1, n + 1))
        some = self._moving(weights)

        def weighed(part: FloatArray) -> FloatArray:
            moved = theta.copy()
            moved[some] = part
            return np.array(weights @ (scale * natural(self.structure, moved, self.q)))

        matrix[np.ix_(some, some)] = numeric_second(weighed, theta[some])
        matrix[:n, n] = matrix[n, :n] = (weights * power) @ slope[:, :n]
        matrix[n, n] = (weights * power) @ slope[:, n]
        return matrix

    def _moving(self, weights: FloatArray) -> NDArray[np.intp]:
        """The elements of theta that natural parameters with weights depend on.

        By trial at a place that has nothing to do with the data.
        """
        place = np.random.default_rng(0).normal(size=(self.n + 1, self.n))
        moved = np.where(np.eye(self.n, dtype=bool), place[1:], place[0])
        here = natural(self.structure, place[0], self.q)[weights != 0]
        there = [natural(self.structure, t, self.q)[weights != 0] for t in moved]
        return np.flatnonzero([(t != here).any() for t in there])

    def psi_jacobian(self, theta: FloatArray, sigma2: float) -> FloatArray:
        """Derivative (d, n + 1) of packed ``sigma2 D`` by theta and log sigma."""
        return sigma2 * np.column_stack(
            [self.derivatives(theta)[0], 2.0 * vech(self.standard(theta))]
        )

    def psi_curvature(self, theta: FloatArray, sigma2: float, gradient: FloatArray) -> FloatArray:
        """``sum_i gradient_i d2 (packed sigma2 D)_i`` by theta and log sigma."""
        first, second = self.derivatives(theta)
        n = len(theta)
        matrix = np.empty((n + 1, n + 1))
        matrix[:n, :n] = np.tensordot(gradient, second, 1)
        matrix[:n, n] = matrix[n, :n] = 2.0 * gradient @ first
        matrix[n, n] = 4.0 * gradient @ vech(self.standard(theta))
        return sigma2 * matrix

    def at_bound(self, theta: FloatArray) -> NDArray[np.bool_]:
        """Which natural parameters are at a bound: an sd of 0, a correlation of 1."""
        kinds = [x.kind for x in self.quantities]
        values = np.abs(self.natural(theta, 1.0))
        flat = np.abs(self.natural_jacobian(theta, 1.0)[:, :-1]).max(axis=1, initial=0.0) < _FLAT
        length = float(np.sqrt((self.inverse**2).sum(axis=0)).max())
        none = np.array([kind is Kind.SD for kind in kinds]) & (values * length < _ZERO)
        return np.asarray(none | (flat & np.array([kind is Kind.COR for kind in kinds])))

    def _scale(self, sigma: float) -> FloatArray:
        return np.array([sigma**x.kind.power for x in self.quantities], dtype=np.float64)

    def m_step(self, moment: FloatArray, theta: FloatArray) -> FloatArray:
        """The structure's M-step for a second moment in standard coordinates."""
        columns = np.linalg.inv(self.inverse)
        step: Callable[[FloatArray, FloatArray, int], FloatArray] = self.structure.m_step  # type: ignore[attr-defined]
        return step(columns @ moment @ columns.T, theta, self.q)

    def start(self, share: float) -> FloatArray:
        """A theta near the structure's start; each standard effect has ``share`` of sigma2."""
        theta = checked_start(self.structure, self.q)
        psi = checked_covariance(self.structure, theta, self.q)
        wanted = self._variances(share)
        ratio = np.sqrt(wanted / np.maximum(np.diagonal(psi), 1e-300))
        return self.nearest(psi * np.outer(ratio, ratio), self._in_units(theta, wanted))

    def unit(self) -> FloatArray:
        """How large a change of each element of theta counts, (n,), in the units of the data."""
        start = checked_start(self.structure, self.q)
        theta = self._in_units(start, self._variances(1.0))
        slopes = np.linalg.norm(self.derivatives(theta)[0], axis=0)
        size = float(np.linalg.norm(vech(self.standard(theta))))
        return np.asarray(np.divide(size, slopes, out=np.ones(self.n), where=slopes > 0.0))

    def _variances(self, share: float) -> FloatArray:
        """Of the effects, (q,), where each standard effect has ``share`` of sigma2."""
        return np.asarray(share * (np.linalg.inv(self.inverse) ** 2).sum(axis=1))

    def _in_units(self, theta: FloatArray, wanted: FloatArray) -> FloatArray:
        """Theta whose variances are of the order of those ``wanted``, which may be of any order."""
        i = np.arange(self.q)

        def variances(theta: FloatArray) -> FloatArray:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.maximum(np.diagonal(self.covariance(theta)), 1e-300)

        def slopes(theta: FloatArray) -> FloatArray:
            first = derivatives(self.structure, theta, self.q)[0][:, i, i].T
            return np.asarray(first / variances(theta)[:, None])

        def gaps(theta: FloatArray) -> FloatArray:
            return np.asarray(np.log(variances(theta) / wanted))

        # where theta is a size it changes by a factor, where it is a logarithm by a difference
        powers = least_squares(
            lambda s: gaps(theta * np.exp(s)),
            lambda s: slopes(theta * np.exp(s)) * theta * np.exp(s),
            np.zeros(len(theta)),
            1.0,
        )
        return least_squares(gaps, slopes, theta * np.exp(powers), 1.0)

    def nearest(self, psi: FloatArray, start: FloatArray | None = None) -> FloatArray:
        """The theta whose covariance is nearest to ``psi`` in standard coordinates.

        By Levenberg and Marquardt's method; near ``start``.
        """
        theta = np.asarray(self.structure.start(self.q) if start is None else start)
        weight = vech(np.sqrt(2.0) - (np.sqrt(2.0) - 1.0) * np.eye(self.q))
        target = weight * vech(self.inverse @ psi @ self.inverse.T)

        return least_squares(
            lambda t: weight * vech(self.standard(t)) - target,
            lambda t: weight[:, None] * self.derivatives(t)[0],
            theta,
            float(target @ target) or 1.0,
        )

    def misfit(self, psi: FloatArray, theta: FloatArray) -> float:
        """How far the covariance at theta is from ``psi``, relative, in standard coordinates."""
        wanted = self.inverse @ psi @ self.inverse.T
        gap = np.linalg.norm(self.standard(theta) - wanted)
        return float(gap / (np.linalg.norm(wanted) or 1.0))
