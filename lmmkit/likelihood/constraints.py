"""Equalities between natural parameters, as records."""

from typing import TypeAlias

from lmmkit.records import record


@record
class Hold:
    """Entry ``index`` of the packed natural parameters equals ``value``."""

    index: int
    value: float


@record
class HoldCorrelation:
    """The covariance at ``covariance`` equals ``value`` times the root of the two variances'."""

    covariance: int
    variances: tuple[int, int]
    value: float


Constraint: TypeAlias = Hold | HoldCorrelation
