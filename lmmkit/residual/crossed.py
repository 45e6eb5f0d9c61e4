"""Random terms whose levels change inside residual groups: crossed with them, or finer.

A row made independent is a combination of the rows of its group, and so loads on the levels of all
of these: ``(L^-1 Z b)_i = sum_j (L^-1)_ij z_j' b[code_j]``.
"""

import numpy as np

from lmmkit.design.design import Design, RandomTerm
from lmmkit.errors import UnsupportedModelError
from lmmkit.records import FloatArray, IntArray, adopt, evolve, int_array, record
from lmmkit.residual.contract import Coordinates
from lmmkit.residual.whiten import Whitener

_MOST_LOADS = 50_000_000


@record
class CrossedTerm:
    """One such term.

    Attributes
    ----------
    term : int
        Its position.
    codes : ndarray (N, r) of int32
        The levels of the rows of each sorted row's group; repeated in groups of fewer than r rows.
    """

    term: int
    codes: IntArray = int_array(2)

    def whitened(
        self, term: RandomTerm, whitener: Whitener, theta: FloatArray, root: FloatArray
    ) -> RandomTerm:
        """The term of the rows ``L^-1 diag(root)``."""
        loads = np.zeros((*self.codes.shape, term.q))
        scaled = (root[:, None] * term.Z)[:, None] * _each_load(term)
        r = scaled.shape[1]
        for block in whitener.blocks:
            g, n, _ = block.coordinates.shape
            unit = np.zeros((n, g, n))
            unit[np.arange(n), :, np.arange(n)] = 1.0
            inverse = np.moveaxis(whitener.whiten_block(theta, block, unit)[0], 0, -1)
            own = scaled[block.rows].reshape(g, 1, n, r, term.q)
            each = inverse[..., None, None] * own
            loads[block.rows, : n * r] = each.reshape(g * n, n * r, term.q)
        Z = adopt(np.ones((len(loads), term.q)))
        return evolve(term, Z=Z, codes=self.codes, loads=adopt(loads))


def _each_load(term: RandomTerm) -> FloatArray:
    """The loads (N, r, 1) of each membership."""
    return np.ones((len(term.Z), 1, 1)) if term.loads is None else term.loads[:, :, None]


def crossed_terms(
    design: Design, rows: Coordinates, whitener: Whitener | None
) -> tuple[CrossedTerm, ...]:
    """The crossed terms of a sorted design.

    Raises
    ------
    UnsupportedModelError
        Where rows would load on too many levels.
    """
    inside = rows.codes[1:] == rows.codes[:-1]
    return tuple(
        CrossedTerm(k, _codes_by_group(term, whitener))
        for k, term in enumerate(design.terms)
        if whitener is not None and _changes(term, inside)
    )


def _changes(term: RandomTerm, inside: FloatArray) -> bool:
    parts = [term.codes] if term.loads is None else [term.codes, term.loads]
    for part in parts:
        changed = part[1:] != part[:-1]
        changed = changed if changed.ndim == 1 else changed.any(axis=1)
        if (inside & changed).any():
            return True
    return False


def _codes_by_group(term: RandomTerm, whitener: Whitener) -> IntArray:
    largest = max(block.coordinates.shape[1] for block in whitener.blocks)
    codes = term.codes.reshape(len(term.Z), -1)
    n_loads = largest * codes.size * term.q
    if n_loads > _MOST_LOADS:
        raise UnsupportedModelError(
            f"a residual group has {largest} rows, each of which would load on the levels of "
            f"{term.group!r} of all the others, {n_loads} loads; name a finer grouping factor "
            "with group="
        )
    r = codes.shape[1]
    by_group = np.repeat(codes[:, :1], largest * r, axis=1)
    for block in whitener.blocks:
        g, n, _ = block.coordinates.shape
        own = codes[block.rows].reshape(g, 1, n * r)
        by_group[block.rows, : n * r] = np.broadcast_to(own, (g, n, n * r)).reshape(g * n, n * r)
    return adopt(by_group)
