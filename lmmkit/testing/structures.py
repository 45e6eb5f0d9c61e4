"""Whether a covariance structure keeps the contract; what is wrong with it, in words."""

import copy
import pickle
from collections.abc import Sequence

import numpy as np

from lmmkit.errors import ArgumentError, ConformanceError, LmmkitError, ParameterError
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.records import FloatArray, adopt
from lmmkit.structures.contract import (
    CovarianceStructure,
    Kind,
    bound,
    natural_jacobian,
    require_structure,
)
from lmmkit.structures.numeric import numeric_derivatives
from lmmkit.testing.natural_scale import check_bounds, check_canonical, check_smooth
from lmmkit.testing.recovery import check_orders, check_recovery

_ROUNDING = 1e-9
_FAR = 12.0
_DEPENDENT = 1e-9


def check_structure(
    structure: CovarianceStructure,
    effects: Sequence[str] | int = 4,
    *,
    seed: int = 0,
    recover: bool = True,
) -> None:
    """Check that ``structure`` keeps the contract of a covariance structure.

    At the start, at draws around it and far from it: the covariance's shape, symmetry and sign, the
    number of parameters and their names, derivatives against numeric ones, the way back from a
    covariance to its parameters, multiples of the covariance, the M-step, copies. Then data are
    simulated, and a fit has to find the parameters again, in either order of the terms.

    Parameters
    ----------
    structure : CovarianceStructure
    effects : sequence of str or int
        Names of the effects, or how many: ``"f[0]"``, ``"f[1]"``, ...
    seed : int
        Of the draws and of the simulated data.
    recover : bool
        Whether to simulate and fit, which takes most of the time.

    Raises
    ------
    ConformanceError
        Says what is wrong with the structure.
    ArgumentError
        Where there are no effects.
    """
    try:
        require_structure(structure, "check_structure")
    except ParameterError as error:
        raise ConformanceError(str(error)) from None
    names = tuple(f"f[{i}]" for i in range(effects)) if isinstance(effects, int) else tuple(effects)
    if not names:
        raise ArgumentError(f"check_structure: expected one effect or more, got {effects!r}")
    term = StructuredTerm(bound(structure, names), names, np.eye(len(names)))
    generator = np.random.default_rng(seed)
    start = _start(term)
    places = [start, *(start + 0.4 * generator.normal(size=term.n) for _ in range(4))]
    _check_names(term)
    for theta in map(adopt, places):
        _check_covariance(term, theta, "near the start")
        check_bounds(term, theta)
        _check_derivatives(term, theta)
        check_canonical(term, theta)
        check_smooth(term, theta)
    _check_far(term, start)
    for theta in map(adopt, places[1:]):
        _check_number(term, theta)
        _check_multiples(term, theta)
        _check_round_trip(term, theta, generator)
    _check_m_step(term, places[1], generator)
    _check_copies(structure)
    if recover:
        check_recovery(term, seed)
        check_orders(term, seed)


def _fail(term: StructuredTerm, text: str) -> ConformanceError:
    return ConformanceError(f"{term.name}: {text}")


def _start(term: StructuredTerm) -> FloatArray:
    n = term.n
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise _fail(term, f"n_params({term.q}) has to be a whole number >= 1, but is {n!r}")
    start = np.asarray(term.structure.start(term.q))
    if start.shape != (n,) or start.dtype.kind != "f" or not np.isfinite(start).all():
        raise _fail(
            term, f"start({term.q}) has to be {n} finite floats, as n_params says, but is {start!r}"
        )
    return adopt(start.copy())


def _check_names(term: StructuredTerm) -> None:
    try:
        listed = term.quantities
    except LmmkitError as error:
        raise _fail(term, f"names and kinds: {error}") from None
    except ValueError as error:
        raise _fail(term, f"kinds has to give Kind.SD, Kind.COR, ...: {error}") from None
    wrong = [x.name for x in listed if not isinstance(x.name, str) or not x.name]
    if wrong:
        raise _fail(term, f"names has to give texts, but gives {wrong}")


