"""Whether a residual correlation or variance function keeps its contract; if not, why, in words."""

import functools
from typing import Any

import numpy as np

from lmmkit.errors import ConformanceError
from lmmkit.records import FloatArray, adopt
from lmmkit.residual.contract import ClosedForm, Correlation, Differentiable, VarianceFunction
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.residual import Residual
from lmmkit.structures.numeric import numeric_derivatives, numeric_first
from lmmkit.testing.residual_data import bound_model, check_recovery, levels, name_of, times

_FAR = 12.0
_ROUNDING = 1e-9
_DEPENDENT = 1e-7
_DRAWS = 4


def check_correlation(
    correlation: Correlation, frame: Any = None, *, seed: int = 0, recover: bool = True
) -> None:
    """Check that ``correlation`` keeps the contract of a residual correlation.

    Near its starts and far from them: names, bounds and number of the parameters, the matrix's
    shape, symmetry, diagonal and sign, the order of the rows, the closed form and the derivatives
    if there are any. Then data are simulated, and a fit has to find the parameters again.

    Parameters
    ----------
    correlation : Correlation
        It names its grouping factor, ``group=``.
    frame : polars.DataFrame, optional
        With its columns; by default groups of up to five rows at whole times, other coordinates
        anywhere.
    seed : int
    recover : bool
        Whether to simulate and fit, which takes most of the time.

    Raises
    ------
    ConformanceError
        Says what is wrong with the structure.
    """
    _require(correlation, Correlation)
    if correlation.group is None:
        raise ConformanceError(
            f"{name_of(correlation)}: give it a grouping factor, group='g', so that the check can "
            "make groups"
        )
    generator = np.random.default_rng(seed)
    data = times(correlation, generator) if frame is None else frame
    residual = Residual(correlation)
    model = bound_model(residual, data)
    assert model.whitener is not None
    learned = model.whitener.correlation
    _check_parameters(model, learned)
    places = _places(model, generator)
    for theta in places:
        for block in model.whitener.blocks:
            _check_matrix(learned, theta, block.coordinates[:20], generator)
    for theta in places[-_DRAWS:]:
        points = model.whitener.blocks[-1].coordinates[:20]
        if isinstance(learned, Differentiable):
            _check_derivatives(learned, theta, points, generator)
        _check_number(learned, theta, functools.partial(_stack, learned, points))
    _check_far(learned, model)
    if recover:
        check_recovery(residual, data, model, learned, generator)


def check_variance(
    function: VarianceFunction, frame: Any = None, *, seed: int = 0, recover: bool = True
) -> None:
    """Check that ``function`` keeps the contract of a residual variance function.

    Parameters
    ----------
    function : VarianceFunction
    frame : polars.DataFrame, optional
        With its columns; by default each is 0.5, 1 or 2, covariate and stratum in one.
    seed, recover
        As of :func:`check_correlation`; a function of the fitted value is not simulated.

    Raises
    ------
    ConformanceError
        Says what is wrong with the function.
    """
    _require(function, VarianceFunction)
    generator = np.random.default_rng(seed)
    data = levels(function, generator) if frame is None else frame
    residual = Residual(variance=function)
    model = bound_model(residual, data)
    if model.residual.uses_fitted:
        model = model.with_fitted(generator.uniform(0.5, 2.0, model.design.n_obs))
    (learned,), (covariates,) = model.residual.variances, model.covariates
    _check_parameters(model, learned)
    for theta in _places(model, generator):
        deviation = np.asarray(learned.log_deviation(theta, covariates))
        if deviation.shape != (len(covariates),) or not np.isfinite(deviation).all():
            raise ConformanceError(
                f"{name_of(learned)}: log_deviation has to give one finite number a row, "
                f"{len(covariates)} in all, but at theta = {np.round(theta, 4)} gives shape "
                f"{deviation.shape}, {int((~np.isfinite(deviation)).sum())} of them not finite"
            )
        _check_number(learned, theta, functools.partial(_centred, learned, covariates))
    if recover and not model.residual.uses_fitted:
        check_recovery(residual, data, model, learned, generator)


