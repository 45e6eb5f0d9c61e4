"""Equalities between natural parameters, as records."""

import math
from typing import TypeAlias

import numpy as np

from lmmkit.records import FloatArray, record


@record
class Hold:
    """Parameter ``index`` equals ``value``.

    The index is a place among the packed natural parameters, beta included, where a term with a
    covariance structure has the structure's parameters in place of its triangle.
    """

    index: int
    value: float

    @property
    def coefficients(self) -> tuple[tuple[int, float], ...]:
        """The parameter, once."""
        return ((self.index, 1.0),)


@record
class Relation:
    """The sum of coefficients times parameters, given as (index, coefficient), equals ``value``."""

    coefficients: tuple[tuple[int, float], ...]
    value: float


@record
class HoldCorrelation:
    """The covariance at ``index``, over the root of the variances at these two, is ``value``."""

    index: int
    variances: tuple[int, int]
    value: float

    @property
    def places(self) -> tuple[int, int, int]:
        """Of the covariance and the two variances."""
        return (self.index, *self.variances)

    def local(self, values: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """``covariance - value sqrt(a b)`` with its gradient (3,) and Hessian (3, 3)."""
        covariance, a, b = values[list(self.places)]
        root = float(np.sqrt(a * b))
        half, quarter = 0.5 * self.value * root, 0.25 * self.value * root
        bend = np.array([[0, 0, 0], [0, 1 / a**2, -1 / (a * b)], [0, -1 / (a * b), 1 / b**2]])
        return covariance - self.value * root, np.array([1.0, -half / a, -half / b]), quarter * bend


Equation: TypeAlias = Hold | Relation | HoldCorrelation


def relation_row(relation: Hold | Relation, n: int) -> FloatArray:
    """The coefficients as a vector over all n parameters."""
    row = np.zeros(n)
    for index, coefficient in relation.coefficients:
        row[index] += coefficient
    return row


def gap(equation: Equation, values: FloatArray) -> float:
    """How far all n parameters are from meeting an equation, in the unit of its value.

    NaN for a correlation with an effect whose variance is zero.
    """
    if isinstance(equation, HoldCorrelation):
        covariance, a, b = values[list(equation.places)].tolist()
        return covariance / math.sqrt(a * b) - equation.value if a > 0.0 < b else math.nan
    return float(relation_row(equation, len(values)) @ values - equation.value)
