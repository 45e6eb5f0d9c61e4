"""The summary: what a reader must find in it."""

import polars as pl
import pytest

from lmmkit.datasets import load
from lmmkit.fit import fit
from lmmkit.inference import Summary, fixed_effects, summary, variance_components
from tests.helpers import reference_case
from tests.inference.fitted import fitted, simulated
from tests.inference.models import model


def lines(made: Summary) -> list[list[str]]:
    return [line.split() for line in str(made).splitlines()]


def test_what_lme4_prints() -> None:
    """Figures as ``print(summary(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)))``."""
    found = lines(summary(fitted("sleep_rs")))
    assert ["Subject", "Intercept", "612.09", "24.74"] in found
    assert ["Subject", "Days", "35.072", "5.9221", "0.07"] in found
    assert ["Residual", "Residual", "654.94", "25.592"] in found
    assert ["Days", "10.467", "1.5458", "6.771", "1.27e-11"] in found
    assert ["-3.9536", "-0.4634", "0.0231", "0.4634", "5.1793"] in found
    assert ["Observations:", "180;", "groups:", "Subject:", "18"] in found
    assert f"Formula: {reference_case('sleep_rs').formula}" in str(summary(fitted("sleep_rs")))
    assert "fit by REML" in str(summary(fitted("sleep_rs")))
    assert "fit by maximum likelihood" in str(summary(fitted("sleep_rs_ml")))


def test_it_holds_the_tables() -> None:
    result = fitted("machines_vec")
    made = summary(result)
    assert made.fixed.equals(fixed_effects(result))
    assert made.components.equals(variance_components(result))
    correlations = made.components.filter(kind="covariance")["sd_cor"].to_list()
    (row,) = [line for line in lines(made) if line[:2] == ["Worker", "Machine[C]"]]
    assert row[-2:] == [f"{r:.2f}" for r in correlations[1:]]


def test_convergence_and_a_singular_covariance_are_said() -> None:
    result = fitted("dyestuff2_singular")
    text = str(summary(result))
    assert str(result.certificate) in text
    assert "on the boundary" in text


def test_which_of_several_covariances_is_singular() -> None:
    result = model("nested")
    assert result.certificate.singular == (1,)
    assert "Singular: (Intercept | s:g)." in str(summary(result))
    assert "Singular" not in str(summary(model("crossed")))


def test_several_factors_as_lme4_prints_them() -> None:
    """``print(summary(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin)))``."""
    made = summary(fit("diameter ~ 1 + (1 | plate) + (1 | sample)", load("Penicillin")))
    found = lines(made)
    assert ["Observations:", "144;", "groups:", "plate:", "24,", "sample:", "6"] in found
    assert ["plate", "Intercept", "0.71691", "0.8467"] in found
    assert ["sample", "Intercept", "3.7309", "1.9316"] in found
    assert ["Intercept", "22.972", "0.80857", "28.411", "<", "1e-16"] in found
    assert "3.7309" in made._repr_html_()


def test_dropped_rows_and_columns_are_said() -> None:
    frame = simulated(1, 0.8).with_columns(
        double=2 * pl.col("x"), y=pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise("y")
    )
    text = str(summary(fit("y ~ x + double + (1 | g)", frame)))
    assert "Rows dropped for missing values: 3 (y: 3)." in text
    assert "Columns dropped because they depend on others: double." in text


def test_a_held_effect_is_marked() -> None:
    made = summary(fit("y ~ x + (1 | g)", simulated(1, 0.8), fixed={"x": 0.25}))
    assert ["x", "0.25", "held"] in lines(made)


def test_html_is_escaped_and_whole() -> None:
    from xml.etree import ElementTree

    frame = simulated(1, 0.8).rename({"g": "<b>&g"})
    page = summary(fit("y ~ x + (x | `<b>&g`)", frame))._repr_html_()
    root = ElementTree.fromstring(page)
    cells = [cell.text for cell in root.iter("td")]
    assert "<b>&g" in cells
    assert "<b>" not in page
    captions = [caption.text for caption in root.iter("caption")]
    assert captions == ["Fit", "Scaled residuals", "Random effects", "Fixed effects"]


@pytest.mark.parametrize("case_id", ["dietox_rs", "dyestuff2_singular"])
def test_text_and_html_say_the_same(case_id: str) -> None:
    made = summary(fitted(case_id))
    page = made._repr_html_()
    for line in str(made).splitlines():
        for word in line.removesuffix(":").split():
            assert word.replace("<", "&lt;").replace("'", "&#x27;") in page
