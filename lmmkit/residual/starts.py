"""Which of several starts of variance functions are worth a search; starts elsewhere."""

from collections.abc import Sequence

import numpy as np

from lmmkit.records import FloatArray
from lmmkit.residual.profile import Inner, ObjectiveAt, locate

_TIE = 1e-9
_FURTHER = 10
_SPREAD = 1.5
_ROWS = 50_000


def with_peaks(
    at: ObjectiveAt,
    inner: Inner,
    starts: FloatArray,
    alternatives: Sequence[tuple[slice, FloatArray]],
) -> FloatArray:
    """Starts (s, k) combined with those of each variance function that are peaks.

    A peak is one whose log-likelihood, the rest at the first start, is not below that of its
    nearest neighbours.
    """
    for own, rows in alternatives:
        line = np.repeat(starts[:1], len(rows), axis=0)
        line[:, own] = rows
        found = [locate(at, inner, theta, None) for theta in line]
        loglik = np.array([-np.inf if each is None else each.optimum.loglik for each in found])
        peaks = [rows[i] for i in range(len(rows)) if _is_peak(i, rows, loglik)]
        combined = np.repeat(starts, len(peaks), axis=0)
        combined[:, own] = np.tile(peaks, (len(starts), 1))
        starts = combined
    return starts


def further_starts(starts: FloatArray, rows: int) -> FloatArray:
    """Places (m, k) all around ``starts`` (s, k), the same every time.

    None of a single parameter, which its own starts cover; fewer of so many rows that each is dear.
    """
    count = min(_FURTHER, _ROWS // rows) if starts.shape[1] > 1 else 0
    generator = np.random.default_rng(count)
    shift = _SPREAD * generator.standard_normal((count, starts.shape[1]))
    return np.asarray(np.resize(starts, shift.shape) + shift)


def _is_peak(i: int, rows: FloatArray, loglik: FloatArray) -> bool:
    distance = np.linalg.norm(rows - rows[i], axis=1)
    distance[i] = np.inf
    beside = distance <= distance.min() * (1.0 + _TIE)
    return bool(loglik[i] >= loglik[beside].max())
