"""What a fitted design keeps in order to build the same columns from a new frame."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from lmmkit.design.factors import FactorLevels
from lmmkit.design.frames import kind_of, variable
from lmmkit.errors import DataError
from lmmkit.records import FloatArray, IntArray, adopt, record

if TYPE_CHECKING:
    from formulaic import ModelSpec


@record
class Encoding:
    """The fitted state of a design's columns.

    Attributes
    ----------
    specs : dict of str to formulaic.ModelSpec
        The structure and the factor levels of each part, by the part's text.
    states : dict
        What center(), poly(), bs() and the like learned, by expression.
    kinds : dict of str to str
        Whether a column was numbers, text or true/false.
    groups : tuple of GroupLevels or MemberLevels
        One a random term.
    kept : tuple of int
        Positions of the fixed-effects columns that were kept.
    offset : str or None
        The column given as ``offset=``; ``""`` when an array was given.
    """

    specs: dict[str, Any]
    states: dict[str, dict[str, Any]]
    kinds: dict[str, str]
    groups: tuple[FactorLevels, ...]
    kept: tuple[int, ...]
    offset: str | None


class Encoder:
    """Builds the matrices of parts over one set of complete columns, each part once.

    Parameters
    ----------
    columns : mapping of str to polars.Series
    rows : ndarray of int32
        Positions of the rows in the user's frame.
    fitted : Encoding, optional
        The state to build with; without it the state is learned from the columns.
    """

    def __init__(
        self, columns: Mapping[str, pl.Series], rows: IntArray, fitted: Encoding | None = None
    ) -> None:
        from lmmkit.design.materializer import PolarsMaterializer

        self.states = fitted.states if fitted else {}
        self.specs: dict[str, Any] = {}
        self._fitted = fitted
        self._levels: dict[str, Any] = {}
        self._matrices: dict[str, FloatArray] = {}
        self.kinds = {name: kind_of(series.dtype) for name, series in columns.items()}
        data = {name: variable(series) for name, series in columns.items()}
        self._materializer = PolarsMaterializer(data, rows, self.states)

    def matrix(self, text: str) -> FloatArray:
        """The columns of a right-hand side such as ``1 + x``; the same array for the same text."""
        from lmmkit.design.materializer import new_spec
        from lmmkit.design.plan import part

        if text not in self._matrices:
            spec = (
                self._fitted.specs[text]
                if self._fitted
                else new_spec(part(text).terms, self._levels)
            )
            matrix, self.specs[text] = self._materializer.matrix(spec)
            self._matrices[text] = adopt(matrix)
        return self._matrices[text]

    def column(self, text: str, role: str) -> FloatArray:
        """The one column of numbers that ``text`` stands for."""
        matrix = self.matrix(text)
        factors = {factor.expr for term in self.specs[text].formula for factor in term.factors}
        kinds = {self.specs[text].encoder_state[expr][0].value for expr in factors}
        if matrix.shape[1] != 1 or "categorical" in kinds:
            raise DataError(
                f"the {role} {text.strip('{}')!r} gives the columns "
                f"{', '.join(self.names(text)[:20])}; expected one column of numbers; compute it "
                "in the frame first"
            )
        return adopt(matrix[:, 0])

    def names(self, text: str) -> tuple[str, ...]:
        """The names of the columns of a part already built."""
        names = tuple(self.specs[text].column_names)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(
                f"two columns of {text!r} are both named {twice!r}; rename a column of the frame"
            )
        return names


def term_columns(spec: "ModelSpec", kept: Sequence[int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Each term of a part with the positions of its columns among the kept ones."""
    position = {old: new for new, old in enumerate(kept)}
    table, start = [], 0
    for term, _, names in spec.structure:
        columns = range(start, start + len(names))
        start += len(names)
        new = tuple(position[old] for old in columns if old in position)
        if new:
            table.append(("Intercept" if str(term) == "1" else str(term), new))
    return tuple(table)
