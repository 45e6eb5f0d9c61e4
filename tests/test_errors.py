"""Wrong calls: each raises an error of the family, with the words that a user needs.

The tests beside a module have more about its arguments; here are calls of the whole pipeline.
"""

# Values of wrong types are among the wrong calls.
# mypy: disable-error-code="arg-type"

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from lmmkit import Fit, datasets, errors, fit, fit_design
from lmmkit.design import build_design_from_arrays, design_rows
from lmmkit.errors import (
    ArgumentError,
    ColumnNotFoundError,
    DataError,
    FormulaError,
    LmmkitError,
    ParameterError,
    ShapeError,
    StrategyError,
)
from lmmkit.formula import parse_formula
from lmmkit.optimize import (
    armijo,
    best_so_far,
    chain,
    conjugate_gradient,
    em,
    fallback,
    fixed,
    maximize,
    repeat,
    scipy_step,
    steepest_descent,
    strong_wolfe,
    until,
    variance_scoring,
)
from lmmkit.parameters import Layout, NaturalParams, ProfileParams, SquareRootParams
from lmmkit.records import evolve
from tests.helpers import reference_frame

SLEEP = "Reaction ~ Days + (Days | Subject)"
FRAME = reference_frame("sleepstudy", ["Subject"])
ONES = np.ones(10)
COUNT = np.arange(10.0)
PAIR = np.arange(10) // 2


def sleep(**changes: Any) -> pl.DataFrame:
    return FRAME.with_columns(**changes)


def fitted() -> Fit:
    return fit(SLEEP, FRAME)


def start(*factors: Any) -> SquareRootParams:
    return SquareRootParams(tuple(np.asarray(f, dtype=float) for f in factors))


def arrays(**changes: Any) -> Any:
    given: dict[str, Any] = {"y": COUNT**2, "X": ONES, "terms": [("g", ONES, PAIR)]}
    return build_design_from_arrays(**(given | changes))


