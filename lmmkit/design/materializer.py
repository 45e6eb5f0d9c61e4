"""From formulaic's terms and Polars columns to matrices.

Formulaic loads pandas, so this module is imported when a design is first built.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import polars as pl
from formulaic import ModelSpec, SimpleFormula
from formulaic.materializers.base import FormulaMaterializer
from formulaic.materializers.types import EvaluatedFactor, FactorValues
from formulaic.parser.types import Factor, Term
from formulaic.utils.stateful_transforms import stateful_eval

from lmmkit.design.coding import code_factor
from lmmkit.design.functions import FUNCTIONS
from lmmkit.errors import DataError, FormulaError, LmmkitError
from lmmkit.formula.expressions import read_expression
from lmmkit.records import FloatArray, IntArray

_T = TypeVar("_T")
_override: Callable[[_T], _T] = FormulaMaterializer.override


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

    @_override
    def _init(self) -> None:
        pass

    @_override
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

    @_override
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

    @_override
    def _is_categorical(self, values: Any) -> bool:
        return isinstance(values, pl.Series) or super()._is_categorical(values)

    @_override
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

    @_override
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

    @_override
    def _encode_constant(
        self,
        value: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
    ) -> Any:
        return value

    @_override
    def _encode_numerical(
        self,
        values: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
    ) -> Any:
        return np.asarray(getattr(values, "__wrapped__", values), dtype=np.float64)

    @_override
    def _encode_categorical(
        self,
        values: Any,
        metadata: Any,
        encoder_state: dict[str, Any],
        spec: ModelSpec,
        drop_rows: Sequence[int],
        reduced_rank: bool = False,
    ) -> Any:
        return code_factor(values.__wrapped__, encoder_state, reduced_rank)

    @_override
    def _get_columns_for_term(
        self, factors: list[dict[str, Any]], spec: ModelSpec, scale: float = 1
    ) -> dict[str, Any]:
        if len(factors) == 1 and scale == 1:
            return factors[0]
        arrays = [{name: np.asarray(values) for name, values in f.items()} for f in factors]
        columns: dict[str, Any] = super()._get_columns_for_term(arrays, spec, scale)
        return columns

    @_override
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
