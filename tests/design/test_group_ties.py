"""Groups of designs whose rows are tied by memberships or by a relation between levels."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from lmmkit.design import Design, RandomTerm, group, incidence, level_covariance, level_precision
from lmmkit.records import FloatArray, evolve


def design_of(*terms: RandomTerm) -> Design:
    n = len(terms[0].Z)
    return Design(
        np.arange(1.0, n + 1), np.ones((n, 1)), ("one",), terms, np.arange(n, dtype=np.int32)
    )


def a_term(codes: Any, m: int, **parts: Any) -> RandomTerm:
    codes = np.array(codes, dtype=np.int32)
    Z = np.random.default_rng(0).normal(size=(len(codes), 2))
    return RandomTerm("g", ("one", "two"), Z, codes, pl.Series(range(m)), **parts)


def with_covariance(codes: Any, K: FloatArray) -> RandomTerm:
    return a_term(codes, len(K), relation=level_covariance(K, range(len(K))))


def sets_of_rows(design: Design) -> set[frozenset[int]]:
    return {frozenset(rows.tolist()) for block in group(design) for rows in block.rows}


def blocks(*sizes: int) -> NDArray[np.float64]:
    K = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for size in sizes:
        K[start : start + size, start : start + size] = 0.5
        start += size
    return K + 0.5 * np.eye(len(K))


def covariance_of_rows(design: Design) -> NDArray[np.float64]:
    """``sum_k Z_k (K_k ⊗ Psi) Z_k'`` with a full Psi, from the records one row at a time."""
    total = np.zeros((design.n_obs, design.n_obs))
    for term in design.terms:
        m, q = len(term.levels), term.q
        loads = np.ones((len(term.Z), 1)) if term.loads is None else term.loads
        codes = term.codes.reshape(loads.shape)
        whole = np.zeros((len(term.Z), m, q))
        for row in range(len(term.Z)):
            for load, code in zip(loads[row], codes[row], strict=True):
                whole[row, code] += load * term.Z[row]
        K = np.eye(m) if term.relation is None else term.relation.root @ term.relation.root.T
        psi = np.array([[2.0, 0.7], [0.7, 1.0]])
        flat = whole.reshape(len(whole), m * q)
        total += flat @ np.kron(K, psi) @ flat.T
    return total


def tied_rows(design: Design) -> set[frozenset[int]]:
    """Rows joined while any two are correlated, by brute force."""
    reach = np.linalg.matrix_power((covariance_of_rows(design) != 0).astype(float), design.n_obs)
    return {frozenset(np.flatnonzero(row).tolist()) for row in reach}


CODES = [0, 1, 2, 3, 4, 5, 5, 0]
TWINS = np.kron(np.eye(3), np.ones((2, 2)))
CASES: dict[str, Design] = {
    "a dense relation": design_of(with_covariance(CODES, blocks(6))),
    "families": design_of(with_covariance(CODES, blocks(2, 1, 3))),
    "no ties": design_of(with_covariance(CODES, np.diag(np.arange(1.0, 7)))),
    "twins": design_of(with_covariance(CODES, TWINS)),
    "levels without rows": design_of(with_covariance(CODES, blocks(2, 4, 5))),
    "a chain of precisions": design_of(
        a_term(CODES, 6, relation=level_precision(3 * np.eye(6) - np.eye(6, k=1) - np.eye(6, k=-1),
                                                  range(6)))
    ),
    "a relation and a crossed factor": design_of(
        with_covariance(CODES, blocks(2, 1, 3)), a_term([0, 1, 2, 2, 3, 4, 5, 6], 7)
    ),
    "memberships": design_of(
        a_term([[0, 1], [1, 2], [3, 3], [4, 5], [6, 6]], 7, loads=[[1, 2], [1, 1], [1, 0], [3, 1],
                                                                  [0.5, 0.5]])
    ),
    "memberships and a factor": design_of(
        a_term([[0, 1], [1, 2], [3, 3], [4, 5], [6, 6]], 7, loads=np.ones((5, 2))),
        a_term([0, 1, 1, 2, 2], 3),
    ),
    "memberships and a relation": design_of(
        a_term(
            [[0, 1], [1, 2], [3, 3], [4, 5], [6, 6]],
            7,
            loads=np.ones((5, 2)),
            relation=level_covariance(blocks(4, 1, 1, 1), range(7)),
        )
    ),
    "one membership": design_of(a_term([[0], [1], [0]], 2, loads=[[1.0], [2.0], [-3.0]])),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_groups_are_the_sets_of_rows_that_are_tied(name: str) -> None:
    assert sets_of_rows(CASES[name]) == tied_rows(CASES[name])


def test_sets_by_hand() -> None:
    families = {frozenset(rows) for rows in ([0, 1, 7], [2], [3, 4, 5, 6])}
    assert sets_of_rows(CASES["families"]) == families
    assert sets_of_rows(CASES["a dense relation"]) == {frozenset(range(8))}
    assert sets_of_rows(CASES["memberships"]) == {
        frozenset(rows) for rows in ([0, 1], [2], [3], [4])
    }


@pytest.mark.parametrize("seed", range(5))
def test_random_incidence_matrices_and_relations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(1, 2, size=(15, 20)) * (rng.random((15, 20)) < 0.06)
    matrix[~matrix.any(axis=1), 0] = 1.0
    found = incidence(matrix)
    K = np.eye(20)
    for i, j in rng.integers(0, 20, size=(3, 2)):
        K[i, j] = K[j, i] = 0.4 if i != j else 1.0
    relation = level_covariance(K, range(20))
    design = design_of(a_term(found.codes, 20, loads=found.loads, relation=relation))
    assert sets_of_rows(design) == tied_rows(design)


@pytest.mark.parametrize("name", CASES)
def test_blocks_carry_codes_and_loads(name: str) -> None:
    design = CASES[name]
    for block in group(design):
        for k, term in enumerate(design.terms):
            assert_array_equal(block.levels[k], term.codes[block.rows])
            assert_array_equal(block.Z[k], term.Z[block.rows])
            if not block.loads:
                assert term.loads is None
            elif term.loads is None:
                assert block.loads[k] is None
            else:
                assert_array_equal(block.loads[k], term.loads[block.rows])


def test_designs_without_loads_have_blocks_without() -> None:
    assert [block.loads for block in group(CASES["families"])] == [(), (), ()]


def test_any_row_order_gives_the_same_groups() -> None:
    design = CASES["memberships and a factor"]
    order = np.random.default_rng(1).permutation(design.n_obs)
    terms = tuple(
        evolve(
            t, Z=t.Z[order], codes=t.codes[order], loads=None if t.loads is None else t.loads[order]
        )
        for t in design.terms
    )
    shuffled = evolve(design, y=design.y[order], terms=terms)
    again = {frozenset(order[list(rows)].tolist()) for rows in sets_of_rows(shuffled)}
    assert again == sets_of_rows(design)
