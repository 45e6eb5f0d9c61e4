"""Variance functions: how a row's standard deviation depends on covariates or the fitted value."""

from typing import Self

import numpy as np

from lmmkit.errors import DataError
from lmmkit.records import FloatArray, IntArray, evolve, record
from lmmkit.residual.checks import check_numbers, column_name
from lmmkit.residual.contract import Coordinates, ResidualParameter, elementwise
from lmmkit.residual.written import written

_STEEP = (2.0, 5.0)
_LEAST_SPREAD = 0.2


@record
class PerStratum:
    """``g = delta_s``, one standard deviation a stratum, 1 in the first."""

    column: str
    strata: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return written("per_stratum", self.column)

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.column,)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        names = (f"sd ratio {self.column}[{label}]" for label in self.labels[1:])
        return tuple(ResidualParameter(name, 0.0) for name in names)

    def learn(self, covariates: Coordinates) -> Self:
        strata, labels = strata_of(covariates, 0, "per_stratum")
        return evolve(self, strata=strata, labels=labels)

    def start(self) -> FloatArray:
        return np.zeros(len(self.strata) - 1)

    def values(self, theta: FloatArray) -> FloatArray:
        return np.asarray(np.exp(theta))

    def log_deviation(self, theta: FloatArray, covariates: FloatArray) -> FloatArray:
        each = np.concatenate([[0.0], theta])
        return np.asarray(each[stratum_of(self.strata, covariates[:, 0], self.column)])

    def slopes(self, covariates: FloatArray) -> FloatArray:
        units = np.eye(len(self.strata))[1:]
        return units[:, stratum_of(self.strata, covariates[:, 0], self.column)]


@record
class OfCovariate:
    """A function of a covariate v, ``power``, ``exponential`` or ``constant_plus_power``.

    With ``by`` every stratum has parameters of its own. Theta is of the rate times the scale, and
    of the constant over ``scale^power``, so that the unit of v does not matter.

    Attributes
    ----------
    scale : float
        The largest ``|v|``; of fitted values, that of the response.
    spread : float
        By how much ``log|v|`` differs, or ``v / scale`` of an exponential: starts are by it.
    """

    name: str
    covariate: str | None
    by: str | None
    own: tuple[ResidualParameter, ...]
    scale: float = 1.0
    spread: float = _STEEP[0]
    strata: tuple[float, ...] = (0.0,)
    labels: tuple[str, ...] = ("",)

    def __str__(self) -> str:
        function = "exponential_variance" if self.name == "exponential" else self.name
        return written(function, self.covariate, by=self.by)

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.covariate,) if self.by is None else (self.covariate, self.by)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        if self.by is None:
            return self.own
        return tuple(
            evolve(p, name=f"{p.name} {self.by}[{label}]")
            for label in self.labels
            for p in self.own
        )

    def learn(self, covariates: Coordinates) -> Self:
        v = np.abs(covariates.values[:, 0])
        learned = evolve(self, scale=float(v.max()) or 1.0)
        if self.covariate is not None:
            named = covariates.first(1)
            check_numbers(named, self.name)
            seen = covariates.values[:, 0] / learned.scale
            seen = seen if self.name == "exponential" else np.log(v[v > 0.0])
            spread = float(np.ptp(seen)) if len(seen) else 1.0
            learned = evolve(learned, spread=max(spread, _LEAST_SPREAD))
            if self.name != "exponential" and not v.all():
                learned = learned._with_zero()
        if self.by is not None:
            strata, labels = strata_of(covariates, 1, self.name)
            learned = evolve(learned, strata=strata, labels=labels)
        return learned

    def _no_deviation(self) -> DataError:
        name = "the fitted value" if self.covariate is None else repr(self.covariate)
        return DataError(
            f"power: {name} is 0 in some row, and a power of 0 is no standard deviation; use "
            "constant_plus_power or exponential_variance, or shift the covariate"
        )

    def _with_zero(self) -> Self:
        if self.name == "power":
            raise self._no_deviation()
        constant, power = self.own
        return evolve(self, own=(constant, evolve(power, lower=0.0)))

    def start(self) -> FloatArray:
        powers = [sign * each / self.spread for each in _STEEP for sign in (-1.0, 1.0)]
        if self.name == "constant_plus_power":
            lower = self.own[1].lower
            starts = [[1.0, power] for power in [0.5, *powers] if power > lower]
        else:
            starts = [[power] for power in [0.0, *powers]]
        theta = [
            [float(p.theta(value)) for p, value in zip(self.own, values, strict=True)]
            for values in starts
        ]
        return np.tile(theta, (1, len(self.strata)))

    def values(self, theta: FloatArray) -> FloatArray:
        values = elementwise(self.parameters, theta)
        if self.name == "exponential":
            return values / self.scale
        if self.name == "constant_plus_power":
            values[::2] *= self.scale ** values[1::2]
        return values

    def log_deviation(self, theta: FloatArray, covariates: FloatArray) -> FloatArray:
        v = covariates[:, 0]
        each = elementwise(self.parameters, theta).reshape(len(self.strata), len(self.own))
        if self.by is None:
            chosen = each[0][:, None]
        else:
            chosen = each[stratum_of(self.strata, covariates[:, 1], self.by)].T
        if self.name == "power" and not v.all():
            raise self._no_deviation()
        if self.name == "exponential":
            return np.asarray(chosen[0] * (v / self.scale))
        with np.errstate(divide="ignore"):
            logarithm = np.log(np.abs(v))
        if self.name == "power":
            return np.asarray(chosen[0] * logarithm)
        size = chosen[1] * np.log(self.scale)
        return np.asarray(size + np.log(chosen[0] + np.exp(chosen[1] * logarithm - size)))


