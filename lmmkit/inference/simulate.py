"""Draw responses from a fitted model."""

import numbers

import numpy as np
import polars as pl

from lmmkit.design.design import RandomTerm
from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.levels import mean, random_part
from lmmkit.linalg import psd_factor
from lmmkit.records import FloatArray


def simulate(
    fit: Fit, n: int = 1, *, seed: int | np.random.SeedSequence, conditional: bool = False
) -> pl.DataFrame:
    """Draw ``y = offset + X beta + Z b + eps`` at the estimates.

    Parameters
    ----------
    fit : Fit
    n : int
        Number of responses.
    seed : int or numpy.random.SeedSequence
        The same seed gives the same draws.
    conditional : bool
        Keep b at its conditional modes; by default every response has a new ``b ~ N(0, Psi)``,
        or ``N(0, K ⊗ Psi)`` with a known covariance K between the levels.

    Returns
    -------
    polars.DataFrame
        ``row`` (position in the frame of the fit), ``sim_1``, ..., ``sim_n``.

    Raises
    ------
    ArgumentError
        For a number of responses below 1, or a seed that is not one.
    """
    check_fit(fit)
    if not isinstance(n, numbers.Integral) or n < 1:
        raise ArgumentError(f"simulate: expected n to be a number of responses >= 1, got {n!r}")
    generator = _generator(seed)
    design, natural = fit.design, fit.natural
    draws = np.broadcast_to(mean(fit, design.X, design.offset), (n, design.n_obs)).copy()
    if conditional:
        draws += random_part(fit)
    else:
        for term, psi in zip(design.terms, natural.psi, strict=True):
            effects = _draw_effects(term, psi, n, generator)
            loads = np.ones((design.n_obs, 1)) if term.loads is None else term.loads
            codes = term.codes.reshape(loads.shape)
            for k in range(loads.shape[1]):
                for j in range(term.q):
                    draws += loads[:, k] * term.Z[:, j] * effects[:, codes[:, k], j]
    noise = generator.standard_normal(draws.shape)
    if fit.residual is not None:
        noise = fit.residual.model.noise(fit.residual.theta, noise)
    elif design.weights is not None:
        noise /= np.sqrt(design.weights)
    draws += np.sqrt(natural.sigma2) * noise
    columns = {f"sim_{i}": draw for i, draw in enumerate(draws, start=1)}
    return pl.DataFrame({"row": design.rows, **columns})


def _draw_effects(
    term: RandomTerm, psi: FloatArray, n: int, generator: np.random.Generator
) -> FloatArray:
    """New effects (n, m, q) of all levels of a term."""
    spherical = generator.standard_normal((n, len(term.levels), term.q))
    if term.relation is not None:
        spherical = term.relation.root @ spherical
    effects: FloatArray = spherical @ psd_factor(psi).T
    return effects


def _generator(seed: int | np.random.SeedSequence) -> np.random.Generator:
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if isinstance(seed, np.random.SeedSequence) or (whole and int(seed) >= 0):
        return np.random.default_rng(seed)
    raise ArgumentError(
        f"simulate: expected seed to be a whole number >= 0 or a SeedSequence, got {seed!r}; a "
        "Generator would be changed by drawing from it"
    )
