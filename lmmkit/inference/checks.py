"""What the functions of a fit ask of their arguments, and the normal and chi-square tails."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.records import FloatArray


def check_fit(fit: Any) -> None:
    """Raise unless ``fit`` is one."""
    if not isinstance(fit, Fit):
        raise ArgumentError(f"expected a Fit, as fit() returns it, got {type(fit).__name__}")


def check_level(level: Any) -> None:
    """Raise unless ``level`` is a probability strictly between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0.0 < level < 1.0:
        raise ArgumentError(f"level: expected a number between 0 and 1 such as 0.95, got {level!r}")


def normal_quantile(level: float) -> float:
    """The half width, in standard errors, of a two-sided interval with coverage ``level``."""
    from scipy.special import ndtri

    check_level(level)
    return float(ndtri(0.5 + 0.5 * level))


def two_sided_p(z: ArrayLike) -> FloatArray:
    """``P(|Z| >= |z|)`` for a standard normal Z; NaN stays NaN."""
    from scipy.special import ndtr

    return np.asarray(2.0 * ndtr(-np.abs(z)))


def chi2_tail(statistic: float, df: int) -> float:
    """``P(chi2_df >= statistic)``; chi2_0 is zero for certain."""
    from scipy.special import chdtrc

    if df == 0:
        return float(statistic <= 0.0)
    return float(chdtrc(df, max(statistic, 0.0)))
