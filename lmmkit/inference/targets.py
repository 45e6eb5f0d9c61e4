"""The parameters that intervals and profiles are about, on the scale that people read."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.parameters import (
    correlation,
    parameter_covariance,
    parameter_values,
    parameters,
)
from lmmkit.inference.residual_parameters import standard_errors
from lmmkit.likelihood.reported import Parameter
from lmmkit.records import FloatArray, record

TargetKind: TypeAlias = Literal[
    "fixed", "sd", "cor", "sigma", "loading", "range", "shape", "free", "structure"
]

_KINDS: dict[str, TargetKind] = {
    "fixed": "fixed",
    "variance": "sd",
    "covariance": "cor",
    "residual": "sigma",
}


@record
class Target:
    """A fixed effect, a standard deviation, a correlation or the residual standard deviation.

    Or another parameter of a covariance structure, as the structure gives it, or one of the
    residual structure, of the kind ``structure``.

    Attributes
    ----------
    parameter : Parameter
        The entry of the packed natural parameters that it comes from.
    kind : {"fixed", "sd", "cor", "sigma", "loading", "range", "shape", "free", "structure"}
    estimate : float
        NaN for a correlation with an effect whose variance is zero.
    lower, upper : float
        Bounds of the legal values.
    free : bool
        False where it is held.
    std_error : float
        By the delta method from the natural scale; NaN where there is none.
    at_bound : bool
        Of a residual structure's parameter, whether it is as far out as the likelihood can tell.
    """

    parameter: Parameter
    kind: TargetKind
    estimate: float
    lower: float
    upper: float
    free: bool
    std_error: float
    at_bound: bool = False

    @property
    def has_profile(self) -> bool:
        """Whether its profile can be walked: not where it is held, infinite, or not identified."""
        structure = self.kind in ("loading", "range", "shape", "free", "structure")
        structure = structure and not self.at_bound
        return self.free and not np.isnan(self.std_error if structure else self.estimate)

    def __str__(self) -> str:
        group = "" if self.kind in ("fixed", "sigma") else f" on {self.parameter.group}"
        return f"{self.kind} of {self.parameter.term}{group}"


def targets(fit: Fit, which: Any = None) -> tuple[Target, ...]:
    """All parameters in packed order, or those that ``which`` names.

    Parameters
    ----------
    fit : Fit
    which : str, tuple, or sequence of these; optional
        A fixed effect's name, ``"sigma"``, ``(group, effect)`` for a standard deviation or
        ``(group, effect, effect)`` for a correlation, ``(group, name)`` for a parameter of a
        covariance structure, ``("Residual", name)`` for one of the residual structure.

    Raises
    ------
    ArgumentError
        For a name that is no parameter.
    """
    values = parameter_values(fit)
    covariance = parameter_covariance(fit)
    free = fit.objective.free
    every = tuple(
        _target(parameter, values, covariance, bool(free[parameter.index]))
        for parameter in parameters(fit)
    )
    every += _of_residuals(fit, len(every))
    if which is None:
        return every
    keys = [_key(target) for target in every]
    chosen = {_position(key, keys) for key in _listed(which)}
    return tuple(target for i, target in enumerate(every) if i in chosen)


def _target(parameter: Parameter, values: FloatArray, covariance: FloatArray, free: bool) -> Target:
    value = float(values[parameter.index])
    lower, upper = -np.inf, np.inf
    index, slope = [parameter.index], np.ones(1)
    if parameter.natural is not None:
        kind: TargetKind = parameter.natural.value
        lower, upper = parameter.natural.bounds
    elif (kind := _KINDS[parameter.kind]) in ("sd", "sigma"):
        value, lower = float(np.sqrt(max(value, 0.0))), 0.0
        slope = np.array([0.5 / value if value > 0 else np.nan])
    elif parameter.variances is not None:
        i, j = parameter.variances
        lower, upper = -1.0, 1.0
        index = [parameter.index, i, j]
        ratio = correlation(value, float(values[i]), float(values[j]))
        slope = np.full(3, np.nan)
        if abs(ratio) < 1.0:
            root = np.sqrt(values[i] * values[j])
            slope = np.array([1.0 / root, -0.5 * ratio / values[i], -0.5 * ratio / values[j]])
        value = ratio
    variance = float(slope @ covariance[np.ix_(index, index)] @ slope)
    error = float(np.sqrt(variance)) if free and variance >= 0 else np.nan
    return Target(parameter, kind, value, lower, upper, free, error)


def _of_residuals(fit: Fit, start: int) -> tuple[Target, ...]:
    """Parameters of the residual structure."""
    residual = fit.residual
    if residual is None:
        return ()
    found = []
    known = zip(residual.model.parameters, residual.estimates, standard_errors(fit), strict=True)
    for i, (own, estimate, error) in enumerate(known):
        parameter = Parameter(start + i, "Residual", own.name, "structure")
        value, bounds = float(estimate), (own.lower, own.upper)
        free = i not in residual.restriction.held
        at_bound = own.name in fit.certificate.boundary
        found.append(Target(parameter, "structure", value, *bounds, free, float(error), at_bound))
    return tuple(found)


def _key(target: Target) -> Any:
    parameter = target.parameter
    if target.kind == "fixed":
        return parameter.term
    if target.kind == "sigma":
        return "sigma"
    effects = parameter.term.split(", ") if parameter.variances else [parameter.term]
    return (parameter.group, *effects)


def _listed(which: Any) -> Sequence[Any]:
    if isinstance(which, str | tuple):
        return [which]
    if isinstance(which, Iterable):
        return list(which)
    raise ArgumentError(
        "which: expected a name, a tuple such as (group, effect), or a list of these, got "
        f"{which!r}"
    )


def _position(key: Any, keys: list[Any]) -> int:
    for candidate in (key, (key[0], *key[:0:-1]) if isinstance(key, tuple) and key else key):
        if candidate in keys:
            return keys.index(candidate)
    hint = "the residual standard deviation is called 'sigma'; " if key == "sigma2" else ""
    raise ArgumentError(
        f"which: {key!r} is no parameter of this fit; {hint}expected one of "
        f"{', '.join(map(repr, keys))}"
    )
