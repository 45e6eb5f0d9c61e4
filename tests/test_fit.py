"""The pipeline's composition, and what must not change a fit: units, order, names."""

from typing import Any

import numpy as np
import polars as pl
import pytest

import lmmkit
from lmmkit import Fit, fit, fit_design
from lmmkit.design import build_design, build_design_from_arrays, group
from lmmkit.formula import parse_formula
from lmmkit.likelihood import ml, reml
from lmmkit.moments import cross_products
from lmmkit.optimize import default_strategy, em, maximize
from lmmkit.records import FloatArray
from tests.helpers import reference_case, reference_frame

SLEEP = "Reaction ~ Days + (Days | Subject)"
CASES = ("sleep_rs", "dietox_rs_ml", "orthodont", "ergostool", "sleep_dbl", "dyestuff2_singular")
BOTH = pytest.mark.parametrize("restricted", [True, False], ids=["reml", "ml"])


def sleep() -> pl.DataFrame:
    return reference_frame("sleepstudy", ["Subject"])


def beta_of(result: Fit) -> FloatArray:
    assert result.natural.beta is not None
    return result.natural.beta


def check_same(
    a: Fit,
    b: Fit,
    *,
    y: float = 1.0,
    sigma2: float = 1.0,
    rel: float = 1e-6,
) -> None:
    """``b``'s estimates are ``a``'s times powers of ``y``, and sigma2 besides by ``sigma2``."""
    assert a.certificate.converged
    assert b.certificate.converged
    assert a.certificate.singular == b.certificate.singular
    np.testing.assert_allclose(beta_of(b), y * beta_of(a), rtol=rel)
    assert b.natural.sigma2 == pytest.approx(y**2 * sigma2 * float(a.natural.sigma2), rel=rel)
    for one, other in zip(a.natural.psi, b.natural.psi, strict=True):
        np.testing.assert_allclose(other, y**2 * one, rtol=rel, atol=rel * y**2 * np.abs(one).max())


@BOTH
def test_fit_is_the_composition_of_the_public_functions(restricted: bool) -> None:
    design = build_design(parse_formula(SLEEP), sleep())
    objective = (reml if restricted else ml)(cross_products(group(design)))
    optimum = maximize(objective, default_strategy())
    whole = fit(SLEEP, sleep(), reml=restricted)
    assert whole == Fit(design, objective, optimum)
    assert whole == fit_design(design, reml=restricted)
    assert whole == fit(parse_formula(SLEEP), sleep(), reml=restricted)
    assert whole.reml is restricted


def test_the_three_parameterizations_of_a_fit_agree() -> None:
    result = fit(SLEEP, sleep())
    values = [
        result.objective.loglik(params)
        for params in (result.natural, result.profile, result.square_root)
    ]
    assert values == pytest.approx([result.loglik] * 3, rel=1e-13)
    factor = result.square_root.factor[0]
    psi_rel = result.natural.psi[0] / float(result.natural.sigma2)
    np.testing.assert_allclose(factor @ factor.T, psi_rel, rtol=1e-12)
    np.testing.assert_allclose(result.profile.psi_rel[0], psi_rel, rtol=1e-12)


def test_covariances_are_exactly_symmetric() -> None:
    for case_id in ("dietox_rs", "sleep_rs_ml", "sleep_quad", "machines_vec"):
        case = reference_case(case_id)
        for psi in fit(case.formula, case.frame(), reml=case.reml).natural.psi:
            np.testing.assert_array_equal(psi, psi.T)


def test_a_fit_from_arrays_is_the_fit_from_a_formula() -> None:
    frame = sleep()
    days = frame["Days"].to_numpy().astype(float)
    X = np.column_stack([np.ones(len(days)), days])
    design = build_design_from_arrays(
        frame["Reaction"].to_numpy(), X, [("Subject", X, frame["Subject"].to_numpy())]
    )
    check_same(fit(SLEEP, frame), fit_design(design), rel=1e-12)


def test_the_progress_of_a_fit_is_its_trace() -> None:
    seen: list[tuple[int, float]] = []
    result = fit(SLEEP, sleep(), progress=lambda i, report: seen.append((i, report.loglik)))
    assert seen == list(zip(result.trace["iteration"], result.trace["loglik"], strict=True))
    assert result.trace.columns == ["iteration", "step", "loglik", "score_norm", "step_length"]


def test_a_strategy_is_used() -> None:
    trace = fit(SLEEP, sleep(), strategy=em(2)).trace
    assert trace["step"].to_list() == ["em", "em"]
    assert fit(SLEEP, sleep()).trace["step"].to_list() != trace["step"].to_list()


def test_a_model_without_random_terms_is_least_squares() -> None:
    frame = sleep()
    X = np.column_stack([np.ones(frame.height), frame["Days"].to_numpy()])
    design = build_design_from_arrays(frame["Reaction"].to_numpy(), X, [])
    beta, rss, *_ = np.linalg.lstsq(X, design.y, rcond=None)
    for restricted in (True, False):
        result = fit_design(design, reml=restricted)
        np.testing.assert_allclose(beta_of(result), beta, rtol=1e-11)
        m = frame.height - 2 * restricted
        assert result.natural.sigma2 == pytest.approx(rss.item() / m, rel=1e-11)
        assert result.natural.psi == ()
        assert result.certificate.converged


