"""Variance components: the random effects' covariances and the residual variance."""

import math

import numpy as np
import polars as pl

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.parameters import (
    correlation,
    parameter_covariance,
    parameter_values,
    parameters,
)
from lmmkit.inference.residual_parameters import residual_parameters
from lmmkit.likelihood.reported import Parameter
from lmmkit.records import FloatArray
from lmmkit.structures.contract import Kind


def variance_components(fit: Fit) -> pl.DataFrame:
    """One row a variance or covariance, the residual variance, the residual structure's parameters.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    polars.DataFrame
        ``group, term, kind, estimate, std_error, sd_cor``. The estimate is a variance or a
        covariance (its term names two effects, ``"Intercept, Time"``), ``sd_cor`` the standard
        deviation or the correlation, null where a variance is zero. A term with a covariance
        structure has one row a parameter of the structure: ``sd``, ``cor``, ``range`` and so on.
        Standard errors come from the full observed information, see
        :func:`parameter_covariance`; they are null for a parameter that is held, that belongs to
        an effect of variance zero, or that the data do not identify. Parameters of a residual
        structure are of the kind ``structure``, as :func:`residual_parameters` has them.
    """
    check_fit(fit)
    values = parameter_values(fit)
    std_error = np.sqrt(np.diagonal(parameter_covariance(fit)))
    rows = [p for p in parameters(fit) if p.kind != "fixed"]
    table = pl.DataFrame(
        {
            "group": [p.group for p in rows],
            "term": [p.term for p in rows],
            "kind": [p.kind if p.natural is None else p.natural.value for p in rows],
            "estimate": [float(values[p.index]) for p in rows],
            "std_error": [float(std_error[p.index]) for p in rows],
            "sd_cor": [_sd_cor(p, values) for p in rows],
        },
        schema_overrides={"sd_cor": pl.Float64},
    ).fill_nan(None)
    if fit.residual is None:
        return table
    structure = residual_parameters(fit).select(
        group=pl.lit("Residual"),
        term="term",
        kind=pl.lit("structure"),
        estimate="estimate",
        std_error="std_error",
        sd_cor=pl.lit(None, pl.Float64),
    )
    return table.vstack(structure)


def _sd_cor(parameter: Parameter, values: FloatArray) -> float | None:
    value = float(values[parameter.index])
    if parameter.natural is not None:
        return value if parameter.natural in (Kind.SD, Kind.COR) else None
    if parameter.variances is None:
        return math.sqrt(value)
    first, second = parameter.variances
    return correlation(value, float(values[first]), float(values[second]))
