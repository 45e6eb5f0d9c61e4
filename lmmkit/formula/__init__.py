"""Formulas: from text to records."""

from lmmkit.formula.parse import parse_formula
from lmmkit.formula.terms import BarTerm, ModelFormula

__all__ = ["BarTerm", "ModelFormula", "parse_formula"]
