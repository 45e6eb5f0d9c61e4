"""The names that an expression needs."""

import pytest

from lmmkit.errors import FormulaError
from lmmkit.formula.expressions import check_expression, read_expression


def test_names_are_columns_or_functions() -> None:
    expression = read_expression("log(x + np.sqrt(z)) * x")
    assert expression.functions == {"log"}
    assert set(expression.columns) == {"np", "x", "z"}


def test_backticked_names_get_an_alias_that_no_column_has() -> None:
    expression = read_expression("center(`my x`) + my_x")
    (alias,) = (name for name, column in expression.columns.items() if column == "my x")
    assert alias in expression.code
    assert expression.columns["my_x"] == "my_x"


def test_comprehension_variables_are_no_columns() -> None:
    assert set(read_expression("bs(x, knots=[k / 2 for k in [1, 2]])").columns) == {"x"}


def test_invalid_python() -> None:
    with pytest.raises(FormulaError, match="not a valid expression"):
        check_expression("log(x")


def test_a_column_may_have_a_functions_name_where_it_is_not_called() -> None:
    check_expression("exp(log)")
    with pytest.raises(FormulaError, match="column 'log' hides the function"):
        check_expression("exp(log) + log(x)")
