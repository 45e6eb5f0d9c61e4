"""Random terms whose levels change inside residual groups: crossed with them, or finer.

A row made independent is a combination of the rows of its group, and so loads on the levels of all
of these: ``(L^-1 z b)_i = sum_j (L^-1)_ij z_j b[code_j]``.
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
    """One such term, of one effect a level.

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
        loads = np.zeros(self.codes.shape)
        scaled = root * term.Z[:, 0]
        for block in whitener.blocks:
            g, n, _ = block.coordinates.shape
            each = np.zeros((n, g, n))
            each[np.arange(n), :, np.arange(n)] = scaled[block.rows].reshape(g, n).T
            white = whitener.whiten_block(theta, block, each)[0]
            loads[block.rows, :n] = np.moveaxis(white, 0, -1).reshape(g * n, n)
        Z = adopt(np.ones((len(loads), 1)))
        return evolve(term, Z=Z, codes=self.codes, loads=adopt(loads))


def crossed_terms(
    design: Design, rows: Coordinates, whitener: Whitener | None
) -> tuple[CrossedTerm, ...]:
    """The crossed terms of a sorted design.

    Raises
    ------
    UnsupportedModelError
        For one of several effects, of several memberships, or beside another on its factor.
    """
    inside = rows.codes[1:] == rows.codes[:-1]
    found: list[CrossedTerm] = []
    for k, term in enumerate(design.terms):
        if whitener is None or not _changes(term, inside):
            continue
        same = sum(other.group == term.group for other in design.terms)
        if term.q > 1 or term.loads is not None or same > 1:
            raise UnsupportedModelError(
                f"the residual groups ({rows.group or 'all rows are one'}) have rows of several "
                f"levels of the random effects' factor {term.group!r}; this version fits that "
                f"where there is one effect a level, such as (1 | {term.group}), or with residual "
                f"groups inside its levels, such as group={term.group!r}"
            )
        found.append(CrossedTerm(k, _codes_by_group(term, whitener)))
    return tuple(found)


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
    if largest * len(term.codes) > _MOST_LOADS:
        raise UnsupportedModelError(
            f"a residual group has {largest} rows, each of which would load on the levels of "
            f"{term.group!r} of all the others, {largest * len(term.codes)} loads; name a finer "
            "grouping factor with group="
        )
    codes = np.repeat(term.codes[:, None], largest, axis=1)
    for block in whitener.blocks:
        g, n, _ = block.coordinates.shape
        own = term.codes[block.rows].reshape(g, 1, n)
        codes[block.rows, :n] = np.broadcast_to(own, (g, n, n)).reshape(g * n, n)
    return adopt(codes)