@pytest.mark.parametrize("c", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("case_id", CASES)
def test_scaling_the_response(case_id: str, c: float) -> None:
    case = reference_case(case_id)
    frame = case.frame()
    name = case.formula.split("~")[0].strip()
    scaled = frame.with_columns(pl.col(name) * c)
    before, after = (fit(case.formula, f, reml=case.reml) for f in (frame, scaled))
    # the optimizer works on standardized cross-products: only their rounding differs
    check_same(before, after, y=c, rel=1e-7)
    p = len(case.names) if case.reml else 0
    shift = (case.n_obs - p) * np.log(c)
    assert after.loglik == pytest.approx(before.loglik - shift, rel=1e-11)


@BOTH
@pytest.mark.parametrize(
    ("shift", "scale"), [(2000.0, 1.0), (-1e6, 1.0), (0.0, 1e6), (0.0, 1e-6), (1e6, 1e3)]
)
def test_shifting_and_scaling_a_covariate(shift: float, scale: float, restricted: bool) -> None:
    frame = sleep()
    moved = frame.with_columns(Days=shift + scale * pl.col("Days"))
    before, after = (fit(SLEEP, f, reml=restricted) for f in (frame, moved))
    # Days = (D - shift) / scale: the line and the random lines are the same ones
    C = np.array([[1.0, shift], [0.0, scale]])
    # digits lost: the intercept is an extrapolation by |shift| / scale, squared in psi
    lost = 1.0 + abs(shift) / scale
    beta = C @ beta_of(after)
    np.testing.assert_allclose(beta, beta_of(before), rtol=1e-8 + 1e-14 * lost)
    psi = C @ after.natural.psi[0] @ C.T
    largest = np.abs(before.natural.psi[0]).max()
    atol = largest * (1e-6 + 1e-14 * lost**2)
    np.testing.assert_allclose(psi, before.natural.psi[0], atol=atol)
    slope = after.natural.psi[0][1, 1] * scale**2
    assert slope == pytest.approx(before.natural.psi[0][1, 1], rel=1e-6)
    assert after.natural.sigma2 == pytest.approx(float(before.natural.sigma2), rel=1e-7)
    jacobian = np.log(scale) if restricted else 0.0
    assert after.loglik == pytest.approx(before.loglik - jacobian, rel=1e-9)


@BOTH
def test_the_order_of_rows_changes_nothing(restricted: bool) -> None:
    frame = sleep().with_columns(w=1.0 + pl.int_range(pl.len()) % 3)
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=4)
    first, second = (fit(SLEEP, f, weights="w", reml=restricted) for f in (frame, mixed))
    # sums in another order
    check_same(first, second, rel=1e-9)
    assert second.loglik == pytest.approx(first.loglik, rel=1e-13)


@pytest.mark.parametrize(
    "relabel",
    [
        pl.col("Subject").cast(pl.Int64),
        pl.col("Subject").cast(pl.Categorical),
        9999 - pl.col("Subject").cast(pl.Int32),
        pl.lit("s ") + pl.col("Subject").str.reverse(),
        pl.date(2000, 1, 1) + pl.duration(days=pl.col("Subject").cast(pl.Int64)),
    ],
    ids=["integers", "categorical", "other order", "other text", "dates"],
)
def test_the_labels_of_levels_change_nothing(relabel: Any) -> None:
    frame = sleep()
    result = fit(SLEEP, frame.with_columns(Subject=relabel))
    check_same(fit(SLEEP, frame), result, rel=1e-9)


@BOTH
@pytest.mark.parametrize("c", [1e-4, 7.0, 1e5])
def test_a_factor_of_all_weights_is_a_factor_of_sigma2(c: float, restricted: bool) -> None:
    frame = sleep().with_columns(w=0.5 + (pl.col("Days") % 4))
    first = fit(SLEEP, frame, weights="w", reml=restricted)
    second = fit(SLEEP, frame.with_columns(pl.col("w") * c), weights="w", reml=restricted)
    check_same(first, second, sigma2=c, rel=1e-7)
    assert second.loglik == pytest.approx(first.loglik, rel=1e-11)


def test_weights_of_one_are_no_weights() -> None:
    first = fit(SLEEP, sleep())
    check_same(first, fit(SLEEP, sleep(), weights=np.ones(180)), rel=1e-9)


def test_an_offset_is_taken_from_the_response() -> None:
    frame = sleep().with_columns(o=pl.col("Days").sin() * 100)
    shifted = frame.with_columns(pl.col("Reaction") + pl.col("o"))
    # the sum and the difference round
    check_same(fit(SLEEP, frame), fit(SLEEP, shifted, offset="o"), rel=1e-8)


def test_a_linear_trend_added_moves_beta_alone() -> None:
    frame = sleep()
    first = fit(SLEEP, frame)
    second = fit(SLEEP, frame.with_columns(pl.col("Reaction") + 5.0 * pl.col("Days") - 40.0))
    np.testing.assert_allclose(beta_of(second) - beta_of(first), [-40.0, 5.0], rtol=1e-8)
    np.testing.assert_allclose(second.natural.psi[0], first.natural.psi[0], rtol=1e-6)
    assert second.loglik == pytest.approx(first.loglik, rel=1e-11)


def test_the_frame_is_not_changed_and_the_fit_not_writable() -> None:
    frame = sleep()
    before = frame.clone()
    result = fit(SLEEP, frame)
    assert frame.equals(before)
    for array in (beta_of(result), *result.natural.psi, result.design.X, result.design.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_missing_values_are_dropped_and_counted() -> None:
    frame = sleep().with_columns(
        Reaction=pl.when(pl.int_range(pl.len()) % 11 == 3).then(None).otherwise("Reaction"),
    )
    result = fit(SLEEP, frame)
    assert result.design.dropped.total == frame["Reaction"].null_count()
    check_same(result, fit(SLEEP, frame.drop_nulls()), rel=1e-12)


def test_top_level_names() -> None:
    assert {"Fit", "fit", "fit_design"} <= set(lmmkit.__all__)
