"""From formulaic's terms and Polars columns to matrices.

Formulaic loads pandas, so this module is imported when a design is first built.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from formulaic import ModelSpec, SimpleFormula
from formulaic.materializers.base import FormulaMaterializer
from formulaic.materializers.types import EvaluatedFactor, FactorValues
from formulaic.parser.types import Factor, Term
from formulaic.transforms.contrasts import Contrasts, CustomContrasts, TreatmentContrasts
from formulaic.utils.stateful_transforms import stateful_eval
from interface_meta import override
from numpy.typing import NDArray

from lmmkit.design.functions import FUNCTIONS, Coded
from lmmkit.design.groups import levels_and_codes, match_levels
from lmmkit.errors import DataError, FormulaError, LmmkitError
from lmmkit.formula.expressions import read_expression
from lmmkit.records import FloatArray, IntArray


class _LevelColumn:
    """One column of a coded factor, computed when it is written into the matrix."""

    def __init__(self, weights: FloatArray, codes: NDArray[np.int32]) -> None:
        self.weights, self.codes = weights, codes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.weights[self.codes]


class PolarsMaterializer(FormulaMaterializer):
    """Formulaic's materializer over float64 arrays and Polars factors without missing values.

    Parameters
    ----------
    data : mapping of str to ndarray or polars.Series
    rows : ndarray of int32
        Positions of the rows in the user's frame, for messages.
    states : dict
        What center(), poly(), bs() and the like learned, by expression; filled while fitting.
    """

    REGISTER_NAME = "lmmkit"
    REGISTER_INPUTS: Sequence[str] = ()
    REGISTER_OUTPUTS: Sequence[str] = ("numpy",)

    def __init__(
        self, data: Mapping[str, Any], rows: IntArray, states: dict[str, dict[str, Any]]
    ) -> None:
        self.rows, self.states = rows, states
        super().__init__(data)

    @override
    def _init(self) -> None:
        pass

    @override
    @classmethod
    def SUPPORTS_INPUT(cls, data: Any) -> bool:
        """Formulaic never picks this class for other users' data."""
        return False

    def matrix(self, spec: ModelSpec) -> tuple[FloatArray, ModelSpec]:
        """The columns of ``spec``, and the spec with what is needed to rebuild them."""
        for term in spec.formula:
            for factor in term.factors:
                self._evaluate_factor(factor, spec, set())
        built = self._build_model_matrix(spec, drop_rows=())
        return built.__wrapped__, built.model_spec

    @override
    def _evaluate(self, expr: str, metadata: Any, spec: ModelSpec) -> tuple[Any, set[Any]]:
        expression = read_expression(expr)
        columns = {
            name: self.data[column]
            for name, column in expression.columns.items()
            if column in self.data
        }
        state = self.states.setdefault(expr, {})
        with np.errstate(all="ignore"):
            value = stateful_eval(
                expression.code,
                {**FUNCTIONS, **columns, **_called(expression.functions)},
                {expr: metadata},
                state,
                spec,
            )
        return self._checked(expr, value), set()

    def _checked(self, expr: str, value: Any) -> Any:
        """``value`` as float64 or a Polars factor; FactorValues and their dicts as they are."""
        if isinstance(value, FactorValues):
            return value
        if isinstance(value, pl.Series) and value.dtype.is_numeric():
            value = value.cast(pl.Float64).to_numpy()
        elif isinstance(value, np.ndarray):
            is_number = value.dtype.kind in "iuf"
            value = value.astype(np.float64, copy=False) if is_number else pl.Series(value)
        if not isinstance(value, np.ndarray | pl.Series) or len(value) != len(self.rows):
            raise DataError(f"{expr} does not give one value a row")
        return value

    @override
    def _is_categorical(self, values: Any) -> bool:
        return isinstance(values, pl.Series) or super()._is_categorical(values)

    @override
    def _evaluate_factor(self, factor: Factor, spec: ModelSpec, drop_rows: set[int]) -> Any:
        try:
            return super()._evaluate_factor(factor, spec, drop_rows)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, LmmkitError):
                raise cause from None
            raise FormulaError(
                f"{factor.expr!r} could not be computed: {cause}"
                + (_SPLINE_HELP if "beyond upper and/or lower bounds" in str(cause) else "")
            ) from error

    @override
    def _encode_evaled_factor(
        self,
        factor: EvaluatedFactor,
        spec: ModelSpec,
        drop_rows: Sequence[int],
        reduced_rank: bool = False,
    ) -> dict[str, Any]:
        try:
            columns: dict[str, Any] = super()._encode_evaled_factor(
                factor, spec, drop_rows, reduced_rank
            )
        except DataError as error:
            raise DataError(f"{factor.expr}: {error}") from error
        if factor.factor.eval_method is Factor.EvalMethod.PYTHON:
            for name, values in columns.items():
                if isinstance(values, np.ndarray):
                    self._check_finite(name, values)
        return columns

    def _check_finite(self, name: str, values: FloatArray) -> None:
        if np.isfinite(values.sum()):
            return
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise DataError(
                f"{name} is {values[wrong[0]]} in {wrong.size} rows without missing values, first "
                f"in row {self.rows[wrong[0]]}; change the expression, or leave these rows out"
            )

    @override
    def _encode_constant(
        self,
        value: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
    ) -> Any:
        return value

    @override
    def _encode_numerical(
        self,
        values: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
    ) -> Any:
        return np.asarray(getattr(values, "__wrapped__", values), dtype=np.float64)

    @override
    def _encode_categorical(
        self,
        values: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
        reduced_rank: bool = False,
    ) -> Any:
        wanted = values.__wrapped__
        if not isinstance(wanted, Coded):
            wanted = Coded(wanted, None, None)
        series = _as_factor(wanted.values)
        levels = encoder_state.get("levels")
        if levels is None and wanted.levels is None:
            levels, codes = levels_and_codes(series)
        else:
            if levels is None:
                levels = pl.Series(wanted.levels)
            codes = match_levels(series, levels)
            if codes.min() < 0:
                unknown = series.filter(pl.Series(codes < 0)).unique().sort()
                raise DataError(
                    f"the level {unknown[0]!r} is not one of the known levels "
                    f"{', '.join(map(repr, levels[:20]))}; drop its rows, or fit with it"
                )
        encoder_state["levels"] = levels
        if reduced_rank and len(levels) < 2:
            raise DataError(
                f"a factor needs at least two levels, this one has only {levels[0]!r}; "
                "leave it out of the formula"
            )
        contrasts = _contrasts(wanted.contrasts)
        labels = levels.to_list()
        try:
            coding = np.asarray(contrasts.get_coding_matrix(labels, reduced_rank), dtype=float)
        except ValueError as error:
            raise DataError(
                f"the contrasts do not fit the levels {labels[:20]}: {error}"
            ) from error
        names = contrasts.get_coding_column_names(labels, reduced_rank)
        columns = {
            name: _LevelColumn(np.ascontiguousarray(column), codes)
            for name, column in zip(names, coding.T, strict=True)
        }
        return FactorValues(
            columns,
            kind="categorical",
            spans_intercept=False,
            format=contrasts.get_factor_format(labels, reduced_rank),
            encoded=True,
        )

    @override
    def _get_columns_for_term(
        self, factors: list[dict[str, Any]], spec: ModelSpec, scale: float = 1
    ) -> dict[str, Any]:
        if len(factors) == 1 and scale == 1:
            return factors[0]
        arrays = [{name: np.asarray(values) for name, values in f.items()} for f in factors]
        columns: dict[str, Any] = super()._get_columns_for_term(arrays, spec, scale)
        return columns

    @override
    def _combine_columns(
        self, cols: Sequence[tuple[str, Any]], spec: ModelSpec, drop_rows: Sequence[int]
    ) -> FloatArray:
        matrix = np.empty((len(self.rows), len(cols)))
        for position, (_, values) in enumerate(cols):
            matrix[:, position] = values
        return matrix


