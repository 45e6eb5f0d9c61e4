"""Standard coordinates: an exact change of coordinates that keeps the digits."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lmmkit.design import Design, group
from lmmkit.likelihood import Objective
from lmmkit.linalg import vech
from lmmkit.moments import Basis, cross_products, standard_basis
from lmmkit.moments.basis import congruence
from lmmkit.optimize import maximize
from lmmkit.parameters import NaturalParams
from lmmkit.records import FloatArray, evolve
from tests.dense_oracle import dense_loglik, profiled_loglik
from tests.helpers import dense_model
from tests.likelihood.cases import CRITERIA, DESIGNS, SHUFFLED, design

every_design = pytest.mark.parametrize("name", DESIGNS)
ml_and_reml = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])


@every_design
def test_standard_columns_are_orthonormal(name: str) -> None:
    whole = evolve(design(name), weights=None)
    moments = cross_products(group(whole))
    n, p = whole.X.shape
    assert_allclose(moments.xx, n * np.eye(p), atol=1e-11 * n)
    assert_allclose(moments.xy, np.zeros(p), atol=1e-10)
    for factor in moments.factors:
        total, start = factor.zz.sum(axis=0), 0
        for size in (moments.sizes[k] for k in factor.terms):
            block = total[start : start + size, start : start + size]
            assert_allclose(block, n * np.eye(size), atol=1e-11 * n)
            start += size
    assert_allclose(moments.basis.log_det_x, np.linalg.slogdet(moments.basis.x)[1], atol=1e-12)


def a_basis() -> Basis:
    rng = np.random.default_rng(0)
    upper = [np.triu(rng.normal(size=(q, q))) + 2 * np.eye(q) for q in (3, 2, 1)]
    return Basis(origin=rng.normal(size=3), x=upper[0], z=tuple(upper[1:]), log_det_x=0.0)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_fixed_effects_there_and_back(lead: tuple[int, ...]) -> None:
    beta = np.random.default_rng(1).normal(size=(*lead, 3))
    basis = a_basis()
    there = basis.standard_beta(beta)
    expected = np.linalg.solve(basis.x, (beta - basis.origin)[..., None])[..., 0]
    assert_allclose(there, expected, rtol=1e-12, atol=1e-13)
    assert_allclose(basis.beta(there), beta, rtol=1e-12, atol=1e-13)


def test_covariances_there_and_back() -> None:
    basis = a_basis()
    psi = (np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[3.0]]))
    there = basis.standard_psi(psi)
    factors = tuple(np.linalg.cholesky(matrix) for matrix in there)
    for standard, back, original in zip(there, basis.psi(factors), psi, strict=True):
        assert_allclose(back, original, rtol=1e-13)
        assert not np.allclose(standard, original)
    packed = np.concatenate([vech(matrix) for matrix in psi])
    expected = np.concatenate([vech(matrix) for matrix in there])
    assert_allclose(basis.standard_vech() @ packed, expected, rtol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (3, 3), (3, 2), (2, 4)])
def test_congruence(rows: int, columns: int) -> None:
    rng = np.random.default_rng(2)
    c, s = rng.normal(size=(rows, columns)), rng.normal(size=(columns, columns))
    s = s + s.T
    assert_allclose(congruence(c) @ vech(s), vech(c @ s @ c.T), rtol=1e-12)


# Covariates are c + s t, t a multiple of 1/64: exact in float64, and dense algebra on t itself is
# well-conditioned.
T = np.round(np.random.default_rng(3).normal(size=len(SHUFFLED)) * 64) / 64
AFFINE = [
    (0.0, 1.0),
    (2000.0, 1.0),
    (1e6, 1.0),
    (-1e6, 1.0),
    (0.0, 2.0**20),
    (0.0, 2.0**-20),
    (2.0**20, 2.0**10),
    (1.0, 2.0**-10),
]
affine = pytest.mark.parametrize(("shift", "scale"), AFFINE)


def with_covariate(t: FloatArray) -> Design:
    plain = design("shuffled rows")
    columns = np.column_stack([np.ones(len(t)), t])
    return evolve(plain, X=columns, terms=(evolve(plain.terms[0], Z=columns),))


def on(a: Design, reml: bool) -> Objective:
    return CRITERIA[reml](cross_products(group(a)))


def reml_constant(scale: float, reml: bool) -> float:
    """log|X'V^-1X| / 2 grows by log scale."""
    return -reml * float(np.log(scale))


