"""Equalities between natural parameters, as records."""

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


def relation_row(relation: Hold | Relation, n: int) -> FloatArray:
    """The coefficients as a vector over all n parameters."""
    row = np.zeros(n)
    for index, coefficient in relation.coefficients:
        row[index] += coefficient
    return row
