"""Standard deviations times a correlation: the same one for all effects, or one for each."""

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, evolve, record
from lmmkit.structures.contract import Derivatives, Kind, bound, structure_name
from lmmkit.structures.numeric import numeric_derivatives

_Names: TypeAlias = tuple[str, ...]
_ROUNDING = 1e-8


@runtime_checkable
class Correlation(Protocol):
    """A family of correlation matrices (q, q): what :class:`Homogeneous` makes a structure of.

    These three are enough. ``derivatives(theta, q)``, ``names(effects)``, ``kinds(q)``,
    ``natural(theta, q)`` and ``at(effects)`` mean what they mean of a
    :class:`~lmmkit.structures.CovarianceStructure`.
    """

    def n_params(self, q: int) -> int:
        """The length n of theta."""

    def start(self, q: int) -> FloatArray:
        """A theta (n,) inside the family."""

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        """A correlation matrix (q, q), for every real theta (n,)."""


def _correlation(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Correlation) or isinstance(value, type):
        raise ParameterError(
            f"{type(instance).__name__}: expected a correlation such as AR1(), with n_params, "
            f"start and correlation, got {value!r}"
        )


def _matrix(inner: Correlation, theta: FloatArray, q: int) -> FloatArray:
    """R, if its diagonal is one: otherwise what is reported as standard deviations is not."""
    R = np.asarray(inner.correlation(theta, q))
    if R.ndim == 2 and (np.abs(np.diagonal(R) - 1.0) > _ROUNDING).any():
        raise ParameterError(
            f"{structure_name(inner)}.correlation: expected ones on the diagonal at {theta}, got\n"
            f"{R}"
        )
    return R


def _derivatives(inner: Correlation, theta: FloatArray, q: int) -> Derivatives:
    exact: Callable[[FloatArray, int], Derivatives] | None = getattr(inner, "derivatives", None)
    if exact is not None:
        return exact(theta, q)
    return numeric_derivatives(lambda t: inner.correlation(t, q), theta)


def _names(inner: Correlation, effects: _Names) -> _Names:
    own: Callable[[_Names], _Names] | None = getattr(inner, "names", None)
    n = inner.n_params(len(effects))
    return tuple(f"theta_{i + 1}" for i in range(n)) if own is None else own(effects)


def _kinds(inner: Correlation, q: int) -> tuple[Kind, ...]:
    own: Callable[[int], tuple[Kind, ...]] | None = getattr(inner, "kinds", None)
    return (Kind.FREE,) * inner.n_params(q) if own is None else own(q)


def _natural(inner: Correlation, theta: FloatArray, q: int) -> FloatArray:
    own: Callable[[FloatArray, int], FloatArray] | None = getattr(inner, "natural", None)
    return theta if own is None else own(theta, q)


class _OfCorrelation:
    """A structure that is made of a correlation."""

    __slots__ = ()
    correlation_of: Correlation

    @property
    def parts(self) -> tuple[object, ...]:
        """The correlation."""
        return (self.correlation_of,)

    def at(self, effects: _Names) -> Self:
        """The correlation's coordinates taken from the names."""
        return evolve(self, correlation_of=bound(self.correlation_of, effects))  # type: ignore[arg-type]


@record
class Homogeneous(_OfCorrelation):
    """``Psi = sd^2 R``: one standard deviation, and a correlation R.

    theta is the standard deviation relative to sigma, of either sign, then R's own.

    Attributes
    ----------
    correlation_of : Correlation
    """

    correlation_of: Correlation = attrs.field(validator=_correlation)

    def n_params(self, q: int) -> int:
        """One more than the correlation's."""
        return 1 + self.correlation_of.n_params(q)

    def start(self, q: int) -> FloatArray:
        """A standard deviation of one."""
        return np.concatenate([np.ones(1), self.correlation_of.start(q)])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``theta_0^2 R``."""
        return np.asarray(theta[0] ** 2 * _matrix(self.correlation_of, theta[1:], q))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Exact where the correlation's are."""
        sd, inner = theta[0], self.correlation_of
        R = inner.correlation(theta[1:], q)
        dR, d2R = _derivatives(inner, theta[1:], q)
        n = len(theta)
        first, second = np.empty((n, q, q)), np.empty((n, n, q, q))
        first[0], first[1:] = 2.0 * sd * R, sd**2 * dR
        second[0, 0], second[1:, 1:] = 2.0 * R, sd**2 * d2R
        second[0, 1:] = second[1:, 0] = 2.0 * sd * dR
        return first, second

    def names(self, effects: _Names) -> _Names:
        """``sd``, then the correlation's."""
        return ("sd", *_names(self.correlation_of, effects))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A standard deviation, then the correlation's."""
        return (Kind.SD, *_kinds(self.correlation_of, q))

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The standard deviation, then the correlation's."""
        return np.concatenate([theta[:1], _natural(self.correlation_of, theta[1:], q)])

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """With a standard deviation that is not negative."""
        return np.concatenate([np.abs(theta[:1]), theta[1:]])


@record
class Heterogeneous(_OfCorrelation):
    """``Psi = S R S``: a standard deviation of each effect in S, and a correlation R.

    theta is the logarithms of the standard deviations relative to sigma, then R's own.

    Attributes
    ----------
    correlation_of : Correlation
    """

    correlation_of: Correlation = attrs.field(validator=_correlation)

    def n_params(self, q: int) -> int:
        """One an effect, and the correlation's."""
        return q + self.correlation_of.n_params(q)

    def start(self, q: int) -> FloatArray:
        """Standard deviations of one."""
        return np.concatenate([np.zeros(q), self.correlation_of.start(q)])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``S R S``."""
        sd = np.exp(theta[:q])
        return np.asarray(np.outer(sd, sd) * _matrix(self.correlation_of, theta[q:], q))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Exact where the correlation's are."""
        sd, inner, n = np.exp(theta[:q]), self.correlation_of, len(theta)
        outer = np.outer(sd, sd)
        dR, d2R = _derivatives(inner, theta[q:], q)
        # by the logarithm of one standard deviation, an entry is multiplied by how often it has it
        times = np.eye(q)[:, :, None] + np.eye(q)[:, None, :]
        first, second = np.empty((n, q, q)), np.empty((n, n, q, q))
        first[:q] = times * outer * inner.correlation(theta[q:], q)
        first[q:] = outer * dR
        second[:q, :q] = times[:, None] * first[:q]
        second[q:, q:] = outer * d2R
        second[:q, q:] = times[:, None] * first[q:]
        second[q:, :q] = np.swapaxes(second[:q, q:], 0, 1)
        return first, second

    def names(self, effects: _Names) -> _Names:
        """``sd_`` and the effect, then the correlation's."""
        return (*(f"sd_{e}" for e in effects), *_names(self.correlation_of, effects))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Standard deviations, then the correlation's."""
        return (*(Kind.SD,) * q, *_kinds(self.correlation_of, q))

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The standard deviations, then the correlation's."""
        return np.concatenate([np.exp(theta[:q]), _natural(self.correlation_of, theta[q:], q)])
