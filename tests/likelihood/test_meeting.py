"""Which effects of the last stage meet."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lmmkit.likelihood import meeting
from lmmkit.likelihood.nodes import Node
from lmmkit.likelihood.supernodal import Layout, dense_layout


def test_levels_met_by_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 000 pupils of one district, each half with an effect of its own."""
    found: list[NDArray[np.bool_]] = []

    def layout(met: NDArray[np.bool_]) -> Layout:
        found.append(met)
        return dense_layout(len(met))

    monkeypatch.setattr(meeting, "layout", layout)
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
    meeting.layout_of(nodes, inside, {(2, 2): np.eye(n)}, None)
    expected = np.eye(n, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    assert_array_equal(found[0], expected)
