"""The log-likelihood as a function of parameters: value, score, Hessian, information."""

import math

import numpy as np
from numpy.typing import NDArray

from lmmkit.errors import ArgumentError, UnsupportedModelError
from lmmkit.likelihood import derivatives
from lmmkit.likelihood.charts import Chart, Params, chart, curvature, matrices_of
from lmmkit.likelihood.constraints import Hold, Relation
from lmmkit.likelihood.directions import directions
from lmmkit.likelihood.elimination import Elimination, eliminate
from lmmkit.likelihood.one_at_a_time import one_at_a_time
from lmmkit.likelihood.packed import check_params, in_record, jacobian, profiled
from lmmkit.likelihood.pieces import Criterion, Pieces, Point, pieces
from lmmkit.likelihood.structured import StructuredTerm
from lmmkit.likelihood.system import System, system
from lmmkit.linalg import solve_or_nan, vech
from lmmkit.moments.basis import Basis
from lmmkit.moments.moments import Moments
from lmmkit.parameters.convert import to_profile
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.square_root import SquareRootParams
from lmmkit.records import FloatArray, computed_array, evolve, record


@record
class Located:
    """An objective at one parameter value: where derivatives start from.

    Attributes
    ----------
    D : ndarray (..., q, q)
        Relative covariance of all terms' effects side by side, in standard coordinates.
    elimination : Elimination
    point : Point
    loglik : ndarray (...)
        NaN where V is not positive definite.
    """

    D: FloatArray = computed_array()
    elimination: Elimination
    point: Point
    loglik: FloatArray = computed_array()


