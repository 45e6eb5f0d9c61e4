"""Anderson's acceleration of a fixed-point iteration ``v <- F(v)`` (1965, J. ACM 12).

The next place is what the last few say a linear F would have as its fixed point.
"""

from collections.abc import Sequence

import numpy as np

from lmmkit.records import FloatArray

_DEPTH = 5
_WORSE = 2.0
_DEPENDENT = 1e-8


def accelerated(places: Sequence[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """The next place from pairs ``(v, F(v))``, the last one latest.

    Where it moved away from the fixed point, the half way to its image.
    """
    points, images = (np.array(each[-_DEPTH:]) for each in zip(*places, strict=True))
    gaps = images - points
    size = np.linalg.norm(gaps, axis=1)
    if size[-1] > _WORSE * size.min():
        return np.asarray(0.5 * (points[-1] + images[-1]))
    steps = np.diff(gaps, axis=0)
    mix = np.linalg.lstsq(steps.T, gaps[-1], rcond=_DEPENDENT)[0]
    return np.asarray(images[-1] - mix @ np.diff(images, axis=0))
