"""The functions added to formulaic's."""

import numpy as np
import polars as pl
import pytest
from scipy.interpolate import CubicSpline

from lmmkit.design import build_design, design_rows

X = np.linspace(0, 10, 41) ** 1.2
FRAME = pl.DataFrame({"x": X, "y": np.sin(X) + X, "g": np.arange(41) % 5})


@pytest.mark.parametrize("call", ["ns(x, df=4)", "ns(x, knots=[3, 6, 9])"])
def test_natural_splines_span_the_natural_cubic_interpolants(call: str) -> None:
    design = build_design(f"y ~ {call} + (1 | g)", FRAME)
    assert design.x_names[1:] == tuple(f"{call}[{i}]" for i in (1, 2, 3, 4))
    inner = [3, 6, 9] if "knots" in call else np.quantile(X, [0.25, 0.5, 0.75])
    knots = np.concatenate([[X.min()], inner, [X.max()]])
    cardinal = CubicSpline(knots, np.eye(5), bc_type="natural")(X)
    _, residuals, rank, _ = np.linalg.lstsq(design.X, cardinal)
    assert rank == 5
    assert residuals.max() < 1e-20


def test_natural_splines_are_linear_beyond_the_data() -> None:
    design = build_design("y ~ ns(x, df=3) + (1 | g)", FRAME)
    grid = X.max() + np.array([-1e-6, 0.0, 1e-6, 5.0, 10.0])
    columns = design_rows(design, pl.DataFrame({"x": grid}), random=False).X[:, 1:]
    slope = (columns[1] - columns[0]) / 1e-6
    np.testing.assert_allclose((columns[2] - columns[1]) / 1e-6, slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(columns[4] - columns[3], columns[3] - columns[1], rtol=1e-10)
    below = X.min() - np.array([0.0, 5.0, 10.0])
    low = design_rows(design, pl.DataFrame({"x": below}), random=False).X[:, 1:]
    np.testing.assert_allclose(low[2] - low[1], low[1] - low[0], rtol=1e-10, atol=1e-12)


def test_natural_splines_vanish_at_the_lower_boundary_as_in_r() -> None:
    design = build_design("y ~ ns(x, df=3) + (1 | g)", FRAME)
    np.testing.assert_allclose(design.X[0, 1:], 0, atol=1e-14)


@pytest.mark.parametrize(("right", "first"), [("True", "(0, 5]"), ("False", "[0, 5)")])
def test_cut_gives_ordered_intervals(right: str, first: str) -> None:
    frame = pl.DataFrame({"x": [5.0, 1.0, 7.0, 20.0, 2.0, 9.0], "y": range(6), "g": [1, 2] * 3})
    design = build_design(f"y ~ 0 + cut(x, [0, 5, 10, 25], right={right}) + (1 | g)", frame)
    assert design.x_names[0].endswith(f"[{first}]")
    middle = [0, 0, 1, 0, 0, 1] if right == "True" else [1, 0, 1, 0, 0, 1]
    assert design.X[:, 1].tolist() == middle
    assert design.X[:, 2].tolist() == [0, 0, 0, 1, 0, 0]


def test_r_names() -> None:
    design = build_design("y ~ sqrt(x) + abs(x) + factor(g) + (1 | g)", FRAME)
    np.testing.assert_allclose(design.X[:, 1:3], np.column_stack([np.sqrt(X), X]))
    assert design.x_names[3] == "factor(g)[T.1]"