@record
class Objective:
    """The Gaussian log-likelihood, or the restricted one, of one model and its data.

    Every method takes any of the three parameter records, whose type says what the numbers mean. A
    vector or matrix is over the record's packed order. A record with ``beta=None`` has beta
    profiled out; :class:`ProfileParams` and :class:`SquareRootParams` have sigma2 profiled out.
    Leading axes of the parameters, and of the response, broadcast.

    The restricted log-likelihood is lme4's: without the constant ``log|X'X| / 2``. At a beta other
    than the generalized least-squares one, beta enters it through the residuals alone.

    Attributes
    ----------
    moments : Moments
    system : System
        The moments in the order in which an evaluation eliminates the random effects.
    criterion : Criterion
    held_sigma2 : float or None
        A residual variance that is known: then it is not profiled.
    held : tuple of Hold or Relation
        What is known of the covariance parameters; :func:`~lmmkit.optimize.run.maximize` observes
        it.
    structures : tuple of StructuredTerm or None
        One a random term, None where its covariance is unstructured; () where all are.
        :func:`~lmmkit.optimize.run.maximize` moves over their parameters.
    """

    moments: Moments
    system: System
    criterion: Criterion
    held_sigma2: float | None = None
    held: tuple[Hold | Relation, ...] = ()
    structures: tuple[StructuredTerm | None, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of effects of each random term, those left out that are held at zero."""
        return self.moments.sizes

    @property
    def terms(self) -> tuple[StructuredTerm | None, ...]:
        """One entry a random term, None where its covariance is unstructured."""
        return self.structures or (None,) * len(self.moments.basis.z)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of the natural parameters are estimated and not held.

        In the order of :meth:`NaturalParams.pack`, beta included; a term with a covariance
        structure has the structure's parameters in place of its triangle.
        """
        basis = self.moments.basis
        there = [(c != 0).any(axis=1) for c in basis.z]
        psi = [vech(np.outer(row, row)) for row in there]
        for k, term in enumerate(self.structures):
            psi[k] = psi[k] if term is None else np.ones(term.n, dtype=bool)
        mask = np.concatenate([(basis.x != 0).any(axis=1), *psi, [self.held_sigma2 is None]])
        for constraint in self.held:
            if isinstance(constraint, Hold):
                mask[constraint.index] = False
        return mask

    @property
    def degrees_of_freedom(self) -> int:
        """m: N, or N - p under REML."""
        used = len(self.moments.xx) if self.criterion is Criterion.REML else 0
        return self.moments.n_obs - used

    def standardized(self) -> "Objective":
        """The same objective, its parameters taken in the standard coordinates of the moments."""
        old = self.moments.basis
        identity = Basis(
            origin=np.zeros((*old.origin.shape[:-1], old.x.shape[1])),
            x=np.eye(old.x.shape[1]),
            z=tuple(np.eye(q) for q in self.sizes),
            log_det_x=old.log_det_x,
        )
        return evolve(self, moments=evolve(self.moments, basis=identity))

    @one_at_a_time
    def loglik(self, params: Params) -> FloatArray | float:
        """The log-likelihood; NaN where the marginal covariance is not positive definite."""
        return _scalar(self._locate(params)[1].loglik)

    @one_at_a_time
    def score(self, params: Params) -> FloatArray:
        """Gradient of :meth:`loglik` over the packed record: shape (..., n)."""
        where, place = self._locate(params)
        parts = self.pieces(place)
        gradient = derivatives.gradient(parts, self.degrees_of_freedom, self.sizes)
        full = (gradient[..., None, :] @ jacobian(where, self.moments.basis))[..., 0, :]
        return full[..., in_record(params, self.moments.basis, full.shape[-1])]

    @one_at_a_time
    def hessian(self, params: Params) -> FloatArray:
        """Second derivative of :meth:`loglik` over the packed record: shape (..., n, n)."""
        where, place = self._locate(params)
        at = (self.pieces(place), self.degrees_of_freedom, self.sizes)
        gradient = derivatives.gradient(*at)
        matrix = derivatives.hessian(*at).assembled()
        across = jacobian(where, self.moments.basis)
        full = np.swapaxes(across, -1, -2) @ matrix @ across
        p, p_free = self.moments.basis.x.shape
        full[..., p:, p:] += curvature(params, self.moments.basis, gradient[..., p_free:-1])
        return self._profiled(full, params)

    def observed_information(self, params: Params) -> FloatArray:
        """Minus :meth:`hessian`."""
        return -self.hessian(params)

    @one_at_a_time
    def expected_information(self, params: Params) -> FloatArray:
        """Expected information over the packed record, profiled parameters eliminated."""
        where, place = self._locate(params)
        at = (self.pieces(place), self.degrees_of_freedom, self.sizes)
        matrix = derivatives.information(*at).assembled()
        across = jacobian(where, self.moments.basis)
        return self._profiled(np.swapaxes(across, -1, -2) @ matrix @ across, params)

    @one_at_a_time
    def beta(self, params: Params) -> FloatArray:
        """The fixed effects (..., p): the record's, or the best ones where they are profiled."""
        if params.beta is not None:
            return params.beta
        return self._beta(self._locate(params)[1])

    @one_at_a_time
    def sigma2(self, params: Params) -> FloatArray | float:
        """The residual variance: the record's, the held one, or the best one."""
        return _scalar(self._locate(params)[1].point.sigma2)

    @one_at_a_time
    def natural(self, params: Params) -> NaturalParams:
        """The full natural parameters at ``params``, profiled ones at their best values."""
        place = self._locate(params)[1]
        own = to_profile(params) if isinstance(params, SquareRootParams) else params
        scale = 1.0 if isinstance(own, NaturalParams) else place.point.sigma2[..., None, None]
        return NaturalParams(
            psi=tuple(matrix * scale for matrix in matrices_of(own)),
            sigma2=place.point.sigma2,
            beta=self._beta(place) if params.beta is None else params.beta,
        )

    def natural_at(self, factors: tuple[FloatArray, ...], place: Located) -> NaturalParams:
        """The full natural parameters where standard ``factors`` led to ``place``."""
        scale = place.point.sigma2[..., None, None]
        return NaturalParams(
            psi=tuple(psi * scale for psi in self.moments.basis.psi(factors)),
            sigma2=place.point.sigma2,
            beta=self._beta(place),
        )

    def _beta(self, place: Located) -> FloatArray:
        return self.moments.basis.beta(place.point.beta)

    def _profiled(self, matrix: FloatArray, params: Params) -> FloatArray:
        sigma2_held = self.held_sigma2 is not None
        return profiled(matrix, params, self.moments.basis, sigma2_held=sigma2_held)

    def _locate(self, params: Params) -> tuple[Chart, Located]:
        check_params(params, self.moments.basis)
        where = chart(params, self.moments.basis)
        q = sum(self.sizes)
        D = (where.delta @ directions(self.sizes).T).reshape(*where.delta.shape[:-1], q, q)
        return where, self.locate(D, where.beta, where.sigma2)

    def locate(
        self,
        D: FloatArray,
        beta: FloatArray | None = None,
        sigma2: FloatArray | None = None,
    ) -> Located:
        """Eliminate the groups at the relative covariance ``D`` (..., q, q).

        D is block diagonal by term. All is in standard coordinates; beta and sigma2 are profiled
        where they are None.
        """
        done = eliminate(self.system, D)
        C = done.products[..., :-1, :-1]
        Xy = done.products[..., :-1, -1]
        yy = done.products[..., -1, -1]
        if beta is None:
            beta = solve_or_nan(C, Xy[..., None])[..., 0]
            gap = np.zeros_like(Xy)
            rss = yy - (beta * Xy).sum(axis=-1)
        else:
            gap = Xy - np.einsum("...ij,...j->...i", C, beta)
            rss = yy - (beta * (Xy + gap)).sum(axis=-1)
        m = self.degrees_of_freedom
        if sigma2 is None:
            held = self.held_sigma2
            sigma2 = rss / m if held is None else np.full_like(rss, held)
        with np.errstate(invalid="ignore", divide="ignore"):
            minus2 = m * np.log(2.0 * math.pi * sigma2) + done.log_det + rss / sigma2
            minus2 = minus2 - self.moments.log_weights
            if self.criterion is Criterion.REML:
                sign, log_det_c = np.linalg.slogdet(C)
                minus2 = minus2 + np.where(sign > 0, log_det_c, np.nan)
                minus2 = minus2 - 2.0 * self.moments.basis.log_det_x
        return Located(
            D=D,
            elimination=done,
            point=Point(beta=beta, sigma2=sigma2, rss=rss, gap=gap, C=C),
            loglik=-0.5 * minus2,
        )

    def pieces(self, place: Located) -> Pieces:
        """What the derivatives at ``place`` are computed from."""
        return pieces(place.point, place.elimination, self.criterion)


def ml(moments: Moments) -> Objective:
    """The log-likelihood of the data behind ``moments``."""
    return _objective(moments, Criterion.ML)


def reml(moments: Moments) -> Objective:
    """The restricted log-likelihood of the data behind ``moments``."""
    return _objective(moments, Criterion.REML)


def _objective(moments: Moments, criterion: Criterion) -> Objective:
    if not isinstance(moments, Moments):
        raise ArgumentError(
            f"{criterion.value}: expected Moments, such as cross_products(group(design)), got "
            f"{type(moments).__name__}"
        )
    related = any(moments.relation(factor) is not None for factor in moments.factors)
    if moments.yy.ndim and (moments.pairs or related):
        raise UnsupportedModelError(
            f"{criterion.value}: expected one response where levels of several grouping factors "
            "meet in a row, where rows have several levels of one, or where a covariance between "
            f"levels is known, got responses of shape {moments.yy.shape}; take moments of one "
            "response at a time"
        )
    return Objective(moments, system(moments), criterion)


def term_blocks(D: FloatArray, sizes: tuple[int, ...]) -> tuple[FloatArray, ...]:
    """The terms' diagonal blocks of (..., q, q)."""
    if len(sizes) == 1:
        return (D,)
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return tuple(D[..., e - q : e, e - q : e] for q, e in zip(sizes, ends, strict=True))


def _scalar(value: FloatArray) -> FloatArray | float:
    return float(value) if value.ndim == 0 else value
