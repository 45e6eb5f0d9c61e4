"""Coordinates around the estimates, and the parameters that are reported in terms of them.

They are ``(beta, each term's, log sigma)``, beta and Psi being standard: the coordinates of a term
are those of its :class:`~lmmkit.inference.face.Face`, or theta of its covariance structure.
"""

import numpy as np
from numpy.typing import NDArray

from lmmkit.fit import Fit
from lmmkit.inference.face import Face, faces
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.linalg import vech
from lmmkit.moments.basis import congruence
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, record


@record
class _Part:
    """One term: its places among the coordinates, in packed Psi and among what is reported.

    ``across`` takes a Face's packed standard Psi to the user's.
    """

    own: Face | tuple[StructuredTerm, FloatArray]
    across: FloatArray
    coordinates: slice
    packed: slice
    reported: slice


@record
class Coordinates:
    """Coordinates u around the estimates.

    Attributes
    ----------
    at : NaturalParams
        The estimates, standard.
    inward : ndarray (packed, n)
        Derivative of the packed standard natural parameters by u.
    outward : ndarray (reported, n)
        Derivative of the reported parameters by u.
    unit : ndarray (n,)
        How large a change of each counts, to tell whether the likelihood is flat; infinite for beta
        and log sigma, which it never is in.
    at_bound : ndarray (reported,) of bool
        Which parameters of structures are at a bound.
    parts : tuple
    """

    at: NaturalParams
    inward: FloatArray
    outward: FloatArray
    unit: FloatArray
    at_bound: NDArray[np.bool_]
    parts: tuple[_Part, ...]

    def curvature(self, score: FloatArray, weights: FloatArray) -> FloatArray:
        """The second derivatives of the maps, (n, n).

        ``score`` weighs the packed standard natural parameters, ``weights`` the reported ones; the
        latter are linear in the former where there is no structure.
        """
        sigma2 = float(self.at.sigma2)
        n = self.inward.shape[1]
        matrix = np.zeros((n, n))
        matrix[-1, -1] = 4.0 * sigma2 * (score[-1] + weights[-1])
        for part in self.parts:
            if isinstance(part.own, Face):
                gradient = score[part.packed] + weights[part.reported] @ part.across
                matrix[part.coordinates, part.coordinates] += part.own.curvature(gradient)
                continue
            term, theta = part.own
            place = np.r_[np.arange(n)[part.coordinates], n - 1]
            both = term.psi_curvature(theta, sigma2, score[part.packed])
            both = both + term.natural_curvature(theta, np.sqrt(sigma2), weights[part.reported])
            matrix[np.ix_(place, place)] += both
        return matrix


def coordinates_of(fit: Fit) -> Coordinates:
    """The coordinates around the estimates of ``fit``."""
    basis, natural = fit.objective.moments.basis, fit.natural
    assert natural.beta is not None
    sigma2 = float(natural.sigma2)
    p, p_free = basis.x.shape
    parts: list[_Part] = []
    psi = []
    ends = (p_free, p_free, p)
    for k, face in enumerate(faces(natural.psi, sigma2, basis)):
        term = fit.objective.structures[k] if fit.objective.structures else None
        theta = None if term is None else fit.optimum.theta[k]
        if term is None or theta is None:
            across = congruence(basis.z[k])
            sizes = (face.directions.shape[1], *across.shape[::-1])
            psi.append(face.psi)
        else:
            across = np.zeros((0, 0))
            sizes = (term.n, len(vech(face.psi)), term.n)
            psi.append(sigma2 * term.standard(theta))
        places = [slice(end, end + size) for end, size in zip(ends, sizes, strict=True)]
        own = face if term is None or theta is None else (term, theta)
        parts.append(_Part(own, across, *places))
        ends = tuple(place.stop for place in places)
    n, packed, reported = (end + 1 for end in ends)
    inward, outward = np.zeros((packed, n)), np.zeros((reported, n))
    unit, at_bound = np.full(n, np.inf), np.zeros(reported, dtype=bool)
    inward[:p_free, :p_free] = np.eye(p_free)
    outward[:p, :p_free] = basis.x
    inward[-1, -1] = outward[-1, -1] = 2.0 * sigma2
    for part in parts:
        if isinstance(part.own, Face):
            inward[part.packed, part.coordinates] = part.own.directions
            outward[part.reported, part.coordinates] = part.across @ part.own.directions
            unit[part.coordinates] = part.own.unit(sigma2)
            continue
        term, theta = part.own
        place = np.r_[np.arange(n)[part.coordinates], n - 1]
        inward[part.packed, place] = term.psi_jacobian(theta, sigma2)
        outward[part.reported, place] = term.natural_jacobian(theta, np.sqrt(sigma2))
        unit[part.coordinates] = term.unit()
        at_bound[part.reported] = term.at_bound(theta)
    at = NaturalParams(tuple(psi), sigma2, basis.standard_beta(natural.beta))
    return Coordinates(at, inward, outward, unit, at_bound, tuple(parts))