def transformed(psi: FloatArray, shift: float, scale: float) -> FloatArray:
    """Psi of (1, shift + scale t) from Psi of (1, t), rounded only once."""
    a = [[Fraction(1), -Fraction(shift) / Fraction(scale)], [Fraction(0), 1 / Fraction(scale)]]
    s = [[Fraction(x) for x in row] for row in psi.tolist()]
    both = range(2)
    return np.array(
        [
            [float(sum(a[i][k] * s[k][m] * a[j][m] for k in both for m in both)) for j in both]
            for i in both
        ]
    )


@affine
@ml_and_reml
def test_digits_survive_a_shift_and_a_scale_of_the_fixed_part(
    shift: float, scale: float, reml: bool
) -> None:
    plain = evolve(with_covariate(T), terms=design("two terms on one factor").terms[:1])
    moved = evolve(plain, X=with_covariate(shift + scale * T).X)
    psi = [np.array([[0.8]])]
    expected = profiled_loglik(dense_model(plain), psi, 0.7, reml=reml)
    value = on(moved, reml).loglik(NaturalParams(tuple(psi), 0.7))
    assert_allclose(value, expected + reml_constant(scale, reml), rtol=1e-12)


@affine
@ml_and_reml
def test_digits_survive_a_scale_of_the_random_part(shift: float, scale: float, reml: bool) -> None:
    # Psi itself loses digits under a shift s: its first entry is s^2 times the slope's variance
    psi = np.array([[0.75, 0.25], [0.25, 0.5]])
    expected = profiled_loglik(dense_model(with_covariate(T)), [psi], 0.7, reml=reml)
    params = NaturalParams((transformed(psi, shift, scale),), 0.7)
    value = on(with_covariate(shift + scale * T), reml).loglik(params)
    loss = 1.0 + (shift / scale) ** 2
    tolerance = 1e-12 + 1e-15 * loss
    assert_allclose(value, expected + reml_constant(scale, reml), rtol=tolerance)


@affine
@ml_and_reml
def test_the_maximum_does_not_see_a_shift_or_a_scale(
    shift: float, scale: float, reml: bool
) -> None:
    plain = maximize(on(with_covariate(T), reml))
    moved = maximize(on(with_covariate(shift + scale * T), reml))
    assert moved.certificate.converged
    loss = 1.0 + (shift / scale) ** 2
    again = on(with_covariate(shift + scale * T), reml).loglik(moved.natural)
    assert_allclose(again, moved.loglik, rtol=1e-12 + 1e-19 * loss)
    assert_allclose(moved.loglik, plain.loglik + reml_constant(scale, reml), rtol=1e-11)
    assert plain.natural.beta is not None
    assert moved.natural.beta is not None
    assert_allclose(moved.natural.beta[1] * scale, plain.natural.beta[1], rtol=1e-6)
    assert_allclose(moved.natural.sigma2, plain.natural.sigma2, rtol=1e-5)
    slope, expected = moved.natural.psi[0][1, 1] * scale**2, plain.natural.psi[0][1, 1]
    assert_allclose(slope, expected, rtol=1e-5)


def test_any_basis_serves() -> None:
    whole = design("weights and offset")
    rng = np.random.default_rng(4)
    basis = standard_basis(group(whole))
    other = Basis(
        origin=rng.normal(size=2),
        x=np.array([[1.0, 0.5], [0.0, 2.0]]),
        z=(np.array([[0.5, 3.0], [0.0, 1.0]]),),
        log_det_x=float(np.log(2.0)),
    )
    psi, beta = np.array([[0.75, 0.25], [0.25, 0.5]]), np.array([0.3, -1.0])
    params = NaturalParams((psi,), 0.7, beta)
    for reml, criterion in enumerate(CRITERIA):
        expected = dense_loglik(dense_model(whole), beta, [psi], 0.7, reml=bool(reml))
        for each in (basis, other):
            at = criterion(cross_products(group(whole), each))
            assert_allclose(at.loglik(params), expected, rtol=1e-12)
