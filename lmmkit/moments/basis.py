"""Standard coordinates: columns of X and Z made nearly orthonormal before anything is summed.

Cross-products square a condition number: with a covariate measured as a year or a time stamp,
``Z'Z`` of the raw columns has lost the digits that the likelihood needs. The columns are therefore
recombined first, ``X_std = X B`` and ``Z_std = Z C``, and the response is taken as a residual,
``y_std = y - X beta0``. That is an exact change of coordinates of the same model,

    beta = beta0 + B beta_std,      Psi = C Psi_std C',

so it need not be computed from all rows: any well-conditioning B, C and beta0 serve.
"""

import numpy as np

from lmmkit.design.blocks import GroupBlock
from lmmkit.linalg import block_diagonal, duplication, vech
from lmmkit.records import FloatArray, float_array, float_arrays, record

_ENOUGH_ROWS = 4_000
_EPS = 1e-13
_COMMON = 20


@record
class Basis:
    """The way from standard coordinates to the user's.

    Attributes
    ----------
    origin : ndarray (..., p)
        beta0.
    x : ndarray (p, p_free)
        B. Fewer columns than rows where fixed effects are held.
    z : tuple of ndarray (q_k, q_k)
        C of each random term, upper triangular; fewer columns than rows where effects are held
        at zero.
    log_det_x : float
        ``log |det B|``; under REML the criterion refers to the columns that the user gave.
    """

    origin: FloatArray = float_array()
    x: FloatArray = float_array(2)
    z: tuple[FloatArray, ...] = float_arrays(2)
    log_det_x: float = 0.0

    def beta(self, standard: FloatArray) -> FloatArray:
        """Fixed effects (..., p) in the user's coordinates."""
        return self.origin + standard @ self.x.T

    def standard_beta(self, beta: FloatArray) -> FloatArray:
        """Fixed effects (..., p_free) in standard coordinates."""
        return (beta - self.origin) @ left_inverse(self.x).T

    def standard_psi(self, psi: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
        """``C^-1 Psi C^-T`` of each term."""
        inverses = [left_inverse(c) for c in self.z]
        return tuple(c @ p @ c.T for c, p in zip(inverses, psi, strict=True))

    def standard_factors(self, factors: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
        """The lower triangular factor of ``C^-1 T T' C^-T``, diagonal >= 0, of each term."""
        return tuple(
            _lower_factor(left_inverse(c) @ t) for c, t in zip(self.z, factors, strict=True)
        )

    def psi(self, factors: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
        """``C T T' C'`` of each term's factor T; what is rounding of zero is zero."""
        products = []
        for c, t in zip(self.z, factors, strict=True):
            root = c @ t
            size = np.linalg.norm(np.abs(c) @ np.abs(t), axis=-1, keepdims=True)
            root = np.where(np.linalg.norm(root, axis=-1, keepdims=True) > _EPS * size, root, 0.0)
            products.append(root @ np.swapaxes(root, -1, -2))
        return tuple(products)

    def standard_vech(self) -> FloatArray:
        """The matrix that takes all terms' packed Psi to packed Psi_std."""
        return block_diagonal([congruence(left_inverse(c)) for c in self.z])


def left_inverse(columns: FloatArray) -> FloatArray:
    """L with ``L columns = 1``, for rows in any units."""
    length = np.linalg.norm(columns, axis=1)
    power = np.round(np.log2(np.where(length > 0.0, length, 1.0)) / _COMMON)
    unit = 2.0 ** (_COMMON * power)  # rows in common units stay as they are
    return np.asarray(np.linalg.pinv(columns / unit[:, None]) / unit)


def _lower_factor(root: FloatArray) -> FloatArray:
    """The lower triangular L, diagonal >= 0, with ``L L' = root root'``."""
    upper = np.linalg.qr(np.swapaxes(root, -1, -2), mode="r")
    sign = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return np.asarray(np.swapaxes(upper * sign[..., None], -1, -2))


def congruence(c: FloatArray) -> FloatArray:
    """The matrix that takes ``vech(S)`` to ``vech(c S c')``."""
    rows, columns = c.shape
    images = np.kron(c, c) @ duplication(columns)
    return vech(images.T.reshape(images.shape[1], rows, rows)).T


def standard_basis(blocks: tuple[GroupBlock, ...]) -> Basis:
    """A basis for the data of ``blocks``, from a few thousand of their rows."""
    stride = max(1, sum(block.rows.size for block in blocks) // _ENOUGH_ROWS)
    sampled = [_every(block, stride) for block in blocks]
    y = np.concatenate([part[0] for part in sampled], axis=-1)
    X, *Z = (
        np.concatenate(columns) for columns in zip(*(part[1] for part in sampled), strict=True)
    )
    x = _inverse_root(X)
    standard = X @ x
    return Basis(
        origin=(y @ standard) @ x.T / max(len(X), 1),
        x=x,
        z=tuple(
            x if all(b.Z[k] is b.X for b in blocks) else _inverse_root(Z[k])
            for k in range(len(blocks[0].Z))
        ),
        log_det_x=float(np.log(np.diagonal(x)).sum()),
    )


def _every(block: GroupBlock, stride: int) -> tuple[FloatArray, list[FloatArray]]:
    """The rows of some groups, whitened by the prior weights: y (..., n), and X, Z of each term."""
    kept = slice(None, None, min(stride, max(1, len(block.rows))))
    y, columns = block.y[..., kept, :], [part[kept] for part in (block.X, *block.Z)]
    if block.weights is not None:
        root = np.sqrt(block.weights[kept])
        y, columns = y * root, [part * root[..., None] for part in columns]
    n = y.shape[-2] * y.shape[-1]
    return (
        y.reshape(*y.shape[:-2], n),
        [part.reshape(n, part.shape[2]) for part in columns],
    )


def _inverse_root(columns: FloatArray) -> FloatArray:
    """Upper triangular R^-1, diagonal > 0: ``columns R^-1`` has orthonormal columns times sqrt(n).

    A column that depends on earlier ones (in a sample it may) is made orthogonal to these only.
    """
    n, k = columns.shape
    scale = np.sqrt((columns**2).mean(axis=0)) if n else np.zeros(k)
    scale = np.where(scale > 0, scale, 1.0)
    padded = np.concatenate([columns / scale, np.zeros((max(k - n, 0), k))])
    r = np.linalg.qr(padded, mode="r") / np.sqrt(max(n, 1))
    r *= np.where(np.diagonal(r) < 0, -1.0, 1.0)[:, None]
    dependent = np.diagonal(r) < 1e-9
    r[dependent] = np.eye(k)[dependent]
    return np.asarray(np.triu(np.linalg.inv(r)) / scale[:, None])
