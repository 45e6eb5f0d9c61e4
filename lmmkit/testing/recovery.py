"""Simulate from a structure, fit, and see whether the parameters come back."""

import numpy as np

from lmmkit.design import build_design_from_arrays
from lmmkit.design.design import Design
from lmmkit.errors import ConformanceError
from lmmkit.fit import Fit, fit_design
from lmmkit.inference.parameters import parameter_covariance, parameter_values
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.linalg import psd_factor
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, evolve
from lmmkit.structures.contract import Kind

_LEVELS = 150
_REPEATS = 3
_SIGMA = 0.7
_AWAY = 5.0


def check_recovery(term: StructuredTerm, seed: int) -> None:
    """A fit to simulated data reaches a likelihood above that of the truth, and near the truth."""
    generator = np.random.default_rng(seed)
    theta = np.asarray(term.structure.start(term.q)) + 0.2 * generator.normal(size=term.n)
    design = _design(term, theta, generator, reverse=False)
    found = fit_design(design, reml=False)
    where = f"{term.name}: fitted to data simulated at theta = {np.round(theta, 4)}, "
    if not found.certificate.converged:
        raise ConformanceError(f"{where}the fit does not converge: {found.certificate}")
    truth = NaturalParams(
        psi=(_SIGMA**2 * term.covariance(theta), np.array([[0.25]])), sigma2=_SIGMA**2
    )
    if found.loglik < found.objective.loglik(truth):
        raise ConformanceError(
            f"{where}the fit ends at the log-likelihood {found.loglik:.6g}, below that of the "
            f"truth, {found.objective.loglik(truth):.6g}"
        )
    some = slice(1, 1 + term.n)
    estimates = parameter_values(found)[some]
    errors = np.sqrt(np.diagonal(parameter_covariance(found))[some])
    wanted = term.natural(term.canonical(theta), _SIGMA)
    for x, value, true, error in zip(term.quantities, estimates, wanted, errors, strict=True):
        away = abs(value - (abs(true) if x.kind is Kind.SD else true)) / error
        if away > _AWAY:
            raise ConformanceError(
                f"{where}{x.name} is estimated as {value:.4g} with standard error {error:.2g}, the "
                f"truth is {true:.4g}: {away:.0f} standard errors away"
            )


def check_orders(term: StructuredTerm, seed: int) -> None:
    """The order of the terms does not matter."""
    fits: list[Fit] = []
    for reverse in (False, True):
        generator = np.random.default_rng(seed)
        theta = np.asarray(term.structure.start(term.q))
        fits.append(fit_design(_design(term, theta, generator, reverse=reverse)))
    first, second = fits
    if abs(first.loglik - second.loglik) > 1e-6 * (1.0 + abs(first.loglik)):
        raise ConformanceError(
            f"{term.name}: the log-likelihood depends on the order of the terms, "
            f"{first.loglik:.9g} and {second.loglik:.9g}; covariance has to depend on its "
            "arguments only"
        )


def _design(
    term: StructuredTerm, theta: FloatArray, generator: np.random.Generator, *, reverse: bool
) -> Design:
    """Levels with every effect observed a few times, and a second term with one effect."""
    q = term.q
    codes = np.repeat(np.arange(_LEVELS), q * _REPEATS)
    Z = np.tile(np.repeat(np.eye(q), _REPEATS, axis=0), (_LEVELS, 1))
    x = generator.normal(size=len(codes))
    root = psd_factor(_SIGMA**2 * term.covariance(theta))
    b = generator.normal(size=(_LEVELS, q)) @ root.T
    slopes = 0.5 * generator.normal(size=_LEVELS)
    noise = _SIGMA * generator.normal(size=len(codes))
    y = 1.0 + (Z * b[codes]).sum(axis=1) + x * slopes[codes] + noise
    terms = [("g", Z, codes, list(term.effects)), ("g", x[:, None], codes, ["x"])]
    design = build_design_from_arrays(y, np.ones((len(y), 1)), terms[:: -1 if reverse else 1])
    records = list(design.terms)
    k = len(records) - 1 if reverse else 0
    records[k] = evolve(records[k], structure=term.structure)
    return evolve(design, terms=tuple(records))
