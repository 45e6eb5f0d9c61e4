"""Equalities between natural parameters, as records."""

from lmmkit.records import record


@record
class Hold:
    """Entry ``index`` of the packed natural parameters, beta included, equals ``value``."""

    index: int
    value: float
