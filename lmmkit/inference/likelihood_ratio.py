"""Likelihood-ratio tests of nested models, on the boundary too."""

import itertools

import numpy as np
import polars as pl

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.covariance_nesting import reference_among_covariances
from lmmkit.inference.criteria import count_parameters
from lmmkit.inference.mixture import Mixture, reference_distribution
from lmmkit.inference.nesting import extra_effects, spans
from lmmkit.inference.structure_nesting import check_structures
from lmmkit.records import FloatArray
from lmmkit.structures.contract import structure_name

_WORSE = 1e-6
_NOTHING = 1e-9


def likelihood_ratio_test(*fits: Fit) -> pl.DataFrame:
    """Compare nested models of the same data, each with the next larger one.

    ``2 (loglik_large - loglik_small)`` is compared with chi-square on the difference of the
    numbers of parameters. Where the larger model has one random effect more, its variance lies on
    the boundary under the smaller one, and the reference is the even mixture of chi-square on
    ``df - 1`` and on ``df`` degrees of freedom. With several more random effects the plain
    chi-square is reported: its p-value is too large (conservative).

    Where residuals have a structure, the covariance of some rows at the smaller model's estimates,
    and at another place of its parameters, has to be one that the larger model can have. The
    mixture is for one parameter at its bound there, such as phi of a continuous-time autoregression
    at 0; a correlation that may be negative has a plain chi-square.

    Parameters
    ----------
    *fits : Fit
        Two or more, in any order; all ML or all REML.

    Returns
    -------
    polars.DataFrame
        One row a comparison, the smallest models first: ``smaller, larger`` (formulas, with the
        residual structure and what ``covariance=`` was given; the number of parameters where the
        models still read alike),
        ``loglik_smaller, loglik_larger, statistic, df, distribution, p_value``, and
        ``converged``: whether both fits did; without that the statistic means nothing. Under REML
        ``loglik_larger`` refers to the smaller model's columns of X.

    Raises
    ------
    ArgumentError
        For fits of different data, of ML and REML, of different fixed effects under REML, or that
        are not nested.

    References
    ----------
    Self and Liang (1987), JASA 82, 605-610. Stram and Lee (1994), Biometrics 50, 1171-1177.
    """
    for fit in fits:
        check_fit(fit)
    if len(fits) < 2:
        raise ArgumentError(f"likelihood_ratio_test: expected at least two fits, got {len(fits)}")
    ordered = sorted(fits, key=count_parameters)
    return pl.DataFrame([_compare(small, large) for small, large in itertools.pairwise(ordered)])


def _compare(small: Fit, large: Fit) -> dict[str, object]:
    df = count_parameters(large) - count_parameters(small)
    labels = _labels(small, large)
    pair = " and ".join(map(repr, labels))
    if df == 0:
        raise ArgumentError(f"{pair} have equally many parameters: neither is nested in the other")
    if small.reml != large.reml:
        raise ArgumentError(f"{pair}: one was fitted by REML and one by ML; refit one of them")
    _check_data(small, large, pair)
    _check_fixed(small, large, pair)
    reference = _reference(small, large, df, pair)
    low, high = small.loglik, large.loglik + _reml_shift(large, small)
    statistic = 2.0 * (high - low)
    if statistic < -_WORSE * (1.0 + abs(low)):
        raise ArgumentError(
            f"{pair}: the larger model has the smaller log-likelihood, {high:.6g} < {low:.6g}; "
            "they are not nested, or one fit did not converge"
        )
    if statistic < _NOTHING * (1.0 + abs(low)):
        statistic = 0.0
    return {
        "smaller": labels[0],
        "larger": labels[1],
        "loglik_smaller": low,
        "loglik_larger": high,
        "statistic": statistic,
        "df": df,
        "distribution": str(reference),
        "p_value": reference.tail(statistic),
        "converged": small.certificate.converged and large.certificate.converged,
    }


def _reference(small: Fit, large: Fit, df: int, pair: str) -> Mixture:
    """The reference distribution; raises where covariances are not nested."""
    if small.residual is not None or large.residual is not None:
        return reference_among_covariances(small, large, df, pair)
    extra = extra_effects(small, large, pair)
    check_structures(small, large, pair)
    return reference_distribution(small, large, df, extra)


def _labels(*fits: Fit) -> list[str]:
    """What messages call the models, each in its own way."""
    labels = [_model_label(fit) for fit in fits]
    if len(set(labels)) == len(fits):
        return labels
    counts = map(count_parameters, fits)
    return [f"{label}; {count} parameters" for label, count in zip(labels, counts, strict=True)]


def _model_label(fit: Fit) -> str:
    parts = [formula_text(fit)]
    formula = fit.design.formula
    for k, term in enumerate(fit.design.terms):
        written = formula is not None and formula.random[k].structure is not None
        if term.structure is not None and not written:
            parts.append(f"covariance of {term.group}: {structure_name(term.structure)}")
    if fit.residual is not None:
        parts.append(f"residual: {fit.residual.model.residual}")
    return "; ".join(parts)


def formula_text(fit: Fit) -> str:
    """The formula as written, or one put together for a design from arrays."""
    design = fit.design
    if design.formula is not None:
        return design.formula.text
    bars = [f"({' + '.join(term.names)} | {term.group})" for term in design.terms]
    return f"{design.response} ~ {' + '.join([*design.x_names, *bars])}"


def _check_data(small: Fit, large: Fit, pair: str) -> None:
    a, b = small.design, large.design
    if a.n_obs != b.n_obs:
        raise ArgumentError(
            f"{pair} were fitted to {a.n_obs} and {b.n_obs} rows; fit both to the same rows "
            "(missing values in a column that only one model uses drop rows)"
        )
    if not np.array_equal(a.y, b.y):
        raise ArgumentError(f"{pair} have different responses ({a.response}, {b.response})")
    of_a, of_b = (np.ones(d.n_obs) if d.weights is None else d.weights for d in (a, b))
    if not np.array_equal(of_a, of_b):
        raise ArgumentError(f"{pair} have different prior weights")


def _check_fixed(small: Fit, large: Fit, pair: str) -> None:
    inner, outer = _estimated_columns(small), _estimated_columns(large)
    shift = _known_mean(small) - _known_mean(large)
    if not spans(outer, np.column_stack([inner, shift])):
        raise ArgumentError(
            f"{pair} are not nested: the fixed effects of the first are no combination of the "
            "second's"
        )
    if small.reml and (inner.shape[1] != outer.shape[1] or shift.any()):
        raise ArgumentError(
            f"{pair} have different fixed effects: restricted likelihoods do not compare then; fit "
            "both with reml=False"
        )


def _estimated_columns(fit: Fit) -> FloatArray:
    return fit.design.X[:, fit.objective.free[: len(fit.design.x_names)]]


def _known_mean(fit: Fit) -> FloatArray:
    """Offset and held fixed effects."""
    design, beta = fit.design, fit.natural.beta
    assert beta is not None
    held = ~fit.objective.free[: len(beta)]
    known: FloatArray = design.X[:, held] @ beta[held]
    return known if design.offset is None else known + design.offset


def _reml_shift(fit: Fit, other: Fit) -> float:
    """What takes the restricted loglik to the columns of X in ``other``: a log-determinant."""
    mine, theirs = _estimated_columns(fit), _estimated_columns(other)
    if not fit.reml or np.array_equal(mine, theirs):
        return 0.0
    across = np.linalg.lstsq(theirs, mine, rcond=None)[0]
    return float(np.linalg.slogdet(across)[1])
