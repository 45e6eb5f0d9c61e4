"""Which effects of the last stage meet."""

import numpy as np
from scipy.sparse import csr_array

from lmmkit.likelihood.meeting import layout_of
from lmmkit.likelihood.nodes import Node


def test_levels_met_by_very_many() -> None:
    """100 000 pupils of one district, each half with an effect of its own."""
    m, n = 100_000, 600
    pupil, each = np.zeros(m, dtype=np.int32), np.arange(m)
    columns = [(np.array([k], dtype=np.int32),) for k in range(3)]
    levels = [(m,), (1,), (n,)]
    nodes = tuple(Node((k,), columns[k], levels[k]) for k in range(3))
    ones = np.ones(m)
    inside = {
        1: csr_array((ones, (each, pupil)), shape=(m, 1)),
        2: csr_array((ones, (each, (each >= m // 2).astype(np.int32))), shape=(m, n)),
    }
    of = layout_of(nodes, inside, {(2, 2): np.eye(n)}, None)
    assert of.position is not None
    assert of.position[0, 1] >= 0
    assert (of.position >= 0).sum() == n + 2