_SPLINE_HELP = "; pass extrapolation='extend' to bs() to continue the curve beyond the data"


def new_spec(terms: Sequence[Term], levels: dict[str, Any]) -> ModelSpec:
    """A specification that keeps what it learns about factors in ``levels``."""
    return ModelSpec(
        formula=SimpleFormula(terms),
        materializer="lmmkit",
        output="numpy",
        na_action="ignore",
        encoder_state=levels,
    )


def _called(names: frozenset[str]) -> dict[str, Any]:
    return {name: FUNCTIONS[name] for name in names}


def _as_factor(values: Any) -> pl.Series:
    if isinstance(values, FactorValues):
        values = values.__wrapped__
    if isinstance(values, pl.Series):
        return values
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise DataError("C() takes one column")
    if not (np.abs(values) < 2**53).all() or (values != np.floor(values)).any():
        raise DataError(
            "a factor of numbers must hold whole numbers below 2**53; "
            "cast the column to text, or use cut() to make intervals"
        )
    return pl.Series(values.astype(np.int64))


def _contrasts(wanted: Any) -> Contrasts:
    if wanted is None:
        return TreatmentContrasts()
    if inspect.isclass(wanted) and issubclass(wanted, Contrasts):
        return wanted()
    return wanted if isinstance(wanted, Contrasts) else CustomContrasts(wanted)
