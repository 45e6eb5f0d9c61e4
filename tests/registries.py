"""What the conformance suite runs on: one line enrols a strategy, a structure, a case.

A strategy has to reach the optimum of every reference case. Where it takes thousands of iterations,
its line names the cases under ``slow_on``, and where it never arrives, under ``never_on``; ``why``
gives the reason. There the suite asks that the certificate says so.
"""

import functools
from collections.abc import Callable

import attrs
import numpy as np

from lmmkit.design import Design, build_design, group
from lmmkit.likelihood import Objective, ml, reml
from lmmkit.moments import cross_products
from lmmkit.optimize import (
    Step,
    armijo,
    best_so_far,
    chain,
    conjugate_gradient,
    default_strategy,
    em,
    fallback,
    fisher,
    fixed,
    newton,
    repeat,
    scipy_step,
    seed_strategy,
    steepest_descent,
    until,
    variance_scoring,
)
from lmmkit.optimize.directions import dai_yuan, fletcher_reeves, hestenes_stiefel, polak_ribiere
from lmmkit.optimize.line_search import strong_wolfe
from lmmkit.parameters import (
    NaturalParams,
    ProfileParams,
    SquareRootParams,
    to_profile,
    to_square_root,
)
from lmmkit.records import evolve
from lmmkit.structures import (
    AR1,
    Blocks,
    CompoundSymmetry,
    CovarianceStructure,
    Diagonal,
    Exponential,
    FactorAnalytic,
    Gaussian,
    Heterogeneous,
    Homogeneous,
    Identity,
    Kronecker,
    Matern,
    ReducedRank,
    Toeplitz,
    Unstructured,
)
from tests.helpers import ReferenceCase, reference_cases

CASES: dict[str, ReferenceCase] = {c.id: c for c in reference_cases() if not c.large}


@functools.cache
def case_design(case_id: str) -> Design:
    case = CASES[case_id]
    return build_design(case.formula, case.frame())


@functools.cache
def case_objective(case_id: str) -> Objective:
    moments = cross_products(group(case_design(case_id)))
    return reml(moments) if CASES[case_id].reml else ml(moments)


@attrs.frozen(eq=False)
class Strategy:
    """A strategy in the suite.

    ``monotone`` where no step of it may go downhill; ``jams`` where it may creep from a start
    that is far away: without a restart these formulas repeat short steps (Powell 1977);
    ``leaves_zero`` where it rises from covariances of zero, where the factors' score is zero.
    ``slow_on`` the cases that it takes thousands of iterations for, ``never_on`` those on which
    it is not awaited.
    """

    step: Step
    monotone: bool = True
    jams: bool = False
    leaves_zero: bool = False
    slow_on: tuple[str, ...] = ()
    never_on: tuple[str, ...] = ()
    why: str = ""


_SD, _CG = steepest_descent, conjugate_gradient
_LARGE_RATIO = (
    "dietox_ri", "dietox_rs", "dietox_rs_ml", "dietox_cu", "machines_vec", "rail",
    "penicillin", "penicillin_ml", "pastes_nested", "machines_wm", "pixel",
)  # fmt: skip
_LINEAR = "no curvature: linear, at a rate that worsens with the ratio of variance to sigma2"
_ZERO = ("dyestuff2_singular", "dyestuff2_singular_ml", "verbagg_gaussian")
_NOT_SMALL = tuple(
    case for case in CASES if case not in ("dyestuff", "dyestuff2_singular", "ergostool")
)
_SECONDS_EACH = (
    "machines_vec", "penicillin", "penicillin_ml", "pastes_nested", "machines_wm", "pixel",
)  # fmt: skip

