"""Blocks ``Z_k'Z_l`` of later stages: stacks (m, q, q), sparse, or values that a layout stores."""

from typing import Any

import numpy as np

from lmmkit.likelihood.sparse import Sparse, diagonal_blocks
from lmmkit.likelihood.supernodal import Layout
from lmmkit.records import FloatArray


def plus(block: Any, change: Sparse, layout: Layout) -> Any:
    """``block + change``."""
    if not isinstance(block, np.ndarray):
        return block + change
    if block.ndim == 1:
        return block + layout.values(change.toarray())
    return block + diagonal_blocks(change, block.shape[1])


def masked(block: Any, rows: FloatArray | None, columns: FloatArray | None, layout: Layout) -> Any:
    """A block with rows and columns multiplied by zeros and ones."""
    if isinstance(block, np.ndarray) and rows is not None:
        if block.ndim == 1:
            return block * layout.values(np.outer(rows, rows))
        kept = rows.reshape(block.shape[:2])
        return block * kept[:, :, None] * kept[:, None, :]
    from scipy.sparse import diags_array

    product = block if rows is None else diags_array(rows) @ block
    product = (product if columns is None else product @ diags_array(columns)).tocsr()
    product.eliminate_zeros()
    return product


def diagonal_of(block: FloatArray, layout: Layout) -> FloatArray:
    """The diagonal of a stack, or of a stored matrix."""
    diagonal: FloatArray = (
        block[layout.diagonal] if block.ndim == 1 else np.einsum("mii->mi", block)
    )
    return diagonal.ravel()