def _require(structure: object, contract: type) -> None:
    if isinstance(structure, type) or not isinstance(structure, contract):
        wanted = ("columns", "parameters", "learn", "start", "values")
        own = ("group", "correlation") if contract is Correlation else ("log_deviation",)
        missing = [m for m in (*wanted, *own) if not hasattr(structure, m)]
        raise ConformanceError(
            f"expected a {contract.__name__}, got {structure!r:.60}, which lacks "
            f"{', '.join(missing) or 'nothing but being called'}"
        )


def _check_parameters(model: ResidualModel, structure: Any) -> None:
    names = [parameter.name for parameter in structure.parameters]
    if len(set(names)) < len(names) or not all(isinstance(n, str) and n for n in names):
        raise ConformanceError(
            f"{name_of(structure)}: parameters have to have different names, but have {names}"
        )
    for theta in np.atleast_2d(structure.start()):
        values = np.asarray(structure.values(adopt(theta.copy())))
        if theta.shape != (len(names),) or values.shape != (len(names),):
            raise ConformanceError(
                f"{name_of(structure)}: expected {len(names)} numbers from start and values, one a "
                f"parameter ({', '.join(names)}), got shapes {theta.shape} and {values.shape}"
            )
    for theta in _places(model, np.random.default_rng(0)):
        for parameter, value in zip(structure.parameters, structure.values(theta), strict=True):
            if not parameter.lower < value < parameter.upper:
                raise ConformanceError(
                    f"{name_of(structure)}: {parameter.name} is {value:.6g} at theta = "
                    f"{np.round(theta, 4)}, outside its bounds {parameter.lower:g} and "
                    f"{parameter.upper:g}"
                )