STRATEGIES: dict[str, Strategy] = {
    "default": Strategy(default_strategy(), leaves_zero=True),
    "seed": Strategy(seed_strategy()),
    "em": Strategy(em(), never_on=_ZERO, why="EM nears a zero variance as 1 / iterations"),
    "sd euclidean armijo": Strategy(_SD(), slow_on=_LARGE_RATIO, why=_LINEAR),
    "sd euclidean wolfe": Strategy(_SD(line_search=strong_wolfe())),
    "sd euclidean fixed": Strategy(
        _SD(line_search=fixed(0.3)),
        monotone=False,
        slow_on=tuple(case for case in _NOT_SMALL if case not in _SECONDS_EACH),
        never_on=_SECONDS_EACH,
        why=_LINEAR,
    ),
    "sd fisher armijo": Strategy(_SD(metric=fisher)),
    "sd fisher wolfe": Strategy(_SD(metric=fisher, line_search=strong_wolfe())),
    "sd fisher fixed": Strategy(_SD(metric=fisher, line_search=fixed()), monotone=False),
    "sd newton armijo": Strategy(_SD(metric=newton)),
    "sd newton wolfe": Strategy(_SD(metric=newton, line_search=strong_wolfe())),
    "sd newton fixed": Strategy(_SD(metric=newton, line_search=fixed()), monotone=False),
    "cg euclidean fletcher_reeves": Strategy(_CG(beta=fletcher_reeves), jams=True),
    "cg euclidean polak_ribiere": Strategy(_CG(beta=polak_ribiere)),
    "cg euclidean hestenes_stiefel": Strategy(_CG(beta=hestenes_stiefel)),
    "cg euclidean dai_yuan": Strategy(_CG(beta=dai_yuan), jams=True),
    "cg fisher fletcher_reeves": Strategy(_CG(beta=fletcher_reeves, metric=fisher)),
    "cg fisher polak_ribiere": Strategy(_CG(beta=polak_ribiere, metric=fisher)),
    "cg fisher hestenes_stiefel": Strategy(_CG(beta=hestenes_stiefel, metric=fisher)),
    "cg fisher dai_yuan": Strategy(_CG(beta=dai_yuan, metric=fisher)),
    "cg newton fletcher_reeves": Strategy(_CG(beta=fletcher_reeves, metric=newton)),
    "cg newton polak_ribiere": Strategy(_CG(beta=polak_ribiere, metric=newton)),
    "cg newton hestenes_stiefel": Strategy(_CG(beta=hestenes_stiefel, metric=newton)),
    "cg newton dai_yuan": Strategy(_CG(beta=dai_yuan, metric=newton)),
    "cg euclidean armijo": Strategy(_CG(line_search=armijo()), slow_on=_LARGE_RATIO, why=_LINEAR),
    "cg fisher armijo": Strategy(_CG(metric=fisher, line_search=armijo())),
    "cg newton armijo": Strategy(_CG(metric=newton, line_search=armijo())),
    "scipy BFGS": Strategy(scipy_step("BFGS")),
    "scipy L-BFGS-B": Strategy(scipy_step("L-BFGS-B")),
    "scipy CG": Strategy(scipy_step("CG")),
    "scipy TNC": Strategy(scipy_step("TNC")),
    "scipy SLSQP": Strategy(scipy_step("SLSQP")),
    "variance scoring": Strategy(chain(variance_scoring(), _SD(metric=fisher)), leaves_zero=True),
    "chain": Strategy(chain(em(3), _SD(2), _CG(metric=fisher))),
    "repeat": Strategy(repeat(chain(em(2), _CG(5)), 50)),
    "until": Strategy(
        chain(until(lambda report: report.score_norm < 1.0, em()), _SD(metric=fisher)),
    ),
    "fallback": Strategy(fallback(_SD(line_search=armijo(most=0)), _CG(metric=fisher))),
    "best_so_far": Strategy(best_so_far(_SD(metric=fisher, line_search=fixed())), monotone=False),
}


@attrs.frozen(eq=False)
class Structure:
    """A covariance structure in the suite, and the effects that it is for."""

    structure: CovarianceStructure
    effects: tuple[str, ...] = ("f[a]", "f[b]", "f[c]", "f[d]")


_TIMES = ("t[0]", "t[1.5]", "t[2]", "t[4]")
_PLACES = ("p[(0, 0)]", "p[(1, 0)]", "p[(0, 2)]", "p[(3, 1)]")
_PRODUCT = tuple(f"a[{i}]:b[{j}]" for j in "xyz" for i in "pq")
_KNOWN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])

STRUCTURES: dict[str, Structure] = {
    "us": Structure(Unstructured(), ("f[a]", "f[b]", "f[c]")),
    "diag": Structure(Diagonal()),
    "homdiag": Structure(Identity()),
    "known": Structure(Identity(_KNOWN), ("f[a]", "f[b]", "f[c]")),
    "cs": Structure(Heterogeneous(CompoundSymmetry())),
    "homcs": Structure(Homogeneous(CompoundSymmetry())),
    "ar1": Structure(Homogeneous(AR1())),
    "hetar1": Structure(Heterogeneous(AR1())),
    "toep": Structure(Heterogeneous(Toeplitz())),
    "homtoep": Structure(Homogeneous(Toeplitz())),
    "exp": Structure(Homogeneous(Exponential()), _TIMES),
    "exp in the plane": Structure(Homogeneous(Exponential()), _PLACES),
    "hetexp": Structure(Heterogeneous(Exponential()), _TIMES),
    "gau": Structure(Homogeneous(Gaussian()), _TIMES),
    "mat": Structure(Homogeneous(Matern()), _TIMES),
    "mat 3/2": Structure(Homogeneous(Matern(1.5)), _TIMES),
    "fa 1": Structure(FactorAnalytic(1)),
    "fa 2": Structure(FactorAnalytic(2), ("f[a]", "f[b]", "f[c]", "f[d]", "f[e]")),
    "rr 1": Structure(ReducedRank(1)),
    "rr 2": Structure(ReducedRank(2)),
    "blocks": Structure(Blocks((Unstructured(), Identity()), (2, 2))),
    "us x ar1": Structure(Kronecker((Unstructured(), Homogeneous(AR1())), (2, 3)), _PRODUCT),
    "cs x us": Structure(
        Kronecker((Heterogeneous(CompoundSymmetry()), Unstructured()), (2, 3)), _PRODUCT
    ),
}

Params = NaturalParams | ProfileParams | SquareRootParams
PARAMETERIZATIONS: dict[str, Callable[[NaturalParams], Params]] = {
    "natural": lambda natural: natural,
    "profile": to_profile,
    "square root": to_square_root,
    "natural, beta profiled": lambda natural: evolve(natural, beta=None),
    "profile, beta profiled": lambda natural: evolve(to_profile(natural), beta=None),
    "square root, beta profiled": lambda natural: evolve(to_square_root(natural), beta=None),
}
