"""Where effects lie: coordinates given, or read from the effects' names."""

import re

import numpy as np

from lmmkit.errors import ParameterError
from lmmkit.records import FloatArray

_INSIDE = re.compile(r"\[(?:T\.)?(.*)\]$")


def coordinates_of(what: str, effects: tuple[str, ...]) -> FloatArray:
    """The coordinates (q, d) in names such as ``"t[1.5]"`` or ``"place[(1, 2)]"``.

    Raises
    ------
    ParameterError
        Where a name holds no numbers.
    """
    points = []
    for effect in effects:
        inside = _INSIDE.search(effect)
        text = (inside[1] if inside else effect).strip(" ()")
        try:
            points.append([float(part) for part in re.split(r"[,;:_ ]+", text)])
        except ValueError:
            raise ParameterError(
                f"{what}: expected effects whose names hold coordinates, such as 't[1.5]' or "
                f"'place[(1, 2)]', got {effect!r}; pass coordinates=, one row an effect"
            ) from None
    if len({len(point) for point in points}) != 1:
        raise ParameterError(f"{what}: expected equally many coordinates in each of {effects}")
    return checked_coordinates(what, np.array(points), effects)


def checked_coordinates(what: str, points: FloatArray, effects: tuple[str, ...]) -> FloatArray:
    """``points`` as (q, d), if there is one a different place for each effect.

    Raises
    ------
    ParameterError
    """
    points = points[:, None] if points.ndim == 1 else points
    if len(points) != len(effects):
        raise ParameterError(
            f"{what}: expected coordinates of {len(effects)} effects ({', '.join(effects)}), got "
            f"{len(points)}"
        )
    for i, j in zip(*np.nonzero(np.tril(distances(points) == 0.0, -1)), strict=True):
        raise ParameterError(
            f"{what}: the effects {effects[j]!r} and {effects[i]!r} have the same coordinates "
            f"{points[i]}, so that their correlation would always be one; merge them"
        )
    return points


def distances(points: FloatArray) -> FloatArray:
    """Euclidean distances (q, q) of points (q, d)."""
    return np.asarray(np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1)))