def _covariance(term: StructuredTerm, theta: FloatArray) -> FloatArray:
    try:
        with np.errstate(all="ignore"):
            psi = term.covariance(theta)
    except ParameterError as error:
        raise _fail(term, str(error)) from None
    except ValueError as error:
        if "read-only" in str(error):
            raise _fail(term, "covariance modifies its argument theta; make a copy") from None
        raise
    if not isinstance(psi, np.ndarray):
        raise _fail(term, f"covariance has to return a numpy array, not {type(psi).__name__}")
    return psi


def _check_covariance(term: StructuredTerm, theta: FloatArray, where: str) -> None:
    psi = _covariance(term, theta)
    at = f"{where}, at theta = {np.round(theta, 4)}, covariance"
    if psi.shape != (term.q, term.q) or psi.dtype.kind != "f":
        raise _fail(
            term, f"{at} has to be floats of shape {(term.q, term.q)}, but is {psi.dtype} of shape "
            f"{psi.shape}"
        )  # fmt: skip
    if not np.isfinite(psi).all():
        raise _fail(term, f"{at} is not finite:\n{psi}")
    size = np.abs(psi).max()
    if np.abs(psi - psi.T).max() > _ROUNDING * size:
        raise _fail(term, f"{at} is not symmetric:\n{psi}")
    smallest = float(np.linalg.eigvalsh(psi)[0])
    if smallest < -_ROUNDING * size:
        raise _fail(
            term,
            f"{at} is not positive semidefinite, its smallest eigenvalue is {smallest:.3g}:\n{psi}"
            "\nchoose a map from theta that cannot leave the covariances, such as exp, sin or T T'",
        )
    if not np.array_equal(psi, _covariance(term, theta)):
        raise _fail(term, f"{at} is not the same when it is computed again")


def _check_far(term: StructuredTerm, start: FloatArray) -> None:
    for i in range(term.n):
        for sign in (-_FAR, _FAR):
            theta = start.copy()
            theta[i] += sign
            _check_covariance(term, adopt(theta), "far out, where boundaries are")


def _check_derivatives(term: StructuredTerm, theta: FloatArray) -> None:
    own = getattr(term.structure, "derivatives", None)
    if own is None or not term.exact:
        return
    expected = numeric_derivatives(lambda t: np.asarray(term.covariance(t)), theta)
    found = own(theta, term.q)
    if not isinstance(found, tuple) or len(found) != 2:
        raise _fail(term, "derivatives has to return a pair, the first and the second ones")
    for which, mine, other in zip(("first", "second"), found, expected, strict=True):
        if np.shape(mine) != other.shape:
            raise _fail(
                term, f"the {which} derivatives have to have shape {other.shape}, but have "
                f"{np.shape(mine)}"
            )  # fmt: skip
        size = 1.0 + np.abs(other).max()
        gap = np.abs(mine - other)
        if not gap.max() <= 1e-6 * size:
            index = np.unravel_index(int(gap.argmax()), gap.shape)
            place = ", ".join(map(str, index))
            raise _fail(
                term,
                f"the {which} derivatives at theta = {np.round(theta, 4)} are wrong: entry "
                f"[{place}] is {mine[index]:.6g}, numerically {other[index]:.6g}",
            )


def _check_number(term: StructuredTerm, theta: FloatArray) -> None:
    """No parameter, and no combination of them, leaves the covariance as it is."""
    J = term.derivatives(theta)[0]
    length = np.linalg.norm(J, axis=0)
    idle = [x.name for x, size in zip(term.quantities, length, strict=True) if size < _DEPENDENT]
    if idle:
        raise _fail(
            term, f"the parameter {idle[0]} does not change the covariance at theta = "
            f"{np.round(theta, 4)}; n_params is too large"
        )  # fmt: skip
    values, right = np.linalg.svd(J / length)[1:]
    if len(values) < term.n or values[-1] < _DEPENDENT:
        mixed = [x.name for x, v in zip(term.quantities, right[-1], strict=True) if abs(v) > 0.1]
        raise _fail(
            term,
            f"the parameters {', '.join(mixed)} change the covariance in the same way at theta = "
            f"{np.round(theta, 4)}: there are more parameters than the family has dimensions",
        )
    slopes = natural_jacobian(term.structure, theta, term.q)
    if np.linalg.matrix_rank(slopes, tol=1e-9 * max(1.0, float(np.abs(slopes).max()))) < term.n:
        raise _fail(
            term, "natural does not determine theta: its derivative is singular at theta = "
            f"{np.round(theta, 4)}"
        )  # fmt: skip


