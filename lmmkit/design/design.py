"""The design of one model: response, fixed-effects columns, and one record a random term."""

from typing import Any

import attrs
import numpy as np
import polars as pl

from lmmkit.design.relation import LevelCovariance
from lmmkit.formula.terms import ModelFormula
from lmmkit.records import (
    FloatArray,
    IntArray,
    float_array,
    int_array,
    optional_float_array,
    record,
    require,
)
from lmmkit.structures.contract import CovarianceStructure


@record
class RandomTerm:
    """The columns and level codes of one random term.

    Row n has the random part ``Z[n] @ b[codes[n]]``, or, where rows load on several levels
    (multiple membership), ``sum_j loads[n, j] Z[n] @ b[codes[n, j]]``, or, where the effects have
    loads of their own, ``sum_j (loads[n, j] * Z[n]) @ b[codes[n, j]]``. The effects of a level are
    ``b[level] ~ N(0, Psi)``, independent between levels, or with a relation K between the levels
    ``b ~ N(0, K ⊗ Psi)``.

    Attributes
    ----------
    group : str
        Name of the grouping factor, ``"Pig"`` or ``"batch:cask"``.
    names : tuple of str
        Names of the q effects, ``("Intercept", "Time")``.
    Z : ndarray (N, q)
    codes : ndarray (N,) of int32, or (N, r) with loads
        Position of each row's level, or levels, in ``levels``.
    levels : polars.Series (m,)
        Labels of the levels, sorted; for ``a:b`` strings ``"a1:b1"``. With a relation all of its
        levels in its order, also those without rows.
    relation : LevelCovariance or None
        The covariance K between the levels, its levels equal to ``levels``.
    loads : ndarray (N, r) or (N, r, q) or None
        The weight of each membership of each row, of any sign. Zero pads rows with fewer than r
        memberships, the code is then that of another membership of the row. A row that names one
        level twice loads on it with the sum.
    structure : CovarianceStructure or None
        What covariances of b are possible; None is any, unstructured.
    """

    group: str
    names: tuple[str, ...]
    Z: FloatArray = float_array(2)
    codes: IntArray = int_array()
    levels: pl.Series = attrs.field(validator=attrs.validators.instance_of(pl.Series))
    relation: LevelCovariance | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.instance_of(LevelCovariance)),
    )
    loads: FloatArray | None = optional_float_array(default=None)
    structure: CovarianceStructure | None = None

    def __attrs_post_init__(self) -> None:
        n, q = self.Z.shape
        where = f"random term ({' + '.join(self.names)} | {self.group})"
        require(q == len(self.names), f"{where}: {q} columns in Z, {len(self.names)} names")
        require(q > 0, f"{where}: a random term needs at least one column")
        if self.loads is None:
            require(
                self.codes.ndim == 1,
                f"{where}: codes of shape {self.codes.shape}; expected one code a row, or loads "
                "of the same shape",
            )
        else:
            require(
                self.codes.ndim == 2
                and self.loads.shape in (self.codes.shape, (*self.codes.shape, q))
                and self.loads.size > 0,
                f"{where}: loads of shape {self.loads.shape}, codes of shape {self.codes.shape}; "
                "expected (rows, memberships) twice",
            )
        require(len(self.codes) == n, f"{where}: Z has {n} rows, codes has {len(self.codes)}")
        if n:
            low, high = int(self.codes.min()), int(self.codes.max())
            require(
                low >= 0 and high < len(self.levels),
                f"{where}: codes run from {low} to {high}, but there are {len(self.levels)} levels",
            )
        require(
            self.relation is None or self.relation.levels.equals(self.levels),
            f"{where}: the relation's levels are not the term's levels in the same order; give "
            "the relation to build_design as relations={group: ...}, which matches them",
        )

    @property
    def q(self) -> int:
        """Number of effects a level."""
        return len(self.names)


@record
class DroppedRows:
    """Rows left out because of missing values: how many, and in which columns they were missing.

    A row with two missing columns counts once in ``total`` and in both columns' counts.
    """

    total: int = 0
    by_column: tuple[tuple[str, int], ...] = ()


@record
class Design:
    """Everything the model needs of the data, rows in the order of the frame.

    ``y = offset + X beta + sum_k Z_k b_k[code_k] + eps``, ``eps ~ N(0, sigma2 / weights)``;
    terms with loads or a relation as in :class:`RandomTerm`.

    Attributes
    ----------
    y : ndarray (..., N)
        The response; leading axes hold several responses on one design.
    X : ndarray (N, p)
        Of full column rank; may have p = 0.
    x_names : tuple of str
        ``Intercept``, then formulaic's names.
    terms : tuple of RandomTerm
    rows : ndarray (N,) of int32
        Positions of the rows in the frame.
    weights : ndarray (N,) or None
        Prior weights: the residual variance of a row is ``sigma2 / weight``.
    offset : ndarray (N,) or None
    response : str
    dropped : DroppedRows
    aliased : tuple of str
        Names of the fixed-effects columns dropped because they depend on earlier ones.
    x_terms : tuple of (str, tuple of int)
        Each fixed-effects term of the formula with the positions of its columns in X.
    formula : ModelFormula or None
        None when built from arrays.
    encoding : object or None
        What rebuilds the same columns from a new frame; private to :mod:`lmmkit.design`.
    coordinates : polars.DataFrame or None
        Columns that a residual structure needs, rows as above.
    """

    y: FloatArray = float_array()
    X: FloatArray = float_array(2)
    x_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    rows: IntArray = int_array(1)
    weights: FloatArray | None = optional_float_array(1, default=None)
    offset: FloatArray | None = optional_float_array(1, default=None)
    response: str = "y"
    dropped: DroppedRows = DroppedRows()
    aliased: tuple[str, ...] = ()
    x_terms: tuple[tuple[str, tuple[int, ...]], ...] = ()
    formula: ModelFormula | None = None
    encoding: Any = attrs.field(default=None, repr=False, eq=False)
    coordinates: pl.DataFrame | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        n, p = self.X.shape
        require(self.y.ndim >= 1, "Design.y: expected one response value a row, got a scalar")
        require(self.y.shape[-1] == n, f"Design: y has {self.y.shape[-1]} rows, X has {n}")
        require(p == len(self.x_names), f"Design: X has {p} columns, x_names {len(self.x_names)}")
        require(len(self.rows) == n, f"Design: X has {n} rows, rows has {len(self.rows)}")
        for term in self.terms:
            require(
                len(term.Z) == n,
                f"Design: X has {n} rows, the Z of the term on {term.group!r} has {len(term.Z)}",
            )
        for name in ("weights", "offset"):
            value = getattr(self, name)
            require(
                value is None or len(value) == n,
                f"Design: X has {n} rows, {name} has {len(value) if value is not None else 0}",
            )
        require(
            self.weights is None or bool((self.weights > 0).all()),
            "Design.weights: expected positive numbers; drop the rows whose weight is zero",
        )

    @property
    def n_obs(self) -> int:
        """Number of rows N."""
        return int(np.shape(self.X)[0])
