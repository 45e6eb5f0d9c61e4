"""What a covariance structure is, and what stands in for the parts that it leaves out."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, record
from lmmkit.structures.numeric import numeric_derivatives, numeric_first

Derivatives: TypeAlias = tuple[FloatArray, FloatArray]


class Kind(Enum):
    """What a natural parameter is, which says how it follows sigma and where it ends."""

    SD = "sd"
    LOADING = "loading"
    COR = "cor"
    RANGE = "range"
    SHAPE = "shape"
    FREE = "free"

    @property
    def power(self) -> int:
        """The power of sigma that it is multiplied by: 1 for a standard deviation."""
        return int(self in (Kind.SD, Kind.LOADING))

    @property
    def bounds(self) -> tuple[float, float]:
        """The legal values."""
        if self in (Kind.LOADING, Kind.FREE):
            return -np.inf, np.inf
        return (-1.0, 1.0) if self is Kind.COR else (0.0, np.inf)


@runtime_checkable
class CovarianceStructure(Protocol):
    """A family of covariance matrices of the q effects of a random term.

    ``Psi = sigma2 * covariance(theta, q)``, so that the family has to hold every positive multiple
    of its matrices. These three are enough; a structure may have in addition

    ``derivatives(theta, q)``
        First ``(n, q, q)`` and second ``(n, n, q, q)`` derivatives of the covariance by theta. By
        default they are computed numerically, and the fit says so.
    ``names(effects)``, ``kinds(q)``, ``natural(theta, q)``
        What a user reads: n names, n :class:`Kind` and n values, smooth in theta. By default theta
        itself. A standard deviation may come with either sign; its absolute value is reported.
    ``canonical(theta, q)``
        Of several theta that have one covariance, differing by signs, the one that is reported; a
        fit takes it once, at its end.
    ``m_step(moment, theta, q)``
        The theta that maximizes ``-log|Psi| - tr(Psi^-1 moment)``, for :func:`~lmmkit.em`.
    ``parts``
        Of a composed structure, the structures that it is made of.
    ``at(effects)``
        The structure for effects of these names; called once, before anything else. Here names
        become coordinates, and numbers of effects that a structure cannot have are refused.
    """

    def n_params(self, q: int) -> int:
        """The length n of theta."""

    def start(self, q: int) -> FloatArray:
        """A theta (n,) inside the family, not on its boundary."""

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """A positive semidefinite matrix (q, q), for every real theta (n,)."""


@record
class Quantity:
    """A natural parameter of a structure: its name, and what it is."""

    name: str
    kind: Kind


def structure_name(structure: object) -> str:
    """How messages call a structure: ``Homogeneous(AR1)``."""
    inner = ", ".join(map(structure_name, parts_of(structure)))
    return type(structure).__name__ + (f"({inner})" if inner else "")


def parts_of(structure: object) -> tuple[object, ...]:
    """The structures that a composed one is made of."""
    parts: tuple[object, ...] = getattr(structure, "parts", ())
    return parts


def bound(structure: CovarianceStructure, effects: tuple[str, ...]) -> CovarianceStructure:
    """The structure for effects of these names."""
    at: Callable[[tuple[str, ...]], CovarianceStructure] | None = getattr(structure, "at", None)
    return structure if at is None else at(effects)


def has_exact_derivatives(structure: object) -> bool:
    """Whether the structure, and all that it is made of, bring their own derivatives."""
    own = hasattr(structure, "derivatives")
    return own and all(map(has_exact_derivatives, parts_of(structure)))


def derivatives(structure: CovarianceStructure, theta: FloatArray, q: int) -> Derivatives:
    """First (n, q, q) and second (n, n, q, q) derivatives of the covariance by theta."""
    exact: Callable[[FloatArray, int], Derivatives] | None = getattr(structure, "derivatives", None)
    if exact is not None:
        return exact(theta, q)
    return numeric_derivatives(lambda t: structure.covariance(t, q), theta)


def quantities(structure: CovarianceStructure, effects: tuple[str, ...]) -> tuple[Quantity, ...]:
    """The natural parameters of a structure for these effects."""
    n = structure.n_params(len(effects))
    names: Any = getattr(structure, "names", None)
    kinds: Any = getattr(structure, "kinds", None)
    listed = [f"theta_{i + 1}" for i in range(n)] if names is None else list(names(effects))
    what = [Kind.FREE] * n if kinds is None else [Kind(k) for k in kinds(len(effects))]
    if len(listed) != n or len(what) != n or len(set(listed)) != n:
        raise ParameterError(
            f"{structure_name(structure)}: expected {n} different names and {n} kinds, one a "
            f"parameter, got the names {listed} and {len(what)} kinds"
        )
    return tuple(map(Quantity, listed, what))


def natural(structure: CovarianceStructure, theta: FloatArray, q: int) -> FloatArray:
    """The natural parameters (n,) relative to sigma."""
    own: Callable[[FloatArray, int], FloatArray] | None = getattr(structure, "natural", None)
    return np.asarray(theta if own is None else own(theta, q), dtype=np.float64)


def canonical(structure: CovarianceStructure, theta: FloatArray, q: int) -> FloatArray:
    """The theta (n,) of the same covariance that is reported."""
    own: Callable[[FloatArray, int], FloatArray] | None = getattr(structure, "canonical", None)
    return np.asarray(theta if own is None else own(theta, q), dtype=np.float64)


def natural_jacobian(structure: CovarianceStructure, theta: FloatArray, q: int) -> FloatArray:
    """Derivative (n, n) of :func:`natural`, one row a natural parameter."""
    if not hasattr(structure, "natural"):
        return np.eye(len(theta))
    return numeric_first(lambda t: natural(structure, t, q), theta).T


def checked_start(structure: CovarianceStructure, q: int) -> FloatArray:
    """The start, if it is as many finite numbers as ``n_params`` says.

    Raises
    ------
    ParameterError
    """
    n, start = structure.n_params(q), np.asarray(structure.start(q))
    if start.shape != (n,) or start.dtype.kind not in "iuf" or not np.isfinite(start).all():
        raise ParameterError(
            f"{structure_name(structure)}.start: expected {n} finite numbers, as n_params says, "
            f"got {start!r}; lmmkit.testing.check_structure says what else is wrong"
        )
    return start.astype(np.float64)


def checked_covariance(structure: CovarianceStructure, theta: FloatArray, q: int) -> FloatArray:
    """The covariance, if it is a symmetric matrix (q, q) of finite numbers.

    Raises
    ------
    ParameterError
    """
    matrix = np.asarray(structure.covariance(theta, q))
    name = structure_name(structure)
    if matrix.shape != (q, q) or matrix.dtype.kind != "f":
        raise ParameterError(
            f"{name}.covariance: expected a matrix of floats of shape {(q, q)}, got shape "
            f"{matrix.shape} of {matrix.dtype}"
        )
    if not np.isfinite(matrix).all():
        raise ParameterError(
            f"{name}.covariance: expected finite numbers at {theta}, got\n{matrix}"
        )
    if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=1e-12 * np.abs(matrix).max()):
        raise ParameterError(f"{name}.covariance: expected a symmetric matrix, got\n{matrix}")
    return matrix


def require_structure(value: object, where: str) -> CovarianceStructure:
    """``value``, if it has what the contract asks for.

    Raises
    ------
    ParameterError
    """
    if isinstance(value, type) or not isinstance(value, CovarianceStructure):
        missing = [m for m in ("n_params", "start", "covariance") if not hasattr(value, m)]
        what = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        lacks = f", which lacks {', '.join(missing)}" if missing else "; call it first"
        raise ParameterError(
            f"{where}: expected a covariance structure such as Diagonal(), got {what}{lacks}"
        )
    return value