def _places(model: ResidualModel, generator: np.random.Generator) -> list[FloatArray]:
    """The starts, and four draws around one of them."""
    starts = model.starts()
    middle, k = starts[len(starts) // 2], starts.shape[1]
    near = [middle + 0.4 * generator.standard_normal(k) for _ in range(_DRAWS)]
    return [adopt(theta.copy()) for theta in [*starts, *near]]


def _check_matrix(
    structure: Correlation, theta: FloatArray, points: FloatArray, generator: np.random.Generator
) -> None:
    g, n, _ = points.shape
    at = f"{name_of(structure)}: the correlation at theta = {np.round(theta, 4)}"
    R = np.asarray(structure.correlation(theta, points))
    if R.shape != (g, n, n) or not np.isfinite(R).all():
        raise ConformanceError(
            f"{at} has to be finite, of shape {(g, n, n)} for coordinates of shape {points.shape}, "
            f"but has shape {R.shape}:\n{R.reshape(-1)[:25]}"
        )
    diagonal = np.diagonal(R, axis1=-2, axis2=-1)
    if np.abs(diagonal - 1.0).max() > _ROUNDING:
        raise ConformanceError(f"{at} has to have ones on its diagonal, but has {diagonal[0]}")
    if np.abs(R - np.swapaxes(R, -1, -2)).max() > _ROUNDING:
        raise ConformanceError(f"{at} is not symmetric:\n{R[0]}")
    smallest = np.linalg.eigvalsh(R).min()
    if smallest <= 0.0:
        raise ConformanceError(
            f"{at} is not positive definite, its smallest eigenvalue is {smallest:.3g}; choose a "
            "map from theta that cannot leave the correlations, or tighter bounds"
        )
    order = generator.permutation(n)
    turned = np.asarray(structure.correlation(theta, points[:, order]))
    if np.abs(turned - R[:, order][:, :, order]).max() > _ROUNDING:
        raise ConformanceError(
            f"{at} depends on the order of the rows: rows in another order have to give the same "
            "correlations in that order"
        )
    if isinstance(structure, ClosedForm) and n > 1:
        each = np.broadcast_to(np.eye(n)[:, None], (n, g, n)).copy()
        white, log_det = structure.whiten(theta, points, each)
        root = np.moveaxis(white, 0, -1)
        gap = np.abs(root @ R @ np.swapaxes(root, -1, -2) - np.eye(n)).max()
        expected = float(np.linalg.slogdet(R)[1].sum())
        if gap > 1e-7 or abs(log_det - expected) > 1e-7 * (1.0 + abs(expected)):
            raise ConformanceError(
                f"{name_of(structure)}: whiten does not do at theta = {np.round(theta, 4)} what "
                f"correlation says: L^-1 R L^-T is {gap:.2g} from the identity, and log|R| is "
                f"{log_det:.8g}, not {expected:.8g}"
            )


def _check_derivatives(
    structure: Any, theta: FloatArray, points: FloatArray, generator: np.random.Generator
) -> None:
    """Those that the structure brings, against differences of the correlation."""
    g, n, _ = points.shape
    weights = generator.standard_normal((g, n, n))
    weights += np.swapaxes(weights, -1, -2)
    first, second = numeric_derivatives(functools.partial(_stack, structure, points), theta)
    each = {
        "slopes": (structure.slopes(theta, points), first.reshape(-1, g, n, n)),
        "curvature": (structure.curvature(theta, points, weights), second @ weights.ravel()),
    }
    for name, (own, expected) in each.items():
        found = np.asarray(own)
        size = 1.0 + np.abs(expected).max()
        if found.shape != expected.shape or not np.abs(found - expected).max() < 1e-6 * size:
            raise ConformanceError(
                f"{name_of(structure)}: {name} is not the derivative of the correlation at theta = "
                f"{np.round(theta, 4)}: expected shape {expected.shape} and {expected.ravel()[:9]}"
                f", got shape {found.shape} and {found.ravel()[:9]}"
            )


def _stack(structure: Correlation, points: FloatArray, theta: FloatArray) -> FloatArray:
    return np.asarray(structure.correlation(theta, points)).ravel()


def _centred(function: VarianceFunction, covariates: FloatArray, theta: FloatArray) -> FloatArray:
    values = function.log_deviation(theta, covariates)
    return np.asarray(values - values.mean())


def _check_number(structure: Any, theta: FloatArray, effect: Any) -> None:
    """No parameter, and no combination of them, leaves everything but sigma as it is."""
    slopes = numeric_first(effect, theta).T
    for parameter, size in zip(structure.parameters, np.abs(slopes).max(axis=0), strict=True):
        if size < _DEPENDENT:
            raise ConformanceError(
                f"{name_of(structure)}: {parameter.name} does not change the covariance at theta = "
                f"{np.round(theta, 4)}, or only as sigma does"
            )
    scaled = slopes / np.linalg.norm(slopes, axis=0)
    if len(theta) and np.linalg.svd(scaled, compute_uv=False)[-1] < _DEPENDENT:
        raise ConformanceError(
            f"{name_of(structure)}: its parameters change the covariance in the same way at "
            f"theta = {np.round(theta, 4)}: there are more of them than it has dimensions"
        )


def _check_far(structure: Correlation, model: ResidualModel) -> None:
    assert model.whitener is not None
    points = model.whitener.blocks[-1].coordinates[:20]
    for sign in (-1.0, 1.0):
        theta = adopt(np.full(len(structure.parameters), sign * _FAR))
        with np.errstate(all="ignore"):
            R = np.asarray(structure.correlation(theta, points))
        if not np.isfinite(R).all() or np.linalg.eigvalsh(R).min() < -1e-6:
            raise ConformanceError(
                f"{name_of(structure)}: far out, at theta = {theta}, the correlation is not finite "
                f"and positive semidefinite:\n{R[0]}"
            )
