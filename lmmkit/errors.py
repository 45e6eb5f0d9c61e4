"""The errors that lmmkit raises, all under :class:`LmmkitError`.

A message says what was expected, what came instead, and what to do about it, and it names the
column, term, level or parameter concerned.
"""


class LmmkitError(Exception):
    """Base class: ``except LmmkitError`` catches everything that lmmkit raises on purpose."""


class FormulaError(LmmkitError, ValueError):
    """The text of a formula does not describe a model."""


class DataError(LmmkitError, ValueError):
    """The data cannot carry the model: a column, a level or a value is wrong."""


class ColumnNotFoundError(DataError):
    """A formula or an argument names a column that the frame does not have."""


class ShapeError(LmmkitError, ValueError):
    """An array's shape, type or values do not fit the record that is to hold it."""


class ParameterError(LmmkitError, ValueError):
    """A parameter value or name is not legal: a covariance matrix that is not one, say."""


class ArgumentError(LmmkitError, ValueError):
    """An argument of a function is not one of its legal values."""


class StrategyError(LmmkitError, ValueError):
    """A fitting strategy cannot work on this objective; said before the first iteration."""


class UnsupportedModelError(LmmkitError, NotImplementedError):
    """A well-formed model that this version does not fit."""


class ModelSizeError(LmmkitError, MemoryError):
    """The model would not fit into memory; said before the first iteration."""


class ConformanceError(LmmkitError, AssertionError):
    """A structure or a step is not what its contract says; raised by :mod:`lmmkit.testing`."""


class MissingExtraError(LmmkitError, ImportError):
    """A function needs an optional dependency; the message names the extra that brings it."""
