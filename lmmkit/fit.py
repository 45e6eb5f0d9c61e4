"""Fit a model: the composition of the pipeline's public functions, and the record it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import polars as pl

from lmmkit.design import build_design, group
from lmmkit.design.design import Design
from lmmkit.design.relation import LevelCovariance
from lmmkit.design.structure import with_covariance
from lmmkit.errors import ArgumentError, DataError
from lmmkit.formula.terms import ModelFormula
from lmmkit.likelihood.hold import hold
from lmmkit.likelihood.impose import impose
from lmmkit.likelihood.objective import Objective, ml
from lmmkit.likelihood.objective import reml as restricted
from lmmkit.likelihood.pieces import Criterion
from lmmkit.likelihood.relations import LinearConstraint, relate
from lmmkit.moments import cross_products
from lmmkit.optimize.certificate import Certificate
from lmmkit.optimize.run import Optimum, maximize
from lmmkit.optimize.step import Report, Step
from lmmkit.parameters.convert import to_profile, to_square_root
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.profile import ProfileParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, record, require
from lmmkit.residual.bind import residual_model
from lmmkit.residual.fitted import FittedResidual, maximize_with_residual
from lmmkit.residual.residual import Residual, checked_residual

_ROUNDING = 1e-13
_TINY = 1e-6

if TYPE_CHECKING:
    from lmmkit.inference.summary import Summary


@record
class Fit:
    """A fitted model: what the inference functions take.

    Attributes
    ----------
    design : Design
    objective : Objective
        The (restricted) log-likelihood that was maximized, in the user's coordinates.
    optimum : Optimum
        Estimates, log-likelihood, certificate and trace.
    residual : FittedResidual or None
        The structure of the residuals. The objective is then that of the rows made independent
        at its estimates.
    """

    design: Design = attrs.field(validator=attrs.validators.instance_of(Design))
    objective: Objective = attrs.field(validator=attrs.validators.instance_of(Objective))
    optimum: Optimum = attrs.field(validator=attrs.validators.instance_of(Optimum))
    residual: FittedResidual | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.instance_of(FittedResidual)),
    )

    def __attrs_post_init__(self) -> None:
        rows, summed = self.design.n_obs, self.objective.moments.n_obs
        require(rows == summed, f"Fit: the design has {rows} rows, the objective {summed}")

    def __repr__(self) -> str:
        text = self.design.formula.text if self.design.formula else self.design.response
        criterion = self.objective.criterion.value
        return f"Fit({text!r}, {criterion}, loglik={self.loglik:.6g}, {self.certificate})"

    def __str__(self) -> str:
        return str(self._summary())

    def _repr_html_(self) -> str:
        return self._summary()._repr_html_()

    def _summary(self) -> "Summary":
        from lmmkit.inference.summary import summary

        return summary(self)

    @property
    def natural(self) -> NaturalParams:
        """The estimates: beta, Psi of each random term, sigma2, in the units of the data."""
        return self.optimum.natural

    @property
    def profile(self) -> ProfileParams:
        """The estimates relative to sigma2."""
        return to_profile(self.natural)

    @property
    def square_root(self) -> SquareRootParams:
        """The estimates as relative covariance factors."""
        return to_square_root(self.natural)

    @property
    def loglik(self) -> float:
        """The maximum of the log-likelihood, the restricted one under REML."""
        return self.optimum.loglik

    @property
    def reml(self) -> bool:
        """Whether the restricted likelihood was maximized."""
        return self.objective.criterion is Criterion.REML

    @property
    def certificate(self) -> Certificate:
        """Whether, and how well, the fit converged."""
        return self.optimum.certificate

    @property
    def trace(self) -> pl.DataFrame:
        """One row an iteration."""
        return self.optimum.trace


def fit(
    formula: str | ModelFormula,
    frame: Any,
    *,
    reml: bool = True,
    strategy: Step | None = None,
    residual: Residual | None = None,
    covariance: Mapping[str, Any] | None = None,
    fixed: Mapping[Any, Any] | None = None,
    constraints: Sequence[LinearConstraint] = (),
    weights: Any = None,
    offset: Any = None,
    missing: str = "drop",
    relations: Mapping[str, LevelCovariance] | None = None,
    progress: Callable[[int, Report], None] | None = None,
) -> Fit:
    """Fit a linear mixed-effects model by (restricted) maximum likelihood.

    Parameters
    ----------
    formula : str or ModelFormula
        lme4's syntax: ``"Weight ~ Time + (Time | Pig)"``.
    frame : polars.DataFrame
    reml : bool
        Restricted maximum likelihood, or maximum likelihood.
    strategy : Step, optional
        How to optimize; :func:`~lmmkit.optimize.presets.default_strategy` by default.
    residual : Residual, optional
        Correlations inside groups of rows, and variance functions: ``Residual(ar1("Time"))``. By
        default rows are independent, of variance ``sigma2 / weight``.
    covariance : mapping, optional
        Covariance structures by grouping factor or term, ``{"g": Diagonal()}``, in addition
        to those in the formula; see :mod:`lmmkit.structures`.
    fixed : mapping, optional
        Parameters held at values on the natural scale, see :func:`hold`; those of ``residual`` as
        ``{("Residual", "phi"): 0.5}``, by the names of :func:`residual_parameters`.
    constraints : sequence of LinearConstraint
        Covariance parameters, or those of ``residual``, that are equal or otherwise related, see
        :func:`tie` and :func:`linear`.
    weights, offset : str or array, optional
        Column names, or one value a row of the frame. The residual variance of a row is
        ``sigma2 / weight``; the offset is a part of the mean that is known.
    missing : {"drop", "raise"}
        What to do with rows that have missing values.
    relations : mapping of str to LevelCovariance, optional
        Known covariances between the levels of grouping factors, by the factor's name, see
        :func:`~lmmkit.design.build.build_design`.
    progress : callable (iteration, report), optional
        Called after every iteration.

    Returns
    -------
    Fit
        Whether or not it converged: see ``Fit.certificate``.

    Raises
    ------
    LmmkitError
        A subclass that says what is wrong with the formula, the data or an argument.
    """
    design = build_design(
        formula,
        frame,
        weights=weights,
        offset=offset,
        missing=missing,
        relations=relations,
        coordinates=() if residual is None else checked_residual(residual).columns,
    )
    return fit_design(
        design,
        reml=reml,
        strategy=strategy,
        residual=residual,
        covariance=covariance,
        fixed=fixed,
        constraints=constraints,
        progress=progress,
    )


def fit_design(
    design: Design,
    *,
    reml: bool = True,
    strategy: Step | None = None,
    residual: Residual | None = None,
    covariance: Mapping[str, Any] | None = None,
    fixed: Mapping[Any, Any] | None = None,
    constraints: Sequence[LinearConstraint] = (),
    progress: Callable[[int, Report], None] | None = None,
) -> Fit:
    """:func:`fit` from a design, however it was built."""
    if not isinstance(design, Design):
        raise ArgumentError(
            f"expected a Design, got {type(design).__name__}; fit takes a formula and a frame"
        )
    if not isinstance(reml, bool | np.bool_):
        raise ArgumentError(f"reml: expected True, or False for maximum likelihood, got {reml!r}")
    if design.y.ndim != 1:
        raise DataError(
            f"expected one response, got an array of shape {design.y.shape}: fit one at a time"
        )
    if covariance is not None:
        design = with_covariance(design, covariance)
    moments = cross_products(group(design))
    objective = impose(restricted(moments) if reml else ml(moments), design)
    rounding = _rounding(design, objective)
    if objective.system.one_factor and _saturated(objective) <= rounding:
        raise _no_residual(design)

    def best(objective: Objective, start: SquareRootParams | None = None) -> Optimum:
        return maximize(objective, strategy, start, progress=progress)

    def fitted(objective: Objective, optimum: Optimum) -> FloatArray:
        from lmmkit.inference.levels import mean, random_part

        place = Fit(design, objective, optimum)
        values: FloatArray = mean(place, design.X, design.offset) + random_part(place)
        return values

    if residual is not None:
        structure, objective, optimum = maximize_with_residual(
            residual_model(design, residual),
            best,
            fitted,
            restricted=bool(reml),
            fixed=fixed,
            constraints=constraints,
        )
        return Fit(design, objective, optimum, structure)
    if fixed is not None:
        objective = hold(objective, design, fixed)
    objective = relate(objective, design, constraints)
    optimum = best(objective)
    if objective.held_sigma2 is None and _reproduced(design, objective, optimum, rounding):
        raise _no_residual(design)
    return Fit(design, objective, optimum)


def _rounding(design: Design, objective: Objective) -> float:
    """The sum of squares below which a residual is rounding; none where effects outnumber rows."""
    if any(term.q * len(term.levels) >= design.n_obs for term in design.terms):
        return -1.0
    weighted = design.y if design.weights is None else design.y * design.weights
    return max(_ROUNDING * float(objective.moments.yy), _ROUNDING**2 * float(design.y @ weighted))


def _saturated(objective: Objective) -> float:
    """The sum of squares that all effects, taken as fixed, leave of y."""
    outside = objective.system.first.outside
    residual = outside[-1, -1]
    if outside[:-1, -1].any():
        explained = np.linalg.lstsq(outside[:-1, :-1], outside[:-1, -1], rcond=None)[0]
        residual = residual - outside[-1, :-1] @ explained
    return float(residual)


def _reproduced(design: Design, objective: Objective, optimum: Optimum, rounding: float) -> bool:
    """Whether the residual variance would be zero but for rounding.

    Of several factors the optimizer's rounding is larger than that of least squares.
    """
    left = float(optimum.natural.sigma2) * design.n_obs
    if left <= rounding or objective.system.one_factor:
        return left <= rounding
    if rounding < 0 or left > _TINY * float(objective.moments.yy):
        return False
    from lmmkit.inference.saturation import least_sum_of_squares

    return least_sum_of_squares(design) <= rounding


def _no_residual(design: Design) -> DataError:
    """The log-likelihood has no maximum where nothing is left."""
    return DataError(
        f"the fixed and random effects reproduce the response {design.response!r} to within "
        "rounding, so that no residual variance is left to estimate; use fewer terms, check "
        "the column, or subtract from it what is known of it"
    )
