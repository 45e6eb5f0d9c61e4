"""Every structure that is shipped passes the public check; broken ones do not, and it says why."""

from typing import Any

import attrs
import numpy as np
import pytest
from attrs import frozen

from lmmkit.errors import ArgumentError, ConformanceError
from lmmkit.records import FloatArray
from lmmkit.structures import Heterogeneous, Homogeneous, Kind
from lmmkit.structures.from_formula import IN_FORMULAS
from lmmkit.structures.numeric import numeric_derivatives
from lmmkit.testing import check_structure
from tests.registries import STRUCTURES


@pytest.mark.parametrize("name", STRUCTURES)
def test_shipped_structures_keep_the_contract(name: str) -> None:
    case = STRUCTURES[name]
    check_structure(case.structure, case.effects)


@pytest.mark.parametrize("name", IN_FORMULAS)
def test_what_formulas_name_keeps_the_contract(name: str) -> None:
    check_structure(IN_FORMULAS[name](), ("t[0]", "t[1]", "t[3]", "t[4]"), recover=False)


@frozen
class Sound:
    """A structure like any other; the broken ones below are this one with one thing wrong."""

    def n_params(self, q: int) -> int:
        return 2

    def start(self, q: int) -> FloatArray:
        return np.array([0.0, 0.3])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        rho = 0.5 * (1.0 + np.tanh(theta[1]))
        R = np.eye(q) + rho * (1.0 - np.eye(q))
        return np.asarray(np.exp(2.0 * theta[0]) * R)


class NoParameters(Sound):
    def n_params(self, q: int) -> int:
        return 0


class TooManyStarts(Sound):
    def start(self, q: int) -> FloatArray:
        return np.zeros(3)


class StartsNowhere(Sound):
    def start(self, q: int) -> FloatArray:
        return np.array([0.0, np.nan])


