"""Hold parameters at known values: an objective with fewer of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmmkit.design.design import Design
from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Hold
from lmmkit.likelihood.objective import Objective
from lmmkit.linalg import block_diagonal
from lmmkit.moments.basis import Basis
from lmmkit.moments.collapse import collapse
from lmmkit.moments.moments import Moments, recombine
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, evolve


def hold(objective: Objective, design: Design, fixed: Mapping[Any, Any]) -> Objective:
    """The objective with parameters held, exactly, at values on the natural scale.

    Parameters
    ----------
    objective : Objective
    design : Design
        Gives the names.
    fixed : mapping
        From a fixed effect's name to its value; from ``"sigma2"`` to the residual variance; from
        ``(group, effect)`` to a variance; from ``(group, effect, effect)`` to a covariance; from
        ``(group,)`` to the whole matrix of the only term on that group.

    Returns
    -------
    Objective
        Under REML a held fixed effect counts as known: it is no column of X any more.

    Raises
    ------
    ParameterError
        For a name that is not a parameter, or a value that it cannot have.

    Examples
    --------
    ``fixed={"Time": 7.0, "sigma2": 6.0, ("Pig", "Intercept", "Time"): 0.0}``
    """
    beta: dict[int, float] = {}
    entries: dict[tuple[int, int, int], float] = {}
    sigma2 = objective.held_sigma2
    for key, value in fixed.items():
        if isinstance(key, tuple):
            entries |= _matrix_entries(design, key, value)
        elif key == "sigma2":
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
    zeros = {(k, i) for (k, i, j), value in entries.items() if i == j and value == 0.0}
    for (k, i, j), value in entries.items():
        if i != j and value != 0.0 and {(k, i), (k, j)} & zeros:
            names = design.terms[k].names
            raise ParameterError(
                f"fixed: the covariance of {names[i]} and {names[j]} on {design.terms[k].group} "
                f"cannot be {value} where one of their variances is held at zero"
            )
    held = tuple(
        Hold(_index(design, k, i, j), value)
        for (k, i, j), value in entries.items()
        if not {(k, i), (k, j)} & zeros
    )
    moments = objective.moments
    if beta:
        moments = _without_effects(moments, beta)
    if zeros:
        moments = _without_variances(moments, zeros)
    return evolve(
        objective,
        moments=moments,
        patterns=objective.patterns if moments is objective.moments else collapse(moments),
        held_sigma2=sigma2,
        held=(*objective.held, *held),
    )


def _number(key: Any, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise ParameterError(f"fixed {key!r}: expected a finite number, got {value!r}")
    return number


def _matrix_entries(
    design: Design, key: tuple[Any, ...], value: Any
) -> dict[tuple[int, int, int], float]:
    """``{(term, i, j): value}`` with i >= j, for a tuple key."""
    group, *effects = key
    on_group = [k for k, term in enumerate(design.terms) if term.group == group]
    where = [k for k in on_group if set(effects) <= set(design.terms[k].names)]
    if len(where) != 1 or len(effects) > 2:
        known = "; ".join(f"{t.group}: {', '.join(t.names)}" for t in design.terms) or "none"
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
    matrix = np.atleast_2d(np.asarray(value, dtype=np.float64))
    q = len(names)
    if (
        matrix.shape != (q, q)
        or not np.isfinite(matrix).all()
        or not np.allclose(matrix, matrix.T)
        or np.linalg.eigvalsh(matrix).min() < -1e-10 * np.abs(matrix).max()
    ):
        raise ParameterError(
            f"fixed {key!r}: expected a covariance matrix of shape {(q, q)}, got\n{matrix}"
        )
    return {(k, i, j): float(matrix[i, j]) for i in range(q) for j in range(i + 1)}


def _index(design: Design, term: int, i: int, j: int) -> int:
    """Position in the packed natural parameters."""
    before = sum(triangle_size(t.q) for t in design.terms[:term])
    return len(design.x_names) + before + i * (i + 1) // 2 + j


def _without_effects(moments: Moments, beta: Mapping[int, float]) -> Moments:
    """Moments in which some fixed effects have become part of the offset."""
    old = moments.basis
    rows = sorted(beta)
    values = np.array([beta[j] for j in rows])
    tangent = _null_space(old.x[rows])
    shift = np.linalg.lstsq(old.x[rows], values - old.origin[..., rows], rcond=None)[0]
    x = old.x @ tangent
    x[rows] = 0.0
    origin = old.origin + old.x @ shift
    origin[rows] = values
    free = np.setdiff1d(np.flatnonzero((old.x != 0).any(axis=1)), rows)
    basis = Basis(origin=origin, x=x, z=old.z, log_det_x=float(np.linalg.slogdet(x[free])[1]))
    return recombine(moments, tangent, np.eye(sum(moments.sizes)), shift, moments.sizes, basis)


def _without_variances(moments: Moments, zeros: set[tuple[int, int]]) -> Moments:
    """Moments in which some random effects are no more."""
    old = moments.basis
    z, tangents = [], []
    for k, c in enumerate(old.z):
        rows = sorted(i for term, i in zeros if term == k)
        tangent = _null_space(c[rows]) if rows else np.eye(c.shape[1])
        kept = c @ tangent
        kept[rows] = 0.0
        z.append(kept)
        tangents.append(tangent)
    basis = evolve(old, z=tuple(z))
    sizes = tuple(tangent.shape[1] for tangent in tangents)
    p = len(moments.xx)
    return recombine(moments, np.eye(p), block_diagonal(tangents), np.zeros(p), sizes, basis)


def _null_space(rows: FloatArray) -> FloatArray:
    """Orthonormal columns that span what the independent ``rows`` map to zero."""
    q, _ = np.linalg.qr(rows.T, mode="complete")
    return np.asarray(q[:, len(rows) :])
