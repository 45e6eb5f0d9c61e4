"""Figures show what the tables hold."""

import sys

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, datasets, fit, profile, random_effects, residuals
from lmmkit.errors import ArgumentError, MissingExtraError
from lmmkit.plot import plot_profile, plot_random_effects, plot_residuals


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


def test_profiles_are_drawn_one_panel_a_parameter(fitted: Fit) -> None:
    curves = profile(fitted, ["Days", "sigma"])
    figure = plot_profile(curves)
    assert [axes.get_title() for axes in figure.axes] == ["fixed Days", "sigma"]
    drawn = figure.axes[0].lines[0]
    days = curves.filter(term="Days")
    np.testing.assert_array_equal(drawn.get_xdata(), days["value"])
    np.testing.assert_array_equal(drawn.get_ydata(), days["zeta"].abs())


def test_modes_are_drawn_in_order(fitted: Fit) -> None:
    figure = plot_random_effects(fitted)
    modes = random_effects(fitted).filter(term="Days")
    assert [axes.get_title() for axes in figure.axes] == ["Intercept | Subject", "Days | Subject"]
    np.testing.assert_array_equal(
        figure.axes[1].lines[0].get_xdata(), modes["estimate"].sort().to_numpy()
    )


def test_factors_that_are_crossed_have_panels_of_their_own() -> None:
    crossed = fit("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    plates, samples = plot_random_effects(crossed).axes
    titles = ("Intercept | plate", "Intercept | sample")
    assert (plates.get_title(), samples.get_title()) == titles
    assert np.size(plates.lines[0].get_xdata()) == 24
    assert np.size(samples.lines[0].get_xdata()) == 6


def test_residuals_are_drawn_twice(fitted: Fit) -> None:
    table = residuals(fitted, "marginal")
    against, quantiles = plot_residuals(fitted, "marginal").axes
    np.testing.assert_array_equal(against.lines[0].get_ydata(), table["residual"])
    np.testing.assert_array_equal(quantiles.lines[0].get_ydata(), table["residual"].sort())


def test_other_frames_and_fits_without_effects_are_refused(fitted: Fit) -> None:
    with pytest.raises(ArgumentError, match="frame that profile"):
        plot_profile(pl.DataFrame({"value": [1.0]}))
    with pytest.raises(ArgumentError, match="random effects"):
        plot_random_effects(fit("Reaction ~ Days", datasets.load("sleepstudy")))


def test_without_matplotlib_the_extra_is_named(
    fitted: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"lmmkit\[plot\]"):
        plot_residuals(fitted)
