"""Every structure passes the check; one broken in any way is caught, and told so in words."""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest

from lmmkit.errors import ConformanceError
from lmmkit.records import evolve, record
from lmmkit.residual import ar1, correlation_function
from lmmkit.residual.contract import Coordinates, ResidualParameter
from lmmkit.testing import check_correlation, check_variance
from tests.residual.dense import frame
from tests.residual.structures import CORRELATIONS, VARIANCES, CorrelationCase, VarianceCase

LARGE = frame(seed=1, groups=150)


@pytest.mark.parametrize("case", CORRELATIONS, ids=lambda case: case.name)
def test_correlations_keep_the_contract(case: CorrelationCase) -> None:
    own = case.name in ("by stratum", "ar1 of text") or "nugget" in case.name
    check_correlation(case.structure, LARGE if own else None, recover="nugget" not in case.name)


@pytest.mark.parametrize("case", VARIANCES, ids=lambda case: case.name)
def test_variance_functions_keep_the_contract(case: VarianceCase) -> None:
    # three distinct values of the covariate hardly tell the constant from the power
    check_variance(case.structure, recover=case.name != "constant plus power")


def of(function: Callable[..., Any], **parameters: tuple[float, float, float]) -> Any:
    return correlation_function(function, "t", parameters, group="g")


@record
class Broken:
    """An autoregression with something of it replaced."""

    columns: tuple[str, ...] = ("t",)
    group: str | None = "g"
    parameters: tuple[ResidualParameter, ...] = (ResidualParameter("phi", -1.0, 1.0),)
    begin: tuple[float, ...] = (0.4,)
    kind: str = ""

    def learn(self, coordinates: Coordinates) -> Self:
        return self

    def start(self) -> np.ndarray:
        return np.array(self.begin)

    def values(self, theta: np.ndarray) -> np.ndarray:
        return 2.0 * theta + 1.0 if self.kind == "values" else np.tanh(0.5 * theta)

    def correlation(self, theta: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        t = coordinates[..., 0]
        phi = 1.1 if self.kind == "indefinite" else np.tanh(0.5 * theta[0])
        R = np.asarray(phi ** np.abs(t[..., :, None] - t[..., None, :]))
        if self.kind == "shape":
            return R[..., :1]
        if self.kind == "diagonal":
            return 2.0 * R
        if self.kind == "asymmetric":
            return np.asarray(R + 0.01 * np.triu(np.ones(R.shape[-2:]), 1))
        if self.kind == "order":
            rank = np.arange(t.shape[-1])
            return np.broadcast_to(phi ** np.abs(rank[:, None] - rank), R.shape)
        return R


@record
class WrongWhitening:
    """A closed form that forgets the variance of the steps."""

    inner: Broken = Broken()

    columns = property(lambda self: self.inner.columns)
    group = property(lambda self: self.inner.group)
    parameters = property(lambda self: self.inner.parameters)

    def learn(self, coordinates: Coordinates) -> Self:
        return self

    def start(self) -> np.ndarray:
        return self.inner.start()

    def values(self, theta: np.ndarray) -> np.ndarray:
        return self.inner.values(theta)

    def correlation(self, theta: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        return self.inner.correlation(theta, coordinates)

    def whiten(
        self, theta: np.ndarray, coordinates: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, float]:
        return columns, 0.0


@record
class WrongDerivatives:
    """Derivatives of an autoregression that forget the map from theta to phi, or are of zero."""

    kind: str
    inner: Broken = Broken()

    columns = property(lambda self: self.inner.columns)
    group = property(lambda self: self.inner.group)
    parameters = property(lambda self: self.inner.parameters)

    def learn(self, coordinates: Coordinates) -> Self:
        return self

    def start(self) -> np.ndarray:
        return self.inner.start()

    def values(self, theta: np.ndarray) -> np.ndarray:
        return self.inner.values(theta)

    def correlation(self, theta: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        return self.inner.correlation(theta, coordinates)

    def slopes(self, theta: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        t, phi = coordinates[..., 0], np.tanh(0.5 * theta[0])
        lag = np.abs(t[..., :, None] - t[..., None, :])
        by_phi = lag * phi ** np.maximum(lag - 1.0, 0.0)
        inside = 1.0 if self.kind == "slopes" else 0.5 * (1.0 - phi**2)
        return np.asarray(inside * by_phi)[None]

    def curvature(
        self, theta: np.ndarray, coordinates: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        return np.zeros((1, 1))


TWO = (ResidualParameter("phi", -1.0, 1.0), ResidualParameter("phi", -1.0, 1.0))
IDLE = (ResidualParameter("phi", -1.0, 1.0), ResidualParameter("idle", -1.0, 1.0))


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        (Broken(kind="shape"), "of shape"),
        (Broken(kind="diagonal"), "ones on its diagonal"),
        (Broken(kind="asymmetric"), "not symmetric"),
        (Broken(kind="indefinite"), "not positive definite"),
        (Broken(kind="order"), "order of the rows"),
        (Broken(kind="values"), "outside its bounds"),
        (Broken(begin=(0.1, 0.2)), "one a parameter"),
        (evolve(Broken(begin=(0.4, 0.4)), parameters=TWO), "different names"),
        (evolve(Broken(begin=(0.4, 0.4)), parameters=IDLE), "idle does not change"),
        (WrongWhitening(), "whiten does not do"),
        (WrongDerivatives("slopes"), "slopes is not the derivative"),
        (WrongDerivatives("curvature"), "curvature is not the derivative"),
        (ar1("t"), "give it a grouping factor"),
        (5.0, "which lacks columns"),
        (
            of(
                lambda t, a, b: np.exp(-np.abs(t - t.T) / (a * b)),
                a=(1.0, 0.0, math.inf),
                b=(1.0, 0.0, math.inf),
            ),
            "in the same way",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_correlation_is_caught(structure: Any, words: str) -> None:
    with pytest.raises(ConformanceError, match=words):
        check_correlation(structure)


@record
class BrokenVariance:
    """A power with something of it replaced."""

    kind: str
    columns: tuple[str | None, ...] = ("v",)
    parameters: tuple[ResidualParameter, ...] = (ResidualParameter("power"),)

    def learn(self, covariates: Coordinates) -> Self:
        return self

    def start(self) -> np.ndarray:
        return np.zeros(1)

    def values(self, theta: np.ndarray) -> np.ndarray:
        return theta

    def log_deviation(self, theta: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        v = covariates[:, 0]
        if self.kind == "scale":
            return np.asarray(theta[0] + 0.0 * v)
        if self.kind == "shape":
            return np.asarray(theta[0] * np.log(covariates))
        with np.errstate(divide="ignore"):
            return np.asarray(theta[0] + np.log(v - 0.5))


@pytest.mark.parametrize(
    ("kind", "words"), [("scale", "only as sigma does"), ("shape", "one"), ("infinite", "finite")]
)
def test_a_broken_variance_function_is_caught(kind: str, words: str) -> None:
    with pytest.raises(ConformanceError, match=words):
        check_variance(BrokenVariance(kind))
