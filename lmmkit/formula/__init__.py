"""Formulas: from text to records."""
