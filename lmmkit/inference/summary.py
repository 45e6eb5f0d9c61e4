"""What a person reads first about a fit, as a record, as text and as HTML."""

import numpy as np
import polars as pl

from lmmkit.fit import Fit
from lmmkit.inference.checks import check_fit
from lmmkit.inference.components import variance_components
from lmmkit.inference.criteria import glance
from lmmkit.inference.fixed import fixed_effects
from lmmkit.inference.likelihood_ratio import formula_text
from lmmkit.inference.render import Table, html_document, text_document
from lmmkit.inference.residuals import residuals
from lmmkit.records import record


@record
class Summary:
    """A fit in tables and sentences; ``print`` it, or let a notebook show it.

    Attributes
    ----------
    formula : str
    glance : polars.DataFrame
        :func:`glance` of the fit.
    scaled_residuals : tuple of float
        Minimum, quartiles and maximum of the Pearson residuals.
    components : polars.DataFrame
        :func:`variance_components` of the fit.
    fixed : polars.DataFrame
        :func:`fixed_effects` of the fit.
    groups : tuple of (str, int)
        Grouping factors and their numbers of levels.
    notes : tuple of str
        Sentences: convergence, singular covariances, dropped rows and columns.
    """

    formula: str
    glance: pl.DataFrame
    scaled_residuals: tuple[float, ...]
    components: pl.DataFrame
    fixed: pl.DataFrame
    groups: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return text_document(self._headings(), self._tables(), self.notes)

    def _repr_html_(self) -> str:
        return html_document(self._headings(), self._tables(), self.notes)

    def _headings(self) -> tuple[str, ...]:
        row = self.glance.row(0, named=True)
        how = "REML" if row["criterion"] == "REML" else "maximum likelihood"
        counts = ", ".join(f"{name}: {m}" for name, m in self.groups)
        return (
            f"Linear mixed model fit by {how}",
            f"Formula: {self.formula}",
            f"Observations: {row['n_obs']}" + (f"; groups: {counts}" if counts else ""),
        )

    def _tables(self) -> tuple[Table, ...]:
        row = self.glance.row(0, named=True)
        fit_names = ("loglik", "deviance", "aic", "bic", "df_residual")
        fit_labels = ("logLik", "-2 logLik", "AIC", "BIC", "df.resid")
        quantiles = ("Min", "1Q", "Median", "3Q", "Max")
        return (
            Table("Fit", fit_labels, (tuple(_decimals(row[name]) for name in fit_names),)),
            Table(
                "Scaled residuals", quantiles, (tuple(f"{r:.4f}" for r in self.scaled_residuals),)
            ),
            _random_table(self.components),
            *_structure_tables(self.components),
            *_residual_tables(self.components.filter(pl.col("kind") == "structure")),
            _fixed_table(self.fixed),
        )


def summary(fit: Fit) -> Summary:
    """The summary of ``fit``.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    Summary
    """
    check_fit(fit)
    scaled = residuals(fit, "pearson")["residual"].to_numpy()
    return Summary(
        formula=formula_text(fit),
        glance=glance(fit),
        scaled_residuals=tuple(float(x) for x in np.quantile(scaled, [0, 0.25, 0.5, 0.75, 1])),
        components=variance_components(fit),
        fixed=fixed_effects(fit),
        groups=tuple({term.group: len(term.levels) for term in fit.design.terms}.items()),
        notes=_notes(fit),
    )


def _notes(fit: Fit) -> tuple[str, ...]:
    design = fit.design
    notes = [str(fit.certificate)]
    for term, own in zip(design.terms, fit.objective.structures, strict=False):
        if own is not None:
            how = "" if own.exact else "; its derivatives were computed numerically"
            notes.append(f"Covariance of the effects on {term.group}: {own.name}{how}.")
    if fit.residual is not None and not fit.residual.model.sums:
        notes.append(
            "Derivatives by the residual structure's parameters were computed numerically."
        )
    if fit.certificate.singular and len(design.terms) > 1:
        bars = [design.terms[k] for k in fit.certificate.singular]
        names = ", ".join(f"({' + '.join(term.names)} | {term.group})" for term in bars)
        notes.append(f"Singular: {names}.")
    if design.dropped.total:
        where = ", ".join(f"{name}: {n}" for name, n in design.dropped.by_column)
        notes.append(f"Rows dropped for missing values: {design.dropped.total} ({where}).")
    if design.aliased:
        notes.append(
            "Columns dropped because they depend on others: " + ", ".join(design.aliased) + "."
        )
    return tuple(notes)


def _random_table(components: pl.DataFrame) -> Table:
    """As lme4 prints them: an effect's correlations with the earlier ones stand beside it."""
    rows: list[tuple[str, ...]] = []
    correlations: list[str] = []
    for row in components.iter_rows(named=True):
        if row["kind"] not in ("variance", "covariance", "residual"):
            continue
        if row["kind"] == "covariance":
            correlations.append(_decimals(row["sd_cor"]))
            continue
        own = (row["group"], row["term"], _general(row["estimate"]), _general(row["sd_cor"]))
        rows.append((*own, *correlations))
        correlations = []
    width = max(map(len, rows))
    header = ("Group", "Effect", "Variance", "Std. dev.", "Corr.")[:width]
    return Table(
        "Random effects",
        header + ("",) * (width - len(header)),
        tuple(row + ("",) * (width - len(row)) for row in rows),
        2,
    )


def _structure_tables(components: pl.DataFrame) -> tuple[Table, ...]:
    """The parameters of covariance structures, where there are any."""
    plain = pl.col("kind").is_in(["variance", "covariance", "residual", "structure"])
    rows = tuple(
        (row["group"], row["term"], _general(row["estimate"]), _general(row["std_error"]))
        for row in components.filter(~plain).iter_rows(named=True)
    )
    header = ("Group", "Parameter", "Estimate", "Std. error")
    return (Table("Covariance structures", header, rows, 2),) if rows else ()


def _residual_tables(structure: pl.DataFrame) -> tuple[Table, ...]:
    rows = tuple(
        (row["term"], _general(row["estimate"]), _general(row["std_error"]))
        for row in structure.iter_rows(named=True)
    )
    header = ("Parameter", "Estimate", "Std. error")
    return (Table("Residual structure", header, rows, 1),) if rows else ()


def _fixed_table(fixed: pl.DataFrame) -> Table:
    rows = tuple(
        (
            row["term"],
            _general(row["estimate"]),
            "held" if row["std_error"] is None else _general(row["std_error"]),
            _decimals(row["statistic"], 3),
            _p_value(row["p_value"]),
        )
        for row in fixed.iter_rows(named=True)
    )
    return Table("Fixed effects", ("Term", "Estimate", "Std. error", "z", "p"), rows, 1)


def _decimals(value: float | None, digits: int = 2) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _general(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 1e-16" if value < 1e-16 else f"{value:.3g}"
