"""The estimated parameters by name, and the covariance of their estimates."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np

from lmmkit.design.design import Design
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.face import faces
from lmmkit.inference.residual_parameters import information_lost
from lmmkit.linalg import block_diagonal
from lmmkit.moments.basis import congruence
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, record

Kind: TypeAlias = Literal["fixed", "variance", "covariance", "residual"]

_FLAT = 1e-9
_LOADING = 1e-4


@record
class Parameter:
    """One entry of the packed natural parameters.

    Attributes
    ----------
    index : int
        Its position.
    group : str or None
        The grouping factor; None for a fixed effect, ``"Residual"`` for the residual variance.
    term : str
        A column of X; an effect, ``"Intercept"``, for its variance; two of them,
        ``"Intercept, Time"``, for their covariance; ``"Residual"``. An effect that an earlier term
        on the same factor has too carries a suffix: ``"Intercept.1"``.
    kind : {"fixed", "variance", "covariance", "residual"}
    variances : (int, int) or None
        For a covariance, the positions of its two variances.
    """

    index: int
    group: str | None
    term: str
    kind: Kind
    variances: tuple[int, int] | None = None


def parameters(fit: Fit) -> tuple[Parameter, ...]:
    """The parameters in the order in which :meth:`NaturalParams.pack` has them.

    Returns
    -------
    tuple of Parameter
        Fixed effects, each random term's lower triangle row by row, the residual variance.
    """
    check_fit(fit)
    return tuple(Parameter(index, *rest) for index, rest in enumerate(_in_packed_order(fit.design)))


def effect_names(design: Design) -> tuple[tuple[str, ...], ...]:
    """Names of each random term's effects, no two the same on one grouping factor."""
    taken: set[tuple[str, str]] = set()
    return tuple(
        tuple(_untaken(term.group, name, taken) for name in term.names) for term in design.terms
    )


def parameter_covariance(fit: Fit) -> FloatArray:
    """Covariance of the estimates: the inverse of the full observed information.

    Beta, every Psi, sigma2 and the residual structure's parameters are in it together, on the
    natural scale; the latter have no rows here.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    ndarray (n, n)
        In packed order; the units are those of the parameters. Rows and columns are NaN for a
        parameter without a standard error: one that is held, one that belongs to an effect whose
        variance is zero, and one that the data do not identify (the likelihood is flat or not at a
        maximum along it).

    Notes
    -----
    An effect whose variance is zero counts as left out. A Psi that is singular although no
    variance is zero (a correlation of one) counts as one of known rank r: the information is that
    of the likelihood on the surface of the matrices of rank r, curvature of the surface included.
    """
    check_fit(fit)
    basis = fit.objective.moments.basis
    objective = fit.objective.standardized()
    natural = fit.natural
    assert natural.beta is not None
    surfaces = faces(natural.psi, float(natural.sigma2), basis)
    at = NaturalParams(
        psi=tuple(face.psi for face in surfaces),
        sigma2=natural.sigma2,
        beta=basis.standard_beta(natural.beta),
    )
    p_free = basis.x.shape[1]
    inward = block_diagonal([np.eye(p_free), *(f.directions for f in surfaces), np.eye(1)])
    outward = block_diagonal([basis.x, *(congruence(c) for c in basis.z), np.eye(1)])
    held = [constraint.index for constraint in fit.objective.held]
    if fit.objective.held_sigma2 is not None:
        held.append(len(outward) - 1)
    across = outward @ inward
    score = objective.score(at)
    multipliers = np.linalg.lstsq(across[held].T, inward.T @ score, rcond=None)[0]
    score = score - outward[held].T @ multipliers
    information = inward.T @ objective.observed_information(at) @ inward
    start, place = p_free, p_free
    for face in surfaces:
        n, m = face.directions.shape
        block = slice(start, start + m)
        information[block, block] -= face.curvature(score[place : place + n])
        start, place = start + m, place + n
    information -= inward.T @ information_lost(fit, at) @ inward
    covariance = _inverse(information, across, across[held])
    covariance[~fit.objective.free] = np.nan
    covariance[:, ~fit.objective.free] = np.nan
    return covariance


def _inverse(information: FloatArray, across: FloatArray, held: FloatArray) -> FloatArray:
    """``across information^-1 across'`` where ``held`` is zero; NaN for what is not identified."""
    diagonal = np.abs(np.diagonal(information))
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    across = across * scale
    constraints = held * scale
    tangent = np.linalg.qr(constraints.T, mode="complete")[0][:, len(held) :]
    across = across @ tangent
    values, vectors = np.linalg.eigh(tangent.T @ (information * np.outer(scale, scale)) @ tangent)
    known = values > _FLAT
    loadings = across @ vectors
    size = np.linalg.norm(loadings, axis=1)
    unknown = np.linalg.norm(loadings[:, ~known], axis=1) > _LOADING * size
    root = loadings[:, known] / np.sqrt(values[known])
    covariance: FloatArray = root @ root.T
    without = unknown | (size == 0)
    covariance[without] = np.nan
    covariance[:, without] = np.nan
    return covariance


def _in_packed_order(
    design: Design,
) -> Iterator[tuple[str | None, str, Kind, tuple[int, int] | None]]:
    for name in design.x_names:
        yield None, name, "fixed", None
    start = len(design.x_names)
    for term, names in zip(design.terms, effect_names(design), strict=True):
        variances = [start + i * (i + 3) // 2 for i in range(term.q)]
        for i in range(term.q):
            for j in range(i):
                pair = (variances[j], variances[i])
                yield term.group, f"{names[j]}, {names[i]}", "covariance", pair
            yield term.group, names[i], "variance", None
        start += term.q * (term.q + 1) // 2
    yield "Residual", "Residual", "residual", None


def _untaken(group: str, name: str, taken: set[tuple[str, str]]) -> str:
    unique, copy = name, 0
    while (group, unique) in taken:
        copy += 1
        unique = f"{name}.{copy}"
    taken.add((group, unique))
    return unique