Call = Callable[[], Any]
FORMULAS: list[tuple[str, type[LmmkitError], str]] = [
    ("", FormulaError, "formula"),
    ("Reaction", FormulaError, "~"),
    ("~ Days + (1 | Subject)", FormulaError, "no response; write one to the left"),
    ("Reaction ~ Days + (Days | Subject", FormulaError, r"\("),
    ("Reaction ~ Days | Subject", FormulaError, "parenthes"),
    ("Reaction ~ Days + (0 | Subject)", FormulaError, r"0 \| Subject"),
    ("Reaction ~ Days + (1 | 1)", FormulaError, "1"),
    ("Reaction ~ Days + (1 | )", FormulaError, "cannot be read"),
    ("Reaction ~ Days + ( | Subject)", FormulaError, "nothing to the left of.*write 1"),
    ("Reaction ~ Days * (1 | Subject)", FormulaError, "Subject"),
    ("Reaction ~ Days - (1 | Subject)", FormulaError, "Subject"),
    ("Reaction ~ (1 | Subject) + (Days | Subject)", FormulaError, "effect '1' of 'Subject'.*keep"),
    ("Reaction ~ Days + (1 | Subject | Days)", FormulaError, "one .* write two terms"),
    ("Reaction ~ Dayz + (1 | Subject)", ColumnNotFoundError, "'Dayz'.*did you mean 'Days'"),
    ("Reacton ~ Days + (1 | Subject)", ColumnNotFoundError, "'Reacton'.*did you mean 'Reaction'"),
    ("Reaction ~ Days + (1 | Subjet)", ColumnNotFoundError, "'Subjet'.*did you mean 'Subject'"),
    ("Reaction ~ Days + (Dayz | Subject)", ColumnNotFoundError, "'Dayz'.*did you mean 'Days'"),
    ("Reaction ~ lag2(Days) + (1 | Subject)", FormulaError, "lag2"),
    ("Subject ~ Days + (1 | Subject)", DataError, "response 'Subject' is String"),
    ("Reaction ~ Days + (1 | Reaction)", DataError, "'Reaction' is Float64"),
]  # fmt: skip
CALLS: dict[str, tuple[Call, type[LmmkitError], str]] = {
    "a formula that is no text": (lambda: fit(None, FRAME), FormulaError, "None"),
    "a formula that is a number": (lambda: parse_formula(3), FormulaError, "as text.*got int"),
    "a frame that is none": (lambda: fit(SLEEP, [1, 2]), DataError, "polars"),
    "the name of a frame": (lambda: fit(SLEEP, "sleepstudy"), DataError, "polars"),
    "formula and frame exchanged": (lambda: fit(FRAME, SLEEP), FormulaError, "DataFrame"),
    "no rows": (lambda: fit(SLEEP, FRAME.clear()), DataError, "no rows"),
    "two rows": (lambda: fit(SLEEP, FRAME.head(2)), DataError, "2 rows|one level"),
    "a constant response": (
        lambda: fit(SLEEP, sleep(Reaction=pl.lit(1.0))), DataError, "'Reaction' is constant",
    ),
    "an infinite response": (
        lambda: fit(SLEEP, sleep(Reaction=pl.col("Reaction") / 0)), DataError, "'Reaction' is inf",
    ),
    "only missing values": (
        lambda: fit(SLEEP, sleep(Days=pl.lit(None, pl.Int64))), DataError, "'Days' .180 of 180",
    ),
    "missing values refused": (
        lambda: fit(SLEEP, sleep(Days=pl.when(pl.col("Days") > 3).then("Days")), missing="raise"),
        DataError, "missing values in 'Days'",
    ),
    "one group": (lambda: fit(SLEEP, sleep(Subject=pl.lit("a"))), DataError, "one level, 'a'"),
    "one row a group": (
        lambda: fit("Reaction ~ Days + (1 | i)", sleep(i=pl.int_range(180))),
        DataError, r"\(Intercept \| i\).*level of its own",
    ),
    "missing=": (lambda: fit(SLEEP, FRAME, missing="keep"), ArgumentError, "'drop' or 'raise'"),
    "missing=None": (lambda: fit(SLEEP, FRAME, missing=None), ArgumentError, "'drop' or 'raise'"),
    "weights' column": (
        lambda: fit(SLEEP, FRAME, weights="Day"), ColumnNotFoundError, "'Day'.*did you mean 'Days'",
    ),
    "a weight of zero": (
        lambda: fit(SLEEP, FRAME, weights="Days"), DataError, "'Days' must be positive; 18",
    ),
    "two weights": (lambda: fit(SLEEP, FRAME, weights=[1, 2]), DataError, "180 in all, got 2"),
    "a weight that is text": (
        lambda: fit(SLEEP, FRAME, weights="Subject"), DataError, "'Subject' is String",
    ),
    "offset's column": (lambda: fit(SLEEP, FRAME, offset="of"), ColumnNotFoundError, "'of'"),
    "a strategy's name": (lambda: fit(SLEEP, FRAME, strategy="em"), StrategyError, "'em'"),
    "a strategy not called": (
        lambda: fit(SLEEP, FRAME, strategy=em), StrategyError, "expected a strategy",
    ),
    "fixed under a wrong name": (
        lambda: fit(SLEEP, FRAME, fixed={"Dayz": 1.0}), ParameterError, "'Dayz'.*Intercept, Days",
    ),
    "a variance below zero": (
        lambda: fit(SLEEP, FRAME, fixed={("Subject", "Days"): -2}), ParameterError, ">= 0, got -2",
    ),
    "several responses": (
        lambda: fit_design(arrays(y=np.arange(20.0).reshape(2, 10) ** 2)),
        DataError, "one response",
    ),
    "max_iterations": (
        lambda: maximize(fitted().objective, max_iterations=0), ArgumentError, "at least 1, got 0",
    ),
    "a start of another size": (
        lambda: maximize(fitted().objective, start=start([[1.0]])), ParameterError, r"\(2,\)",
    ),
    "an empty chain": (lambda: chain(), StrategyError, "chain: expected at least one step"),
    "a chain of factories": (lambda: chain(em, em(3)), StrategyError, "has to be called first"),
    "repeat of none": (lambda: repeat(em(), 0), StrategyError, "times >= 1, got 0"),
    "until without a step": (lambda: until(lambda r: True, None), StrategyError, "until"),
    "fallback of none": (lambda: fallback(em(), None), StrategyError, "fallback.*None"),
    "best_so_far of none": (lambda: best_so_far("em"), StrategyError, "best_so_far.*'em'"),
    "scipy's method": (lambda: scipy_step("Powell"), StrategyError, "BFGS.*'Powell'"),
    "a correlation beyond 1": (
        lambda: NaturalParams(([[1.0, 2.0], [2.0, 1.0]],), 1.0), ParameterError, "semidefinite",
    ),
    "an asymmetric covariance": (
        lambda: NaturalParams(([[1.0, 0.2], [0.0, 1.0]],), 1.0), ParameterError, "symmetric",
    ),
    "a sigma2 of zero": (lambda: NaturalParams((), 0.0), ParameterError, "positive.*got 0"),
    "a covariance that is text": (lambda: NaturalParams((["a"],), 1.0), ShapeError, "float64"),
    "a vector as covariance": (lambda: ProfileParams(([1.0, 2.0],)), ParameterError, r"\(2,\)"),
    "a factor above the diagonal": (
        lambda: start([[1.0, 2.0], [0.0, 1.0]]), ParameterError, "lower triangular",
    ),
    "a factor below zero": (lambda: start([[-1.0]]), ParameterError, "diagonal >= 0"),
    "a vector in place of a record": (
        lambda: fitted().objective.loglik(np.ones(6)), ParameterError, "expected NaturalParams",
    ),
    "beta of another length": (
        lambda: fitted().objective.score(evolve(fitted().natural, beta=[1.0])),
        ParameterError, "2 fixed effects, got 1",
    ),
    "X of another length": (lambda: arrays(X=np.ones(9)), ShapeError, r"X: expected.*\(9, 1\)|10"),
    "Z of another length": (
        lambda: arrays(terms=[("g", np.ones(9), PAIR)]), ShapeError, "'g': Z.*10",
    ),
    "labels of another length": (
        lambda: arrays(terms=[("g", ONES, PAIR[:9])]), ShapeError, "10 labels.*9",
    ),
    "a term that is no tuple": (lambda: arrays(terms=["g"]), ShapeError, "RandomTerm"),
    "one name too many": (lambda: arrays(x_names=["a", "b"]), ShapeError, "1 names.*2"),
    "not a number in y": (lambda: arrays(y=COUNT / 0 * 0), DataError, "y: 10 values are missing"),
    "prediction lacks a column": (
        lambda: design_rows(fitted().design, FRAME.drop("Days")), ColumnNotFoundError, "'Days'",
    ),
    "prediction with another kind": (
        lambda: design_rows(fitted().design, sleep(Days=pl.lit("x"))), DataError, "'Days'.*String",
    ),
    "rows for a design from arrays": (
        lambda: design_rows(arrays(), FRAME), ArgumentError, "built from arrays",
    ),
    "a table's name": (lambda: datasets.load("sleepstdy"), DataError, "'sleepstdy'.*'sleepstudy'"),
    "no table's name": (lambda: datasets.load(None), ArgumentError, "bundled table, got None"),
    "reml=": (lambda: fit(SLEEP, FRAME, reml="ML"), ArgumentError, "reml.*'ML'"),
    "a fit of no design": (lambda: fit_design(FRAME), ArgumentError, "Design.*DataFrame"),
    "until without a rule": (lambda: until(0.1, em()), StrategyError, "until.*rule"),
    "em of no iterations": (lambda: em(0), StrategyError, "em.*0"),
    "em of a fraction": (lambda: em(2.5), StrategyError, "em.*2.5"),
    "descent of no iterations": (lambda: steepest_descent(-1), StrategyError, "steepest.*-1"),
    "a metric's name": (
        lambda: steepest_descent(metric="fisher"), StrategyError, "metric.*'fisher'",
    ),
    "a line search's name": (
        lambda: steepest_descent(line_search="armijo"), StrategyError, "line_search.*'armijo'",
    ),
    "a step length of zero": (lambda: fixed(0.0), StrategyError, "fixed.*0"),
    "armijo that never shrinks": (lambda: armijo(shrink=1.0), StrategyError, "shrink.*1"),
    "wolfe's constants": (lambda: strong_wolfe(0.9, 0.1), StrategyError, "0.9.*0.1"),
    "a start beyond floats": (
        lambda: maximize(fitted().objective, start=start(np.eye(2) * 1e200)), LmmkitError, "start",
    ),
    "max_iterations of a fraction": (
        lambda: maximize(fitted().objective, max_iterations=2.5), ArgumentError, "2.5",
    ),
    "maximize of a design": (
        lambda: maximize(fitted().design), ArgumentError, "Objective.*Design",
    ),
    "repeat of a fraction": (lambda: repeat(em(), 2.5), StrategyError, "2.5"),
    "scoring of no iterations": (lambda: variance_scoring(0), StrategyError, "scoring.*got 0"),
    "descent of True iterations": (lambda: steepest_descent(True), StrategyError, "got True"),
    "a metric called": (
        lambda: conjugate_gradient(metric=np.eye(2)), StrategyError, "conjugate_gradient: metric",
    ),
    "a line search not called": (
        lambda: steepest_descent(line_search=armijo), StrategyError, "line_search.*called first",
    ),
    "a beta formula's name": (
        lambda: conjugate_gradient(beta="dai_yuan"), StrategyError, "beta.*'dai_yuan'",
    ),
    "a negative step length": (lambda: fixed(-1), StrategyError, "fixed.*-1"),
    "an infinite step length": (lambda: fixed(np.inf), StrategyError, "fixed.*inf"),
    "a step length that is no number": (lambda: fixed(np.nan), StrategyError, "fixed.*nan"),
    "armijo's slope": (lambda: armijo(slope=0.0), StrategyError, "slope.*0"),
    "armijo's slope as text": (lambda: armijo(slope="steep"), StrategyError, "slope.*'steep'"),
    "wolfe's flatness": (lambda: strong_wolfe(flat=1.5), StrategyError, "flat.*1.5"),
    "repeat of text": (lambda: repeat(em(), "2"), StrategyError, "got '2'"),
    "max_iterations as text": (
        lambda: maximize(fitted().objective, max_iterations="3"), ArgumentError, "got '3'",
    ),
    "progress that is no function": (
        lambda: fit(SLEEP, FRAME, progress="x"), ArgumentError, "progress.*got 'x'",
    ),
    "a start in another parameterization": (
        lambda: maximize(fitted().objective, start=fitted().natural),
        ArgumentError, "start.*SquareRootParams, got NaturalParams",
    ),
    "scipy's option": (
        lambda: fit(SLEEP, FRAME, strategy=scipy_step("BFGS", tolerance=1.0)),
        StrategyError, "tolerance",
    ),
    "a sigma2 of text": (lambda: NaturalParams((), "a"), LmmkitError, "sigma2"),
    "a vector of another length": (
        lambda: NaturalParams.unpack(np.ones(3), Layout(2, (2,))), ParameterError, "6.*3",
    ),
    "a list as a table's name": (lambda: datasets.load(["Rail"]), ArgumentError, "bundled table"),
    "covariances that are a number": (
        lambda: NaturalParams(3.0, 1.0), LmmkitError, "psi.*one matrix a term|tuple",
    ),
    "a short factor vector": (
        lambda: SquareRootParams.unpack(np.ones(2), Layout(None, (2,))), ParameterError, "3.*2",
    ),
    "sigma2 that is missing": (lambda: NaturalParams((), None), ParameterError, "sigma2.*None"),
    "a list of another length": (
        lambda: ProfileParams.unpack([1.0, 2.0], Layout(1, (2,))), ParameterError, r"4 numbers.*2",
    ),
    "a vector of text": (
        lambda: ProfileParams.unpack(["a"], Layout(1, ())), ParameterError, "1 numbers.*'a'",
    ),
    "a scalar for a vector": (
        lambda: NaturalParams.unpack(3.0, Layout(0, ())), ParameterError, r"1 numbers.*\(\)",
    ),
    "no terms": (lambda: arrays(terms=None), ShapeError, "terms"),
    "fixed that is no mapping": (
        lambda: fit(SLEEP, FRAME, fixed=["Days"]), ParameterError, "mapping",
    ),
    "a covariance's text": (
        lambda: fit(SLEEP, FRAME, fixed={("Subject",): "abc"}),
        ParameterError, "covariance matrix",
    ),
    "an empty key": (
        lambda: fit(SLEEP, FRAME, fixed={(): 1.0}), ParameterError, r"\(group, effect",
    ),
    "one entry twice": (
        lambda: fit(
            SLEEP,
            FRAME,
            fixed={("Subject", "Days", "Intercept"): 1.0, ("Subject", "Intercept", "Days"): 2.0},
        ),
        ParameterError, "twice|contradict",
    ),
    "a matrix and an entry of it": (
        lambda: fit(
            SLEEP, FRAME, fixed={("Subject",): np.eye(2), ("Subject", "Days"): 2.0}
        ),
        ParameterError, r"\('Subject',\) and \('Subject', 'Days'\).*1.0 and 2.0",
    ),
    "a covariance's mapping": (
        lambda: fit(SLEEP, FRAME, fixed={("Subject",): {}}), ParameterError, "covariance matrix",
    ),
    "fixed that is text": (lambda: fit(SLEEP, FRAME, fixed="Days"), ParameterError, "got str"),
    "a fixed effect's text": (
        lambda: fit(SLEEP, FRAME, fixed={"Days": "7"}), ParameterError, "finite number, got '7'",
    ),
    "a fixed effect's vector": (
        lambda: fit(SLEEP, FRAME, fixed={"Days": np.ones(1)}), ParameterError, "finite number",
    ),
    "a fixed effect beyond floats": (
        lambda: fit(SLEEP, FRAME, fixed={"Days": 1e300}), ParameterError, "'Days'.*1e.?300",
    ),
    "a covariance beyond floats": (
        lambda: fit(SLEEP, FRAME, fixed={("Subject",): 1e300 * np.eye(2)}),
        ParameterError, "'Subject'.*1e.?300",
    ),
    "a sigma2 beyond floats": (
        lambda: fit(SLEEP, FRAME, fixed={"sigma2": 1e300}), ParameterError, "sigma2.*1e.?300",
    ),
    "a sigma2 below floats": (
        lambda: fit(SLEEP, FRAME, fixed={"sigma2": 1e-300}), ParameterError, "sigma2.*1e-300",
    ),
    "a variance beyond floats": (
        lambda: fit(SLEEP, FRAME, fixed={("Subject", "Days"): 1e300}), LmmkitError, "1e.?300",
    ),
    "an exact fit": (
        lambda: fit(SLEEP, sleep(Reaction=2.0 * pl.col("Days") + 1)), DataError, "Reaction|exact",
    ),
    "a random slope that is constant": (
        lambda: fit("Reaction ~ 1 + (z | Subject)", sleep(z=pl.lit(3.0))), DataError, "'?z'?",
    ),
    "a random slope of zeros": (
        lambda: fit("Reaction ~ 1 + (z | Subject)", sleep(z=pl.lit(0.0))), DataError, "'?z'?",
    ),
}  # fmt: skip
# Wrong calls that are not refused yet, or by another class: enrol each above as it is mended.