def per_stratum(column: str) -> PerStratum:
    """A standard deviation of its own for every level of a column; nlme's ``varIdent``.

    The parameters are ratios to that of the first level, whose standard deviation is sigma.

    Parameters
    ----------
    column : str
    """
    name = column_name(column, "per_stratum: column")
    return PerStratum(name or "")


def power(covariate: str | None = None, *, by: str | None = None) -> OfCovariate:
    """``sd = sigma |v|^power``; nlme's ``varPower``.

    Parameters
    ----------
    covariate : str, optional
        Column of numbers other than 0. By default the fitted value, random effects included: the
        fit then alternates between the two until they agree, as nlme does.
    by : str, optional
        A column of strata that have a power each.
    """
    return _of_covariate("power", covariate, by, (ResidualParameter("power"),))


def exponential_variance(covariate: str | None = None, *, by: str | None = None) -> OfCovariate:
    """``sd = sigma exp(rate v)``; nlme's ``varExp``.

    Parameters
    ----------
    covariate, by : str, optional
        As of :func:`power`; 0 is allowed.
    """
    return _of_covariate("exponential", covariate, by, (ResidualParameter("rate"),))


def constant_plus_power(covariate: str | None = None, *, by: str | None = None) -> OfCovariate:
    """``sd = sigma (constant + |v|^power)``; nlme's ``varConstPower``.

    Parameters
    ----------
    covariate, by : str, optional
        As of :func:`power`; where the covariate is 0 in some row the power is positive.
    """
    own = (ResidualParameter("constant", 0.0), ResidualParameter("power"))
    return _of_covariate("constant_plus_power", covariate, by, own)


def _of_covariate(
    name: str, covariate: str | None, by: str | None, own: tuple[ResidualParameter, ...]
) -> OfCovariate:
    return OfCovariate(
        name, column_name(covariate, f"{name}: covariate"), column_name(by, f"{name}: by"), own
    )


def strata_of(
    covariates: Coordinates, column: int, structure: str
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The distinct values of a column and their labels; a stratum needs two rows."""
    strata, counts = np.unique(covariates.values[:, column], return_counts=True)
    labels = tuple(covariates.label(column, float(value)) for value in strata)
    lonely = np.flatnonzero(counts < 2)
    if len(lonely):
        raise DataError(
            f"{structure}: the stratum {labels[lonely[0]]!r} of {covariates.columns[column]!r} "
            "has one row, which cannot tell its variance; merge it with another stratum"
        )
    return tuple(strata.tolist()), labels


def stratum_of(strata: tuple[float, ...], values: FloatArray, column: str) -> IntArray:
    """The position of each row's stratum."""
    known = np.asarray(strata)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    if (known[place] != values).any():
        other = values[known[place] != values][0]
        raise DataError(f"{column!r} has {other:g}, a stratum that was not in the fit")
    return place.astype(np.int32)
