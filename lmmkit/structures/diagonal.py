"""Uncorrelated effects."""

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.linalg import psd_factor
from lmmkit.records import FloatArray, frozen_array, record
from lmmkit.structures.contract import Derivatives, Kind


@record
class Diagonal:
    """``Psi = diag(sd_1^2, ..., sd_q^2)``; theta is the sds relative to sigma, of either sign."""

    def n_params(self, q: int) -> int:
        """As many as effects."""
        return q

    def start(self, q: int) -> FloatArray:
        """Ones."""
        return np.ones(q)

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``diag(theta^2)``."""
        return np.diag(theta**2)

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Of ``theta^2``."""
        i = np.arange(q)
        first, second = np.zeros((q, q, q)), np.zeros((q, q, q, q))
        first[i, i, i] = 2.0 * theta
        second[i, i, i, i] = 2.0
        return first, second

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``sd_`` and the effect."""
        return tuple(f"sd_{effect}" for effect in effects)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Standard deviations."""
        return (Kind.SD,) * q

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The parameter itself."""
        return theta

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """Without signs."""
        return np.abs(theta)

    def m_step(self, moment: FloatArray, theta: FloatArray, q: int) -> FloatArray:
        """The roots of the diagonal."""
        return np.sqrt(np.maximum(np.diagonal(moment), 0.0))


def _known(instance: object, attribute: object, matrix: FloatArray | None) -> None:
    if matrix is None:
        return
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix).min() < -1e-10:
        raise ParameterError(
            f"Identity.matrix: expected a covariance matrix (q, q), symmetric and positive "
            f"semidefinite, got\n{matrix}"
        )
    if not matrix.any():
        raise ParameterError("Identity.matrix: expected a matrix other than zero")


@record
class Identity:
    """``Psi = sd^2 K``, K the identity or another known matrix; theta is the sd relative to sigma.

    Attributes
    ----------
    matrix : ndarray (q, q) or None
        K; None is the identity: uncorrelated effects of one variance.
    """

    matrix: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(frozen_array), validator=_known
    )

    def at(self, effects: tuple[str, ...]) -> "Identity":
        """Refuses effects that are not as many as K has rows."""
        if self.matrix is not None and len(self.matrix) != len(effects):
            raise ParameterError(
                f"Identity: expected {len(self.matrix)} effects, as the known matrix has rows, got "
                f"{len(effects)}: {', '.join(effects)}"
            )
        return self

    def n_params(self, q: int) -> int:
        """One."""
        return 1

    def start(self, q: int) -> FloatArray:
        """One."""
        return np.ones(1)

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``theta^2 K``."""
        return np.asarray(theta[0] ** 2 * self._known(q))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Of ``theta^2``."""
        known = self._known(q)
        return 2.0 * theta[0] * known[None], 2.0 * known[None, None]

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``sd``."""
        return ("sd",)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """A standard deviation."""
        return (Kind.SD,)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        """The parameter itself."""
        return theta

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """Without a sign."""
        return np.abs(theta)

    def m_step(self, moment: FloatArray, theta: FloatArray, q: int) -> FloatArray:
        """The root of ``tr(K^+ moment) / rank(K)``."""
        factor = psd_factor(self._known(q))
        inverse = np.linalg.pinv(factor)
        rank = np.linalg.matrix_rank(factor)
        total = max(float(np.trace(inverse @ moment @ inverse.T)), 0.0)
        return np.array([np.sqrt(total / rank)])

    def _known(self, q: int) -> FloatArray:
        return np.eye(q) if self.matrix is None else self.matrix
