"""Where to go from a gradient: steepest ascent, or one of the conjugate directions."""

from collections.abc import Callable
from typing import TypeAlias

from lmmkit.records import FloatArray, float_array, record


@record
class Slope:
    """Gradient information at two successive places.

    Attributes
    ----------
    score, previous_score : ndarray (n,)
    ascent, previous_ascent : ndarray (n,)
        The scores preconditioned by the metric.
    previous_direction : ndarray (n,)
    """

    score: FloatArray = float_array(1)
    previous_score: FloatArray = float_array(1)
    ascent: FloatArray = float_array(1)
    previous_ascent: FloatArray = float_array(1)
    previous_direction: FloatArray = float_array(1)


BetaFormula: TypeAlias = Callable[[Slope], float]


def zero(slope: Slope) -> float:
    """No memory: steepest ascent."""
    return 0.0


def fletcher_reeves(slope: Slope) -> float:
    """``g'z / g_old'z_old`` (Fletcher & Reeves 1964)."""
    return float(slope.score @ slope.ascent / (slope.previous_score @ slope.previous_ascent))


def polak_ribiere(slope: Slope) -> float:
    """``max(0, (g - g_old)'z / g_old'z_old)`` (Polak & Ribiere 1969, restarted at zero)."""
    change = slope.score - slope.previous_score
    return max(0.0, float(change @ slope.ascent / (slope.previous_score @ slope.previous_ascent)))


def hestenes_stiefel(slope: Slope) -> float:
    """``max(0, (g - g_old)'z / -(g - g_old)'d_old)`` (Hestenes & Stiefel 1952)."""
    change = slope.score - slope.previous_score
    along = float(change @ slope.previous_direction)
    return max(0.0, float(change @ slope.ascent) / -along) if along < 0 else 0.0


def dai_yuan(slope: Slope) -> float:
    """``g'z / -(g - g_old)'d_old`` (Dai & Yuan 1999)."""
    along = float((slope.score - slope.previous_score) @ slope.previous_direction)
    return float(slope.score @ slope.ascent) / -along if along < 0 else 0.0