def _reported(term: StructuredTerm, theta: FloatArray) -> FloatArray:
    kinds = np.array([x.kind is Kind.SD for x in term.quantities])
    values = term.natural(term.canonical(theta), 1.0)
    return np.where(kinds, np.abs(values), values)


def _check_multiples(term: StructuredTerm, theta: FloatArray) -> None:
    psi = 4.0 * term.covariance(theta)
    other = term.nearest(psi, theta)
    gap = term.misfit(psi, other)
    if gap > 1e-6:
        raise _fail(
            term,
            f"4 times the covariance at theta = {np.round(theta, 4)} is not in the family (the "
            f"nearest is {gap:.2g} away): a structure has to hold all multiples of its matrices, "
            "since theta is relative to sigma; give it a standard deviation",
        )
    power = np.array([x.kind.power for x in term.quantities])
    before, after = _reported(term, theta), _reported(term, other)
    for x, old, new, k in zip(term.quantities, before, after, power, strict=True):
        known = x.kind is not Kind.FREE
        if known and abs(new - 2.0**k * old) > 1e-4 * (1.0 + abs(2.0**k * old)):
            raise _fail(
                term,
                f"{x.name} is {old:.6g}, and {new:.6g} when all standard deviations are doubled; a "
                f"parameter of the kind {x.kind.name} has to become {2.0**k * old:.6g}",
            )


def _check_round_trip(
    term: StructuredTerm, theta: FloatArray, generator: np.random.Generator
) -> None:
    psi = term.covariance(theta)
    other = term.nearest(psi, theta + 0.1 * generator.normal(size=term.n))
    if term.misfit(psi, other) > 1e-6:
        raise _fail(
            term,
            f"the way back from the covariance at theta = {np.round(theta, 4)} to theta does not "
            "arrive: covariance has to be a smooth function of theta",
        )
    before, after = _reported(term, theta), _reported(term, other)
    if np.abs(before - after).max() > 1e-3 * (1.0 + np.abs(before).max()):
        raise _fail(
            term,
            f"two sets of parameters, {np.round(before, 5)} and {np.round(after, 5)}, have one "
            "covariance: the parameters are not identified",
        )


def _check_m_step(term: StructuredTerm, theta: FloatArray, generator: np.random.Generator) -> None:
    if not hasattr(term.structure, "m_step"):
        return
    root = generator.normal(size=(term.q, 3 * term.q))
    moment = root @ root.T / (3 * term.q)
    best = np.asarray(term.m_step(moment, theta))

    def value(at: FloatArray) -> FloatArray:
        psi = term.covariance(at)
        return np.array(np.linalg.slogdet(psi)[1] + np.trace(np.linalg.solve(psi, moment)))

    slope = numeric_derivatives(value, best)[0] if best.shape == (term.n,) else np.full(1, np.inf)
    if not np.abs(slope).max() < 1e-6:
        raise _fail(
            term,
            "m_step does not return the theta that maximizes -log|Psi| - tr(Psi^-1 moment): there "
            f"the derivative is {slope}",
        )


def _check_copies(structure: CovarianceStructure) -> None:
    name = type(structure).__name__
    for how, other in (
        ("copy.deepcopy", copy.deepcopy(structure)),
        ("pickle", _pickled(structure)),
    ):
        if other is not None and not other == structure:
            raise ConformanceError(
                f"{name}: the copy by {how} is not equal to the structure; make it an attrs.frozen "
                "class, or give it __eq__"
            )


def _pickled(structure: CovarianceStructure) -> CovarianceStructure | None:
    """None where the class is local, which pickle cannot find."""
    try:
        copied: CovarianceStructure = pickle.loads(pickle.dumps(structure))
    except (pickle.PicklingError, AttributeError):
        return None
    return copied