@pytest.mark.parametrize(("formula", "kind", "words"), FORMULAS)
def test_wrong_formulas(formula: str, kind: type[LmmkitError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        fit(formula, FRAME)
    check_message(caught.value)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered")
def test_wrong_calls(name: str) -> None:
    call, kind, words = CALLS[name]
    with pytest.raises(kind, match=f"(?s){words}") as caught:
        call()
    check_message(caught.value)


def test_one_entry_held_twice_at_one_value_is_held_once() -> None:
    once = fit(SLEEP, FRAME, fixed={("Subject", "Days", "Intercept"): 1.0})
    both = ("Subject", "Intercept", "Days"), ("Subject", "Days", "Intercept")
    assert fit(SLEEP, FRAME, fixed=dict.fromkeys(both, 1)).natural == once.natural


def test_a_list_is_a_vector_too() -> None:
    expected = ProfileParams((np.eye(2),), np.array([3.0]))
    assert ProfileParams.unpack([3, 1, 0, 1], Layout(1, (2,))) == expected


def check_message(error: BaseException) -> None:
    """A sentence of its own, not a repetition of another library's traceback."""
    text = str(error)
    assert len(text) > 25
    assert "\x1b" not in text
    assert "Traceback" not in text


def test_every_error_is_of_the_family_and_of_python_s_kind() -> None:
    family = [e for e in vars(errors).values() if isinstance(e, type) and e is not LmmkitError]
    assert len(family) >= 9
    for kind in family:
        assert issubclass(kind, LmmkitError)
        assert issubclass(
            kind, ValueError | NotImplementedError | ImportError | MemoryError | AssertionError
        )
        assert kind.__doc__
