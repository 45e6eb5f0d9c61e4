"""The functions that a formula can call: formulaic's, and those that R users expect.

Formulaic loads pandas, so this module is imported when a design is first built.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from formulaic.materializers.types import FactorValues
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_transform
from numpy.typing import NDArray

from lmmkit.errors import DataError


class Coded(NamedTuple):
    """A factor with the contrasts and the levels that the formula asks for."""

    values: Any
    contrasts: Any
    levels: Sequence[Any] | None


def C(
    data: Any,
    contrasts: Any = None,
    *,
    levels: Sequence[Any] | None = None,
    spans_intercept: bool = True,
) -> FactorValues[Any]:
    """Take ``data`` as a factor; numbers must be whole.

    Parameters
    ----------
    data : column
    contrasts : formulaic contrasts, optional
        ``contr.sum``, ``contr.treatment(base="b")``, ...
    levels : sequence, optional
        The levels in the order wanted; by default those that occur, sorted.
    spans_intercept : bool
        Whether the columns of all levels add up to the intercept.
    """
    coded = Coded(data, contrasts, levels)
    return FactorValues(coded, kind="categorical", spans_intercept=spans_intercept)


def cut(data: NDArray[np.float64], breaks: Sequence[float], right: bool = True) -> pl.Series:
    """The interval of ``breaks`` that each number falls in, as a factor in ascending order."""
    if np.ndim(breaks) != 1 or len(breaks) < 2:
        raise DataError("cut(): expected the break points as a list, such as cut(x, [0, 10, 20])")
    breaks = sorted(float(b) for b in breaks)
    sides = ("(", "]") if right else ("[", ")")
    labels = [f"{sides[0]}{low:g}, {high:g}{sides[1]}" for low, high in pairwise(breaks)]
    position = np.searchsorted(breaks, data, side="left" if right else "right") - 1
    outside = np.flatnonzero((position < 0) | (position >= len(labels)))
    if outside.size:
        raise DataError(
            f"cut(): {data[outside[0]]:g} is in none of the intervals {', '.join(labels)}; "
            "widen the break points"
        )
    return pl.Series(labels).gather(position).cast(pl.Enum(labels))


@stateful_transform  # type: ignore[untyped-decorator]
def ns(
    x: NDArray[np.float64],
    df: int | None = None,
    knots: Sequence[float] | None = None,
    _state: dict[str, Any] = {},  # noqa: B006
) -> FactorValues[Any]:
    """Natural cubic spline basis as R's ``splines::ns``, linear beyond the range of the fit.

    Parameters
    ----------
    x : column
    df : int, optional
        Number of columns; interior knots at quantiles.
    knots : sequence of float, optional
        The interior knots instead.
    """
    from scipy.interpolate import BSpline

    if "knots" not in _state:
        if (df is None) == (knots is None):
            raise DataError("ns(): give either df or knots, as in ns(x, df=3)")
        if df is not None:
            if df < 1:
                raise DataError(f"ns(): expected df of at least 1, got {df}")
            knots = np.quantile(x, np.linspace(0, 1, df + 1)[1:-1]).tolist()
        low, high = float(x.min()), float(x.max())
        _state["knots"] = [low] * 4 + sorted(float(k) for k in knots or ()) + [high] * 4
    t = np.asarray(_state["knots"])
    low, high, size = t[0], t[-1], len(t) - 4
    spline = BSpline(t, np.eye(size), 3)
    ends = np.array([low, high])
    curvature = spline(ends, nu=2)[:, 1:]
    natural = np.linalg.qr(curvature.T, mode="complete")[0][:, 2:]
    basis = spline(np.clip(x, low, high))
    for outside, end in ((x < low, low), (x > high, high)):
        basis[outside] += np.outer(x[outside] - end, spline(end, nu=1))
    return FactorValues(
        dict(enumerate((basis[:, 1:] @ natural).T, start=1)),
        kind="numerical",
        format="{name}[{field}]",
    )


FUNCTIONS: Mapping[str, Any] = MappingProxyType(
    {
        **{name: function for name, function in TRANSFORMS.items() if name != "Q"},
        "C": C,
        "factor": C,
        "cut": cut,
        "ns": ns,
        "abs": np.abs,
        "cos": np.cos,
        "expm1": np.expm1,
        "log1p": np.log1p,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "tan": np.tan,
        "tanh": np.tanh,
    }
)
