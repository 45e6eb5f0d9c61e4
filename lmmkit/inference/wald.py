"""Wald tests of linear hypotheses about the fixed effects."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from lmmkit.errors import ArgumentError
from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit, chi2_tail
from lmmkit.inference.fixed import estimates, fixed_covariance
from lmmkit.inference.hypotheses import Hypothesis, hypothesis_from_text

_DEPENDENT = 1e-10
_CONTRADICTION = 1e-6


def wald_test(
    fit: Fit, hypothesis: str | Sequence[str] | ArrayLike, rhs: ArrayLike | None = None
) -> pl.DataFrame:
    """Test ``L beta = c``, all rows jointly.

    ``(L beta - c)' (L Var(beta) L')^-1 (L beta - c)`` is compared with chi-square, its degrees of
    freedom the rank of L.

    Parameters
    ----------
    fit : Fit
    hypothesis : str, list of str, or array (k, p) or (p,)
        A text is a linear equation in the names of the fixed effects, ``"Time = 7"``, ``"Time -
        2*Cu = 0"``; without ``=``, that the expression is zero; or the name of a term of the
        formula, that all its columns are zero. An array is L.
    rhs : array (k,) or float, optional
        c, for an array; zero by default.

    Returns
    -------
    polars.DataFrame
        One row: ``hypothesis, statistic, df, p_value``. Rows of L that depend on others, and agree
        with them, count once.

    Raises
    ------
    ArgumentError
        For a text that is no linear equation, an unknown name, an array of the wrong shape, rows
        that contradict one another, or a hypothesis about effects that are held.
    """
    check_fit(fit)
    if not fit.design.x_names:
        raise ArgumentError("wald_test: the model has no fixed effects, so none can be tested")
    asked = _hypothesis(fit, hypothesis, rhs)
    covariance = np.nan_to_num(fixed_covariance(fit), nan=0.0)
    variance = asked.L @ covariance @ asked.L.T
    scale = np.sqrt(np.diagonal(variance))
    if not (scale > 0).all():
        raise ArgumentError(
            f"hypothesis {asked.text!r}: row {int(np.argmin(scale))} involves no fixed effect that "
            "was estimated: nothing is left to test"
        )
    difference = (asked.L @ estimates(fit) - asked.c) / scale
    values, vectors = np.linalg.eigh(variance / np.outer(scale, scale))
    along = vectors.T @ difference
    kept = values > _DEPENDENT
    if (np.abs(along[~kept]) > _CONTRADICTION * (1.0 + np.abs(difference).max())).any():
        raise ArgumentError(
            f"hypothesis {asked.text!r}: its rows depend on one another and contradict one another"
        )
    statistic = float((along[kept] ** 2 / values[kept]).sum())
    df = int(kept.sum())
    return pl.DataFrame(
        {
            "hypothesis": [asked.text],
            "statistic": [statistic],
            "df": [df],
            "p_value": [chi2_tail(statistic, df)],
        }
    )


def _hypothesis(
    fit: Fit, hypothesis: str | Sequence[str] | ArrayLike, rhs: ArrayLike | None
) -> Hypothesis:
    texts = [hypothesis] if isinstance(hypothesis, str) else hypothesis
    if isinstance(texts, list | tuple) and texts and all(isinstance(t, str) for t in texts):
        if rhs is not None:
            raise ArgumentError("rhs goes with an array; write it into the text: 'Time = 7'")
        return hypothesis_from_text(fit.design, [str(text) for text in texts])
    names = fit.design.x_names
    try:
        L = np.atleast_2d(np.asarray(hypothesis, dtype=np.float64))
        c = np.asarray(0.0 if rhs is None else rhs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"hypothesis: expected text, a list of text, or numbers (k, {len(names)}) with rhs "
            f"(k,), got {hypothesis!r} and {rhs!r}"
        ) from error
    if L.ndim != 2 or L.shape[1] != len(names) or not len(L) or c.shape not in ((), (len(L),)):
        raise ArgumentError(
            f"hypothesis: expected L of shape (k, {len(names)}), one column a fixed effect "
            f"({', '.join(names)}), and rhs (k,), got shapes {L.shape} and {c.shape}"
        )
    if not (np.isfinite(L).all() and np.isfinite(c).all()):
        raise ArgumentError("hypothesis: expected finite numbers in L and rhs")
    c = np.broadcast_to(c, len(L))
    return Hypothesis(L=L, c=c, text="; ".join(map(_row_text, [names] * len(L), L, c)))


def _row_text(names: tuple[str, ...], row: Sequence[float], value: float) -> str:
    terms = [f"{x:g}*{name}" for x, name in zip(row, names, strict=True) if x]
    return f"{' + '.join(terms) or '0'} = {value:g}"
