"""Reference distributions of likelihood-ratio statistics where variances may be zero.

Under the smaller model the statistic is the squared length of a normal vector's projection onto the
cone of legal directions: a mixture of chi-squares whose weights are the chances that the projection
lies in a face of each dimension.
"""

import numpy as np

from lmmkit.fit import Fit
from lmmkit.inference.checks import chi2_tail
from lmmkit.inference.nesting import effects_by_factor, same_factor
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.packing import triangle_size
from lmmkit.records import FloatArray, record


@record
class Mixture:
    """Weights of chi-square distributions, by their degrees of freedom.

    Attributes
    ----------
    parts : tuple of (float, int)
    exact : bool
        False for the plain chi-square in place of an unknown mixture: p-values are too large.
    """

    parts: tuple[tuple[float, int], ...]
    exact: bool = True

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return f"chi2({self.parts[0][1]})" + ("" if self.exact else ", conservative")
        return " + ".join(f"{weight:.4g} chi2({df})" for weight, df in self.parts)

    def tail(self, statistic: float) -> float:
        """The chance of a larger statistic."""
        return sum(weight * chi2_tail(statistic, df) for weight, df in self.parts)


def reference_distribution(small: Fit, large: Fit, df: int, extra: int) -> Mixture:
    """Of the statistic that compares two fits with ``extra`` random effects between them."""
    if extra == 0:
        return Mixture(((1.0, df),))
    if extra == 1:
        return Mixture(((0.5, df - 1), (0.5, df)))
    information = _of_two_variances(small, large) if extra == 2 else None
    if information is None:
        return Mixture(((1.0, df),), exact=False)
    cosine = information[0, 1] / np.sqrt(information[0, 0] * information[1, 1])
    inside = float(np.arccos(np.clip(cosine, -1.0, 1.0))) / (2.0 * np.pi)
    return Mixture(((0.5 - inside, df - 2), (0.5, df - 1), (inside, df)))


def _of_two_variances(small: Fit, large: Fit) -> FloatArray | None:
    """Information of two new variances at the smaller fit, all other parameters estimated.

    None unless the larger model has two more terms of one effect each and is else the same.
    """
    plain = small.residual is None and large.residual is None
    plain = plain and not small.objective.structures and not large.objective.structures
    if not plain or small.objective.held or not large.objective.free.all():
        return None
    psi: dict[int, FloatArray] = {}
    for mine in effects_by_factor(small):
        for theirs in effects_by_factor(large):
            if same_factor(mine.example, theirs.example):
                for k, z in zip(mine.terms, mine.columns, strict=True):
                    for other, columns in zip(theirs.terms, theirs.columns, strict=True):
                        if other not in psi and np.array_equal(z, columns):
                            psi[other] = small.natural.psi[k]
                            break
    sizes = large.objective.sizes
    new = [k for k in range(len(sizes)) if k not in psi]
    if len(psi) != sum(len(f.terms) for f in effects_by_factor(small)):
        return None
    if len(new) != 2 or any(sizes[k] != 1 for k in new):
        return None
    at = NaturalParams(
        psi=tuple(psi.get(k, np.zeros((1, 1))) for k in range(len(sizes))),
        sigma2=small.natural.sigma2,
    )
    information = large.objective.expected_information(at)
    starts = np.cumsum([0, *map(triangle_size, sizes)])
    places = starts[new]
    covariance: FloatArray = np.linalg.inv(information)[np.ix_(places, places)]
    return np.linalg.inv(covariance)
