"""The covariances of some rows that a model allows, as a function of variables without bounds.

The variables are those of :mod:`lmmkit.optimize.constrained_problem` without beta, and the free
elements of the residual structure's theta.
"""

import numpy as np
from numpy.typing import NDArray

from lmmkit.design.design import RandomTerm
from lmmkit.fit import Fit
from lmmkit.linalg import vech
from lmmkit.optimize.constrained_problem import Problem, encode, make_problem, standard_at
from lmmkit.records import FloatArray, IntArray, record
from lmmkit.residual.fitted import FittedResidual

_SHAKE = 0.3
_LEAST = 0.5
_CLEAR = 0.4


@record
class Family:
    """Covariances of n rows.

    Attributes
    ----------
    problem : Problem
    structure : FittedResidual or None
    place : ndarray (n,) of int32
        The rows' positions in the sorted design of the residual structure.
    Z : tuple of ndarray (n, q)
        Of each random term.
    together : tuple of ndarray (n, n)
        What rows share of each term's levels: 1 or 0, where a row has one level.
    noise : ndarray (n,)
        Standard deviations relative to sigma without a residual structure.
    start : ndarray (v,)
        The variables at the estimates.
    """

    problem: Problem
    structure: FittedResidual | None
    place: IntArray
    Z: tuple[FloatArray, ...]
    together: tuple[FloatArray, ...]
    noise: FloatArray
    start: FloatArray

    @property
    def n_inside(self) -> int:
        """Number of variables that are not the residual structure's."""
        return len(self.problem.free) - self.problem.p

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which variables may move: all but log sigma where sigma2 is held."""
        moves = np.ones(len(self.start), dtype=bool)
        moves[: self.n_inside] = self.problem.free[self.problem.p :]
        return moves

    @property
    def diagonal(self) -> NDArray[np.bool_]:
        """Which variables are at a bound where they are zero: diagonals of factors of Psi."""
        found = np.zeros(len(self.start), dtype=bool)
        for part in self.problem.parts:
            if part.term is None:
                own = vech(np.eye(part.q)) == 1.0
                found[part.x.start - self.problem.p : part.x.stop - self.problem.p] = own
        return found

    def covariance(self, x: FloatArray) -> FloatArray | None:
        """V (n, n); None where there is none."""
        rest, free = np.split(x, [self.n_inside])
        R = self._residual(free)
        if R is None:
            return None
        at = standard_at(self.problem, np.append(np.zeros(self.problem.p), rest))
        V: FloatArray = float(at.sigma2) * R
        parts = zip(at.psi, self.problem.user_basis.z, self.Z, self.together, strict=True)
        for psi, z, Z, together in parts:
            loads = Z @ z
            V = V + loads @ psi @ loads.T * together
        return np.asarray(V)

    def named(self, x: FloatArray) -> list[tuple[str, float]]:
        """The elements of theta by the names of the parameters."""
        theta = None if self.structure is None else self.structure.with_free(x[self.n_inside :])
        if self.structure is None or theta is None:
            return []
        return list(zip(self.structure.names, theta.tolist(), strict=True))

    def gaps(self, x: FloatArray) -> FloatArray:
        """How far the variables are from what is held or related of Psi and sigma2."""
        rest = np.append(np.zeros(self.problem.p), x[: self.n_inside])
        return np.array([equality.residual for equality in self.problem.equalities(rest)])

    def typical(self) -> FloatArray:
        """Variables at which nothing is at a bound, and no two parameters have one value."""
        x = np.array(self.start)
        if not self.problem.constraints:
            least = _LEAST * float(np.exp(x[self.n_inside - 1]))
            x[self.diagonal] = np.maximum(np.abs(x[self.diagonal]), least)
        if self.structure is not None:
            x[self.n_inside :] = self._clear(self.structure)
        return x

    def _clear(self, structure: FittedResidual) -> FloatArray:
        """The free elements of theta, from one of its starts with middling correlations."""
        model, restriction = structure.model, structure.restriction
        starts = model.starts()
        shaken = starts + _SHAKE * np.sin(1.0 + np.arange(starts.shape[1]))
        places = restriction.places(model.values, shaken)[:, restriction.free]
        codes = model.rows.codes[self.place]
        pairs = np.tril(codes[:, None] == codes, -1)
        best, least = structure.theta[restriction.free], np.inf
        for free in places:
            R = self._residual(free)
            if R is None or not np.isfinite(R).all():
                continue
            scale = np.sqrt(np.diagonal(R))
            away = abs(
                float(np.abs(R / np.outer(scale, scale))[pairs].sum()) - _CLEAR * pairs.sum()
            )
            if away < least:
                best, least = free, away
        return best

    def _residual(self, free: FloatArray) -> FloatArray | None:
        """``G R G / weight``."""
        if self.structure is None:
            return np.diag(self.noise**2)
        model, theta = self.structure.model, self.structure.with_free(free)
        if theta is None:
            return None
        correlation = model.residual.correlation
        own = list(model.split(theta))
        R = np.eye(len(self.place))
        if correlation is not None:
            mine, codes = own.pop(0), model.rows.codes[self.place]
            for code in np.unique(codes):
                here = np.flatnonzero(codes == code)
                points = model.rows.values[self.place[here]]
                R[np.ix_(here, here)] = correlation.correlation(mine, points[None])[0]
        scale = -model.log_scale[self.place]
        for part, mine, seen in zip(model.residual.variances, own, model.covariates, strict=True):
            scale = scale + part.log_deviation(mine, seen[self.place])
        deviation = np.exp(np.clip(scale, -50.0, 50.0))
        return np.asarray(R * np.outer(deviation, deviation))


def family(fit: Fit, rows: IntArray, fitted: FloatArray) -> Family:
    """The family of ``fit``; variances of the fitted value are taken at ``fitted`` (N,)."""
    design, structure = fit.design, fit.residual
    problem = make_problem(fit.objective, fit.objective.held)
    start = encode(problem, fit.natural, fit.optimum.theta)[problem.p :]
    place = rows
    if structure is not None:
        model = structure.model
        if model.residual.uses_fitted:
            structure = FittedResidual(
                model=model.with_fitted(fitted),
                theta=structure.theta,
                restricted=structure.restricted,
                restriction=structure.restriction,
            )
        position = np.empty(design.n_obs, dtype=np.int32)
        position[model.order] = np.arange(design.n_obs, dtype=np.int32)
        place = position[rows]
        start = np.append(start, structure.theta[structure.free])
    weights = np.ones(len(rows)) if design.weights is None else design.weights[rows]
    return Family(
        problem=problem,
        structure=structure,
        place=place,
        Z=tuple(term.Z[rows] for term in design.terms),
        together=tuple(_together(term, rows) for term in design.terms),
        noise=1.0 / np.sqrt(weights),
        start=start,
    )


def _together(term: RandomTerm, rows: IntArray) -> FloatArray:
    codes = term.codes[rows].reshape(len(rows), -1)
    loads = np.ones(codes.shape) if term.loads is None else term.loads[rows]
    levels, where = np.unique(codes, return_inverse=True)
    incidence = np.zeros((len(rows), len(levels)))
    np.add.at(incidence, (np.arange(len(rows))[:, None], where.reshape(codes.shape)), loads)
    if term.relation is not None:
        incidence = incidence @ term.relation.root[levels]
    shared: FloatArray = incidence @ incidence.T
    return shared
