"""Read ``fixed=``: which parameters are held, at which values, and whether they can be."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from lmmkit.design.design import Design
from lmmkit.errors import ParameterError
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.reported import Parameter, reported
from lmmkit.records import FloatArray, record

_FAR = 1e14
_HUGE = 1e100


@record
class HeldValues:
    """Parameters by position, and the values that they are held at.

    Attributes
    ----------
    beta : dict
        From the position of a column of X.
    entries : dict
        From (term, i, j), i >= j, to an entry of the term's Psi.
    sigma2 : float or None
    natural : dict
        From the index of a parameter of a covariance structure.
    """

    beta: dict[int, float]
    entries: dict[tuple[int, int, int], float]
    sigma2: float | None
    natural: dict[int, float]

    @property
    def zeros(self) -> set[tuple[int, int]]:
        """(term, i) of the variances held at zero."""
        return {(k, i) for (k, i, j), value in self.entries.items() if i == j and value == 0.0}


def read_held_values(objective: Objective, design: Design, fixed: Mapping[Any, Any]) -> HeldValues:
    """The held values of :func:`~lmmkit.likelihood.hold.hold`.

    Raises
    ------
    ParameterError
    """
    if not isinstance(fixed, Mapping):
        raise ParameterError(
            "fixed: expected a mapping from parameters to values such as {'sigma2': 1.0}, got "
            f"{type(fixed).__name__}"
        )
    beta: dict[int, float] = {}
    entries: dict[tuple[int, int, int], float] = {}
    keys: dict[tuple[int, int, int], Any] = {}
    sigma2 = objective.held_sigma2
    natural: dict[int, float] = {}
    of_structures = {
        (p.group, p.term): p for p in reported(design, objective.structures) if p.natural
    }
    for key, value in fixed.items():
        if key in of_structures:
            parameter = of_structures[key]
            natural[parameter.index] = _inside(key, _number(key, value), parameter)
        elif isinstance(key, tuple):
            for entry, number in _matrix_entries(design, key, value, of_structures).items():
                if entries.setdefault(entry, number) != number:
                    raise ParameterError(
                        f"fixed: {keys[entry]!r} and {key!r} hold one parameter at two values "
                        f"that contradict each other, {entries[entry]} and {number}; keep one"
                    )
                keys.setdefault(entry, key)
        elif key == "sigma2":
            if key in design.x_names:
                raise ParameterError(
                    "fixed: 'sigma2' is the residual variance, but a fixed-effects column is "
                    "called 'sigma2' too; rename the column"
                )
            sigma2 = _number(key, value)
            if sigma2 <= 0:
                raise ParameterError(f"fixed sigma2: expected a positive variance, got {value}")
        elif key in design.x_names:
            beta[design.x_names.index(key)] = _number(key, value)
        else:
            raise ParameterError(
                f"fixed: {key!r} is no parameter; expected 'sigma2', a fixed effect "
                f"({', '.join(design.x_names)}) or a tuple such as (group, effect) for a variance"
            )
    _check_scale(objective, design.x_names, beta, entries, keys, sigma2)
    held = HeldValues(beta, entries, sigma2, natural)
    for (k, i, j), value in entries.items():
        if i != j and value != 0.0 and {(k, i), (k, j)} & held.zeros:
            names = design.terms[k].names
            raise ParameterError(
                f"fixed: the covariance of {names[i]} and {names[j]} on {design.terms[k].group} "
                f"cannot be {value} where one of their variances is held at zero"
            )
    return held


def _inside(key: Any, value: float, parameter: Parameter) -> float:
    assert parameter.natural is not None
    lower, upper = parameter.natural.bounds
    if not lower < value < upper:
        raise ParameterError(
            f"fixed {key!r}: expected a value between {lower:g} and {upper:g}, bounds excluded, "
            f"got {value:g}; use another structure for a covariance on the boundary"
        )
    return value


def _number(key: Any, value: Any) -> float:
    array = _numbers(value)
    if array is None or array.ndim:
        raise ParameterError(f"fixed {key!r}: expected a finite number, got {value!r}")
    return float(array)


def _numbers(value: Any) -> FloatArray | None:
    """``value`` as an array; None unless it consists of finite numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return array.astype(np.float64)


def _matrix_entries(
    design: Design, key: tuple[Any, ...], value: Any, named: Collection[Any]
) -> dict[tuple[int, int, int], float]:
    """``{(term, i, j): value}`` with i >= j, for a tuple key."""
    effects = key[1:]
    on_group = [
        k
        for k, term in enumerate(design.terms)
        if key[:1] == (term.group,) and term.structure is None
    ]
    where = [k for k in on_group if set(effects) <= set(design.terms[k].names)]
    if len(where) != 1 or len(effects) > 2:
        plain = [t for t in design.terms if t.structure is None]
        known = "; ".join(f"{t.group}: {', '.join(t.names)}" for t in plain) or "none"
        known += f"; parameters of structures are {', '.join(map(repr, named))}" if named else ""
        raise ParameterError(
            f"fixed {key!r}: expected (group, effect), (group, effect, effect) or (group,) that "
            f"names one random term; the random effects are {known}"
        )
    k = where[0]
    names = design.terms[k].names
    if effects:
        i, j = sorted((names.index(effects[0]), names.index(effects[-1])), reverse=True)
        number = _number(key, value)
        if i == j and number < 0:
            raise ParameterError(f"fixed {key!r}: expected a variance >= 0, got {value}")
        return {(k, i, j): number}
    given = _numbers(value)
    matrix = None if given is None else np.atleast_2d(given)
    q = len(names)
    if (
        matrix is None
        or matrix.shape != (q, q)
        or not np.allclose(matrix, matrix.T)
        or np.linalg.eigvalsh(matrix).min() < -1e-10 * np.abs(matrix).max()
    ):
        raise ParameterError(
            f"fixed {key!r}: expected a covariance matrix of shape {(q, q)}, got\n{value}"
        )
    return {(k, i, j): float(matrix[i, j]) for i in range(q) for j in range(i + 1)}


def _check_scale(
    objective: Objective,
    names: tuple[str, ...],
    beta: Mapping[int, float],
    entries: Mapping[tuple[int, int, int], float],
    keys: Mapping[tuple[int, int, int], Any],
    sigma2: float | None,
) -> None:
    """Values so far from the data's scale that nothing but rounding would be left of the data."""
    moments, basis = objective.moments, objective.moments.basis
    residual = float(np.max(moments.yy)) / moments.n_obs or 1.0
    if sigma2 is not None and not residual / _FAR < sigma2 < _HUGE:
        raise ParameterError(
            f"fixed sigma2: expected a residual variance between {residual / _FAR:.2g} and "
            f"{_HUGE:g}, got {sigma2}; the rows' mean square around their fixed effects is "
            f"{residual:.4g}"
        )
    unit = residual if sigma2 is None else sigma2
    for j, value in beta.items():
        limit = _FAR * np.sqrt(max(residual, unit)) * np.linalg.norm(basis.x[j])
        if limit and np.abs(value - basis.origin[..., j]).max() > limit:
            raise ParameterError(
                f"fixed {names[j]!r}: expected a value below {limit:.2g}, got {value}, beside "
                "which nothing would be left of the data"
            )
    for (k, i, j), value in entries.items():
        limit = _FAR * unit * np.prod(np.linalg.norm(basis.z[k][[i, j]], axis=1))
        if limit and abs(value) > limit:
            raise ParameterError(
                f"fixed {keys[k, i, j]!r}: expected values below {limit:.2g}, got {value}, beside "
                "which nothing would be left of the data"
            )
