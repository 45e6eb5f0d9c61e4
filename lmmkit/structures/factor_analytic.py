"""A few common factors, with or without variances of the effects' own."""

from functools import cache
from typing import Any

import attrs
import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray, record
from lmmkit.structures.contract import Derivatives, Kind


def _rank(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(
            f"{type(instance).__name__}: expected a whole number of factors, at least 1, got "
            f"{value!r}"
        )


@cache
def _places(q: int, rank: int) -> tuple[Any, Any]:
    """Rows and columns of the loadings that are free: zero above the diagonal, row by row."""
    rows, columns = np.nonzero(np.tril(np.ones((q, min(rank, q)))))
    return rows, columns


def _loadings(theta: FloatArray, q: int, rank: int) -> FloatArray:
    matrix = np.zeros((q, min(rank, q)))
    rows, columns = _places(q, rank)
    matrix[rows, columns] = theta[: len(rows)]
    return matrix


def _derivatives(theta: FloatArray, q: int, rank: int) -> Derivatives:
    """Of ``L L'`` by the free loadings."""
    rows, columns = _places(q, rank)
    n = len(rows)
    L = _loadings(theta, q, rank)
    first = np.zeros((n, q, q))
    first[np.arange(n), rows] = L[:, columns].T
    second = np.zeros((n, n, q, q))
    i, j = np.nonzero(columns[:, None] == columns)
    np.add.at(second, (i, j, rows[i], rows[j]), 1.0)
    return first + np.swapaxes(first, 1, 2), second + np.swapaxes(second, 2, 3)


def _names(effects: tuple[str, ...], rank: int) -> tuple[str, ...]:
    rows, columns = _places(len(effects), rank)
    return tuple(f"loading{j + 1}_{effects[i]}" for i, j in zip(rows, columns, strict=True))


@record
class ReducedRank:
    """``Psi = L L'``, L (q, rank) lower trapezoidal: of this rank, and singular.

    Attributes
    ----------
    rank : int
    """

    rank: int = attrs.field(default=1, validator=_rank)

    def at(self, effects: tuple[str, ...]) -> "ReducedRank":
        """Refuses more factors than effects."""
        _check_rank(self, self.rank, effects)
        return self

    def n_params(self, q: int) -> int:
        """``q rank - rank (rank - 1) / 2``."""
        return len(_places(q, self.rank)[0])

    def start(self, q: int) -> FloatArray:
        """Different loadings for each factor."""
        return _start(q, self.rank)

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``L L'``."""
        L = _loadings(theta, q, self.rank)
        return np.asarray(L @ L.T)

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Linear and constant."""
        return _derivatives(theta, q, self.rank)

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``loading1_`` and the effect."""
        return _names(effects, self.rank)

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Loadings."""
        return (Kind.LOADING,) * self.n_params(q)

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """Each factor's sign such that its first loading is positive."""
        return _signed(theta, q, self.rank)


@record
class FactorAnalytic:
    """``Psi = L L' + diag(sd^2)``: common factors, and a variance of each effect's own.

    Attributes
    ----------
    rank : int
        Number of factors, columns of L.
    """

    rank: int = attrs.field(default=1, validator=_rank)

    def at(self, effects: tuple[str, ...]) -> "FactorAnalytic":
        """Refuses more parameters than an unstructured covariance has."""
        _check_rank(self, self.rank, effects)
        q = len(effects)
        if self.n_params(q) > q * (q + 1) // 2:
            raise ParameterError(
                f"FactorAnalytic({self.rank}): {q} effects have {q * (q + 1) // 2} variances and "
                f"covariances, too few for {self.n_params(q)} parameters; use fewer factors"
            )
        return self

    def n_params(self, q: int) -> int:
        """``q (rank + 1) - rank (rank - 1) / 2``."""
        return len(_places(q, self.rank)[0]) + q

    def start(self, q: int) -> FloatArray:
        """Different loadings for each factor, standard deviations of 0.8."""
        return np.concatenate([_start(q, self.rank), np.full(q, 0.8)])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        """``L L' + diag(sd^2)``."""
        L = _loadings(theta, q, self.rank)
        return np.asarray(L @ L.T + np.diag(theta[-q:] ** 2))

    def derivatives(self, theta: FloatArray, q: int) -> Derivatives:
        """Linear and constant."""
        n, i = len(theta), np.arange(q)
        first, second = np.zeros((n, q, q)), np.zeros((n, n, q, q))
        first[:-q], second[:-q, :-q] = _derivatives(theta[:-q], q, self.rank)
        first[n - q + i, i, i] = 2.0 * theta[-q:]
        second[n - q + i, n - q + i, i, i] = 2.0
        return first, second

    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        """``loading1_`` and the effect, then ``sd_`` and the effect."""
        return (*_names(effects, self.rank), *(f"sd_{effect}" for effect in effects))

    def kinds(self, q: int) -> tuple[Kind, ...]:
        """Loadings, then standard deviations."""
        return (*(Kind.LOADING,) * (self.n_params(q) - q), *(Kind.SD,) * q)

    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        """Each factor's sign such that its first loading is positive, as are the deviations."""
        return np.concatenate([_signed(theta[:-q], q, self.rank), np.abs(theta[-q:])])


def _check_rank(structure: object, rank: int, effects: tuple[str, ...]) -> None:
    if rank > len(effects):
        raise ParameterError(
            f"{type(structure).__name__}: expected at most {len(effects)} factors for the effects "
            f"{', '.join(effects)}, got {rank}"
        )


def _start(q: int, rank: int) -> FloatArray:
    rows, columns = _places(q, rank)
    return np.where(rows == columns, 0.7, 0.5 / (1.0 + columns) * (-1.0) ** (columns * (rows + 1)))


def _signed(theta: FloatArray, q: int, rank: int) -> FloatArray:
    L = _loadings(theta, q, rank)
    first = np.diagonal(L)
    columns = _places(q, rank)[1]
    return np.asarray(theta * np.where(first < 0, -1.0, 1.0)[columns])