class WrongShape(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return np.asarray(super().covariance(theta, q)[:, :1])


class NotSymmetric(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return np.asarray(super().covariance(theta, q) + 0.1 * np.triu(np.ones((q, q)), 1))


class Indefinite(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        R = np.eye(q) + theta[1] * (1.0 - np.eye(q))
        return np.asarray(np.exp(2.0 * theta[0]) * R)


class IndefiniteFarOut(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        R = np.eye(q) + np.tanh(0.1 * theta[1]) * (1.0 - np.eye(q))
        return np.asarray(np.exp(2.0 * theta[0]) * R)


class Infinite(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return np.asarray(super().covariance(theta, q) / np.maximum(theta[1] + 8.0, 0.0))


class Modifies(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        theta[0] = 0.0
        return super().covariance(theta, q)


class Forgets(Sound):
    """Depends on how often it was called."""

    calls: list[int] = []  # noqa: RUF012

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        self.calls.append(1)
        return super().covariance(theta, q) * (1.0 + 1e-6 * len(self.calls))


class IdleParameter(Sound):
    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return super().covariance(np.array([theta[0], 0.3]), q)


class OneTooMany(Sound):
    def n_params(self, q: int) -> int:
        return 3

    def start(self, q: int) -> FloatArray:
        return np.array([0.0, 0.3, 0.1])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return super().covariance(np.array([theta[0] + theta[2], theta[1]]), q)


class NoScale(Sound):
    def n_params(self, q: int) -> int:
        return 1

    def start(self, q: int) -> FloatArray:
        return np.array([0.3])

    def covariance(self, theta: FloatArray, q: int) -> FloatArray:
        return super().covariance(np.array([0.0, theta[0]]), q)


class WrongDerivatives(Sound):
    def derivatives(self, theta: FloatArray, q: int) -> tuple[FloatArray, FloatArray]:
        psi = self.covariance(theta, q)
        first = np.stack([psi, psi])
        return first, np.zeros((2, 2, q, q))


class WrongSecondDerivatives(Sound):
    def derivatives(self, theta: FloatArray, q: int) -> tuple[FloatArray, FloatArray]:
        psi = self.covariance(theta, q)
        off = np.exp(2.0 * theta[0]) * (1.0 - np.eye(q))
        slope = 0.5 / np.cosh(theta[1]) ** 2
        first = np.stack([2.0 * psi, slope * off])
        return first, np.zeros((2, 2, q, q))


class DerivativesOfWrongShape(WrongDerivatives):
    def derivatives(self, theta: FloatArray, q: int) -> tuple[FloatArray, FloatArray]:
        first, second = super().derivatives(theta, q)
        return first[0], second


class OneDerivative(WrongDerivatives):
    def derivatives(self, theta: FloatArray, q: int) -> Any:
        return super().derivatives(theta, q)[0]


class NoNumbers(WrongDerivatives):
    def derivatives(self, theta: FloatArray, q: int) -> tuple[FloatArray, FloatArray]:
        first, second = numeric_derivatives(lambda at: self.covariance(at, q), theta)
        return first, np.nan * second


class NoArray(Sound):
    def covariance(self, theta: FloatArray, q: int) -> Any:
        return super().covariance(theta, q).tolist()


class OneName(Sound):
    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        return ("sd",)


class SameNames(Sound):
    def names(self, effects: tuple[str, ...]) -> tuple[str, ...]:
        return ("sd", "sd")


class WrongKind(Sound):
    def kinds(self, q: int) -> tuple[Kind, ...]:
        return (Kind.SHAPE, Kind.COR)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        return np.array([np.exp(theta[0]), 0.5 * (1.0 + np.tanh(theta[1]))])


class NaturalLosesOne(Sound):
    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        return np.array([np.exp(theta[0]), 2.0 * np.exp(theta[0])])


class OutOfBounds(Sound):
    """A correlation of 1.3."""

    def kinds(self, q: int) -> tuple[Kind, ...]:
        return (Kind.SD, Kind.COR)

    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        return np.exp(theta)


class OneNatural(Sound):
    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        return np.exp(theta[:1])


class Signed(Sound):
    def natural(self, theta: FloatArray, q: int) -> FloatArray:
        return np.where(theta[1] < 0.0, -theta, theta)


class CanonicalOfAnother(Sound):
    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        return np.abs(theta)


class CanonicalTurns(Sound):
    def canonical(self, theta: FloatArray, q: int) -> FloatArray:
        return -theta


@frozen
class NoCorrelation:
    """Its diagonal is not one."""

    def n_params(self, q: int) -> int:
        return 1

    def start(self, q: int) -> FloatArray:
        return np.zeros(1)

    def correlation(self, theta: FloatArray, q: int) -> FloatArray:
        return np.asarray(2.0 * np.eye(q) + 1.0 / (1.0 + np.exp(theta[0])))


class WrongMStep(Sound):
    def m_step(self, moment: FloatArray, theta: FloatArray, q: int) -> FloatArray:
        return theta


class EqualToNothing(Sound):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@attrs.define(eq=False)
class NoStart:
    def n_params(self, q: int) -> int:
        return 1


BROKEN: list[tuple[Any, str]] = [
    (NoStart(), "lacks start, covariance"),
    (Sound, "expected a covariance structure.* the class Sound; call it"),
    (NoParameters(), "n_params.* whole number >= 1, but is 0"),
    (TooManyStarts(), r"start\(4\) has to be 2 finite floats"),
    (StartsNowhere(), "finite floats"),
    (WrongShape(), "covariance has to be floats of shape"),
    (NotSymmetric(), "is not symmetric"),
    (Indefinite(), "not positive semidefinite.*choose a map"),
    (IndefiniteFarOut(), "far out.* not positive semidefinite"),
    (Infinite(), "far out.* is not finite"),
    (Modifies(), "modifies its argument theta"),
    (Forgets(), "not the same when it is computed again"),
    (IdleParameter(), "theta_2 does not change the covariance"),
    (OneTooMany(), "theta_1, theta_3 change the covariance in the same way"),
    (NoScale(), "not in the family.* give it a standard deviation"),
    (WrongDerivatives(), "first derivatives at .* are wrong"),
    (WrongSecondDerivatives(), "second derivatives at .* are wrong"),
    (DerivativesOfWrongShape(), "first derivatives have to have shape"),
    (OneDerivative(), "derivatives has to return a pair"),
    (NoNumbers(), "second derivatives at .* are wrong: entry .* is nan"),
    (NoArray(), "covariance has to return a numpy array, not list"),
    (OutOfBounds(), "theta_2 is 1.3.* the kind COR lies between -1 and 1"),
    (OneNatural(), "natural has to give 2 numbers"),
    (Signed(), "natural is not smooth near .* by its element 1"),
    (CanonicalOfAnother(), "canonical at .* has another covariance"),
    (CanonicalTurns(), "canonical at .* these again of themselves"),
    (Homogeneous(NoCorrelation()), "NoCorrelation.correlation: expected ones on the diagonal"),
    (Heterogeneous(NoCorrelation()), "NoCorrelation.correlation: expected ones on the diagonal"),
    (OneName(), "expected 2 different names"),
    (SameNames(), "expected 2 different names"),
    (WrongKind(), "theta_1 is .* when all standard deviations are doubled.* kind SHAPE"),
    (NaturalLosesOne(), "natural does not determine theta"),
    (WrongMStep(), "m_step does not return the theta that maximizes"),
    (EqualToNothing(), "copy by copy.deepcopy is not equal"),
]


def test_the_sound_structure_passes() -> None:
    check_structure(Sound())


@pytest.mark.parametrize(("structure", "words"), BROKEN, ids=lambda x: str(x)[:20])
def test_broken_structures_are_caught(structure: Any, words: str) -> None:
    with pytest.raises(ConformanceError, match=f"(?s){words}"):
        check_structure(structure)


@pytest.mark.parametrize("effects", [0, -1, ()])
def test_some_effects_are_needed(effects: Any) -> None:
    with pytest.raises(ArgumentError, match="expected one effect or more"):
        check_structure(Sound(), effects)


def test_structures_whose_fit_does_not_end_are_caught() -> None:
    class Steps(Sound):
        """Not smooth: a staircase, so that a fit has nowhere to go."""

        def covariance(self, theta: FloatArray, q: int) -> FloatArray:
            return super().covariance(np.array([theta[0], np.round(theta[1], 1)]), q)

    with pytest.raises(ConformanceError):
        check_structure(Steps())
