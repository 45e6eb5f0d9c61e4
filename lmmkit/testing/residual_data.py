"""Data for the checks of residual structures, and whether a fit finds the parameters again."""

from typing import Any

import numpy as np
import polars as pl

from lmmkit.design import build_design
from lmmkit.errors import ConformanceError
from lmmkit.fit import fit
from lmmkit.inference.residual_parameters import standard_errors
from lmmkit.parameters.natural import NaturalParams
from lmmkit.residual.bind import residual_model
from lmmkit.residual.contract import Correlation, VarianceFunction
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.residual import Residual

_GROUPS = 200
_AWAY = 5.0
_SIGMA = 0.7


def name_of(structure: object) -> str:
    """How messages call a structure."""
    return str(getattr(structure, "name", type(structure).__name__))


def times(correlation: Correlation, generator: np.random.Generator) -> pl.DataFrame:
    """Groups of up to five rows at whole times, other coordinates anywhere."""
    sizes = generator.integers(1, 6, _GROUPS)
    times = [np.sort(generator.choice(5, n, replace=False)) for n in sizes]
    when = np.concatenate(times).astype(np.float64)
    columns = {name: generator.uniform(0.0, 5.0, len(when)) for name in correlation.columns}
    columns |= {name: when for name in correlation.columns[:1]}
    return pl.DataFrame({**columns, str(correlation.group): np.repeat(np.arange(_GROUPS), sizes)})


def levels(function: VarianceFunction, generator: np.random.Generator) -> pl.DataFrame:
    """Rows whose covariates are 0.5, 1 or 2."""
    names = [name for name in function.columns if name is not None]
    n = 4 * _GROUPS
    return pl.DataFrame(
        {name: generator.choice([0.5, 1.0, 2.0], n) for name in names} or {"row": np.arange(n)}
    )


def bound_model(residual: Residual, frame: pl.DataFrame) -> ResidualModel:
    """The structure bound to the frame, with a response of noise."""
    noise = np.random.default_rng(1).standard_normal(frame.height)
    data = frame.with_columns(lmmkit_response=pl.Series(noise))
    design = build_design("lmmkit_response ~ 1", data, coordinates=residual.columns)
    return residual_model(design, residual)


def check_recovery(
    residual: Residual,
    frame: pl.DataFrame,
    model: ResidualModel,
    structure: Any,
    generator: np.random.Generator,
) -> None:
    """A fit to simulated data reaches at least the likelihood of the truth, and is near it."""
    starts = model.starts()
    truth = starts[len(starts) // 2] + 0.2 * generator.standard_normal(starts.shape[1])
    noise = model.noise(truth, generator.standard_normal((1, model.design.n_obs)))[0]
    data = frame.with_columns(lmmkit_response=pl.Series(3.0 + _SIGMA * noise))
    found = fit("lmmkit_response ~ 1", data, reml=False, residual=residual)
    where = f"{name_of(structure)}: fitted to data simulated at theta = {np.round(truth, 4)}, "
    if not found.certificate.converged:
        raise ConformanceError(f"{where}the fit does not converge: {found.certificate}")
    assert found.residual is not None
    known = found.residual.objective(truth)
    best = -np.inf if known is None else float(known.loglik(NaturalParams((), _SIGMA**2)))
    if found.loglik < best:
        raise ConformanceError(
            f"{where}the fit ends at the log-likelihood {found.loglik:.6g}, below that of the "
            f"truth, {best:.6g}; start nearer, or from several places"
        )
    wanted = structure.values(truth)
    for parameter, value, true, error in zip(
        structure.parameters, found.residual.estimates, wanted, standard_errors(found), strict=True
    ):
        if abs(value - true) > _AWAY * error:
            raise ConformanceError(
                f"{where}{parameter.name} is estimated as {value:.4g} with standard error "
                f"{error:.2g}, the truth is {true:.4g}"
            )
