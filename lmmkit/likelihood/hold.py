"""Hold parameters at known values: an objective with fewer of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmmkit.design.design import Design
from lmmkit.errors import ParameterError
from lmmkit.likelihood.constraints import Hold
from lmmkit.likelihood.held_values import read_held_values
from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.system import system
from lmmkit.linalg import null_space
from lmmkit.moments.basis import Basis
from lmmkit.moments.moments import Moments, recombine
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import evolve


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
        ``(group,)`` to the whole matrix of the only term on that group; from ``(group, name)`` to a
        parameter of a covariance structure, ``("g", "rho")``, as ``variance_components`` names it.

    Returns
    -------
    Objective
        Under REML a held fixed effect counts as known: it is no column of X any more.

    Raises
    ------
    ParameterError
        For a name that is not a parameter, a value that it cannot have, two values for one
        parameter, or a value far beyond the scale of the data.

    Examples
    --------
    ``fixed={"Time": 7.0, "sigma2": 6.0, ("Pig", "Intercept", "Time"): 0.0}``
    """
    values = read_held_values(objective, design, fixed)
    zeros = values.zeros
    held = tuple(
        Hold(_index(objective, design, k, i, j), value)
        for (k, i, j), value in values.entries.items()
        if not {(k, i), (k, j)} & zeros
    )
    held += tuple(Hold(index, value) for index, value in values.natural.items())
    moments = objective.moments
    if values.beta:
        moments = _without_effects(moments, values.beta)
    if zeros:
        moments = _without_variances(moments, zeros)
    return evolve(
        objective,
        moments=moments,
        system=objective.system if moments is objective.moments else system(moments),
        held_sigma2=values.sigma2,
        held=(*objective.held, *held),
    )


def _index(objective: Objective, design: Design, term: int, i: int, j: int) -> int:
    """Position among the natural parameters."""
    before = sum(
        triangle_size(t.q) if own is None else own.n
        for t, own in list(zip(design.terms, objective.terms, strict=True))[:term]
    )
    return len(design.x_names) + before + i * (i + 1) // 2 + j


def _without_effects(moments: Moments, beta: Mapping[int, float]) -> Moments:
    """Moments in which some fixed effects have become part of the offset."""
    old = moments.basis
    known = [j for j in beta if not old.x[j].any()]
    if known:
        raise ParameterError(
            f"fixed: the fixed effects at positions {known} are held already; start from an "
            "objective in which they are free"
        )
    rows = sorted(beta)
    values = np.array([beta[j] for j in rows])
    tangent = null_space(old.x[rows])
    shift = np.linalg.lstsq(old.x[rows], values - old.origin[..., rows], rcond=None)[0]
    x = old.x @ tangent
    x[rows] = 0.0
    origin = old.origin + old.x @ shift
    origin[rows] = values
    free = np.setdiff1d(np.flatnonzero((old.x != 0).any(axis=1)), rows)
    basis = Basis(origin=origin, x=x, z=old.z, log_det_x=float(np.linalg.slogdet(x[free])[1]))
    return recombine(moments, tangent, tuple(map(np.eye, moments.sizes)), shift, basis)


def _without_variances(moments: Moments, zeros: set[tuple[int, int]]) -> Moments:
    """Moments in which some random effects are no more."""
    old = moments.basis
    z, tangents = [], []
    for k, c in enumerate(old.z):
        rows = sorted(i for term, i in zeros if term == k)
        tangent = null_space(c[rows]) if rows else np.eye(c.shape[1])
        kept = c @ tangent
        kept[rows] = 0.0
        z.append(kept)
        tangents.append(tangent)
    basis = evolve(old, z=tuple(z))
    p = len(moments.xx)
    return recombine(moments, np.eye(p), tuple(tangents), np.zeros(p), basis)
