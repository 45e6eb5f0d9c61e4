"""The hypothesis strategies give what they say, and need hypothesis."""

import builtins
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from lmmkit import GroupBlock, NaturalParams
from lmmkit.errors import MissingExtraError
from lmmkit.records import FloatArray
from lmmkit.testing import strategies


@settings(max_examples=30)
@given(matrix=strategies.covariances(3))
def test_covariances_are_semidefinite(matrix: FloatArray) -> None:
    assert NaturalParams((matrix,), 1.0).psi[0].shape == (3, 3)
    assert np.array_equal(matrix, matrix.T)


@settings(max_examples=15)
@given(blocks=strategies.blocks(max_q=2))
def test_blocks_hold_a_designs_rows_once(blocks: tuple[GroupBlock, ...]) -> None:
    rows = np.concatenate([block.rows.ravel() for block in blocks])
    assert sorted(rows.tolist()) == list(range(len(rows)))


def test_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("hypothesis"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "lmmkit.testing.strategies")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match="extra 'test'"):
        __import__("lmmkit.testing.strategies")
