"""The log-likelihood's derivatives by theta, in closed form, from the sums of patterns.

The groups of a pattern have ``V = G R G + Z D Z'``, relative to sigma2; Z has no columns where
there are no random effects. With ``V^-1 = A'A`` let ``U_i = A (dV / d theta_i) A'``. A function of
``C = [X y]'V^-1[X y]`` and log|V| that changes by ``tr(F dC)`` has, for each pattern and its count
g, ``M = A (sum_st F X_s X_t') A' + (g / 2) I``, and

    gradient_i  = -tr(U_i M)
    hessian_ij  = tr(U_i U_j (2 M - (g / 2) I)) - tr(A V_ij A' M) + what F changes by.
"""

import numpy as np

from lmmkit.likelihood.objective import Objective
from lmmkit.likelihood.pieces import Criterion
from lmmkit.linalg import block_diagonal, psd_factor, transposed, triangle, vech
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray
from lmmkit.residual.contract import Correlation
from lmmkit.residual.model import ResidualModel
from lmmkit.residual.pairs_of_visits import ByPairs
from lmmkit.residual.profile import Differences
from lmmkit.residual.slopes import (
    correlation_curvature,
    correlation_slopes,
    deviation_curvature,
    deviation_slopes,
)
from lmmkit.residual.sums import PatternSums
from lmmkit.residual.visits import ByVisit

_AT_A_TIME = 2**21


def expand(
    model: ResidualModel, theta: FloatArray, objective: Objective, at: NaturalParams
) -> Differences:
    """Derivatives at theta of a model of pattern sums, and across by the packed ``at``.

    Parameters
    ----------
    model : ResidualModel
    theta : ndarray (k,)
    objective : Objective
        At theta; fixed effects and sigma2 may be held.
    at : NaturalParams
        In the objective's standard coordinates.
    """
    assert at.beta is not None
    sigma2, k = float(at.sigma2), len(theta)
    D = block_diagonal([np.asarray(psi) / sigma2 for psi in at.psi])
    into = _into(objective, model)
    # residuals are [X y] r
    r = into @ np.append(-at.beta, 1.0)
    effects = into[:, :-1]
    F = np.outer(r, r) / -(2.0 * sigma2)
    C = objective.locate(D, at.beta, np.asarray(sigma2)).point.C
    restricted = objective.criterion is Criterion.REML
    if restricted:
        F -= 0.5 * effects @ np.linalg.solve(C, effects.T)
    each = _entries(objective.sizes)
    number = k + len(each)
    by_each, gradient = np.zeros((number, *F.shape)), np.zeros(number)
    hessian = np.zeros((number, number))
    for sums in model.sums:
        patterns, n = sums.shape
        step = max(1, _AT_A_TIME // (max(number, 1) * n * n))
        for start in range(0, patterns, step):
            some = sums.some(slice(start, min(start + step, patterns)))
            products, first, second = _of_sums(model, some, theta, D, each, F)
            by_each += products
            gradient += first
            hessian += second
    if restricted:
        inside = np.linalg.solve(C, effects.T @ by_each @ effects)
        hessian += 0.5 * np.einsum("iab,jba->ij", inside, inside)
    moved = by_each[:k] @ r
    by_psi = hessian[:k, k:] / sigma2
    psi = np.concatenate([np.zeros(0), *map(vech, at.psi)])
    by_sigma2 = (0.5 * moved @ r / sigma2 - by_psi @ psi) / sigma2
    across = np.column_stack([moved @ effects / sigma2, by_psi, by_sigma2])
    return Differences(gradient[:k], hessian[:k, :k], across)


def _entries(sizes: tuple[int, ...]) -> FloatArray:
    """The derivatives (m, q, q) of D by its packed entries, term by term."""
    each, start = [np.zeros((0, sum(sizes), sum(sizes)))], 0
    for q in sizes:
        rows, columns = (start + place for place in triangle(q))
        units = np.zeros((len(rows), sum(sizes), sum(sizes)))
        number = np.arange(len(rows))
        units[number, rows, columns] = units[number, columns, rows] = 1.0
        each.append(units)
        start += q
    return np.concatenate(each)


def _into(objective: Objective, model: ResidualModel) -> FloatArray:
    """What takes ``[X y]`` in the model's coordinates to the objective's, (p + 1, p' + 1)."""
    old, new = model.basis, objective.moments.basis
    p, p_free = new.x.shape
    matrix = np.zeros((p + 1, p_free + 1))
    matrix[:-1] = np.linalg.solve(old.x, np.column_stack([new.x, old.origin - new.origin]))
    matrix[-1, -1] = 1.0
    return matrix


def _of_sums(
    model: ResidualModel,
    sums: PatternSums,
    theta: FloatArray,
    D: FloatArray,
    each: FloatArray,
    F: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of C, the gradient, and the Hessian less what F changes by.

    By theta, then by D along ``each`` (m, q, q) direction.
    """
    correlation, own = model.residual.correlation, model.split(theta)[0]
    L = sums.factor(correlation, own)
    assert L is not None, "derivatives are taken where there is a likelihood"
    n, k = L.shape[-1], len(theta)
    deviation = np.exp(model.log_deviation_of(theta, sums))
    scale = deviation[:, :, None] * deviation[:, None, :]
    noise = L @ transposed(L) * scale
    A = np.linalg.inv(L) / deviation[:, None, :]
    if len(each):
        # the root of I + loads D loads' without squares, which may be beyond I's digits
        loads = transposed(A @ sums.effects @ psd_factor(D))
        stacked = np.concatenate([np.broadcast_to(np.eye(n), A.shape), loads], axis=1)
        root = np.asarray(np.linalg.qr(stacked, mode="r"), dtype=np.float64)
        A = np.linalg.inv(transposed(root)) @ A
    half = 0.5 * sums.count[:, None, None] * np.eye(n)
    M = A @ sums.contracted(F) @ transposed(A) + half
    G = transposed(A) @ M @ A
    deviations = _deviation_slopes(model, sums, theta)
    v = k - len(deviations)
    pairs = _by_pairs(correlation, own, sums, scale, transposed(A) @ A)
    # directions with an U of their own
    first = 0 if pairs is None else v
    slopes, U = np.zeros((0, *L.shape)), np.zeros((k + len(each) - first, *L.shape))
    if v > first and n > 1:
        assert correlation is not None
        slopes = correlation_slopes(correlation, own, sums.coordinates) * scale
        np.matmul(A @ slopes, transposed(A), out=U[:v])
    # d (G R G) / d theta = diag(d) G R G + G R G diag(d)
    scaled = (A * deviations[..., None, :]) @ noise @ transposed(A)
    U[v - first : k - first] = scaled + transposed(scaled)
    loads = A @ sums.effects
    U[k - first :] = loads @ each[:, None] @ transposed(loads)
    flat, weighted = U.reshape(len(U), M.size), U @ (2.0 * M - half)
    by_each = sums.cross_products(-transposed(A) @ U @ A)
    gradient = -flat @ M.ravel()
    hessian = flat @ weighted.reshape(flat.shape).T
    # tr(A V_ij A' M) = sum_st G_st (V_ij)_st
    if pairs is not None:
        across = pairs.traces(transposed(A) @ weighted @ A)
        by_each = np.concatenate([pairs.cross_products(sums.matrices()), by_each])
        gradient = np.append(-pairs.traces(G[None])[:, 0], gradient)
        hessian = np.block(
            [[pairs.hessian(transposed(A) @ (2.0 * M - half) @ A), across], [across.T, hessian]]
        )
        cross = pairs.traces(-2.0 * deviations[..., None] * G).T
    else:
        cross = -2.0 * np.einsum("apn,ipn->ai", deviations, (G * slopes).sum(axis=-1))
    if pairs is not None or len(slopes):
        assert correlation is not None
        hessian[:v, :v] -= correlation_curvature(correlation, own, sums.coordinates, G * scale)
        hessian[v:k, :v] += cross
        hessian[:v, v:k] += cross.T
    if len(deviations):
        row_weights = G * noise
        row = row_weights.sum(axis=-1)
        spread = deviations * row + (row_weights @ deviations[..., None])[..., 0]
        hessian[v:k, v:k] -= 2.0 * np.einsum("apn,bpn->ab", deviations, spread)
        hessian[v:k, v:k] -= _deviation_curvature(model, sums, theta, 2.0 * row)
    return by_each, gradient, hessian


def _by_pairs(
    correlation: Correlation | None,
    theta: FloatArray,
    sums: PatternSums,
    scale: FloatArray,
    inverse: FloatArray,
) -> ByPairs | None:
    """For a correlation of visits with a parameter for nearly every two; else it does not pay."""
    if not isinstance(correlation, ByVisit) or sums.shape[1] == 1:
        return None
    v = len(correlation.visits.values)
    if 2 * len(theta) < v * (v - 1):
        return None
    places = correlation.visits.places(sums.coordinates)
    entry = (places[:, :, None] * v + places[:, None, :]).reshape(len(places), -1)
    return ByPairs(correlation.slopes_of_visits(theta), entry, scale, inverse)


def _deviation_slopes(model: ResidualModel, sums: PatternSums, theta: FloatArray) -> FloatArray:
    """Derivatives (v, P, n) of the log standard deviations by theta of the variance functions."""
    shape = sums.shape
    each = [
        deviation_slopes(part, own, seen).reshape(-1, *shape)
        for part, own, seen in model.variance_parts(theta, sums.covariates)
    ]
    return np.concatenate([np.zeros((0, *shape)), *each])


def _deviation_curvature(
    model: ResidualModel, sums: PatternSums, theta: FloatArray, weights: FloatArray
) -> FloatArray:
    """Second derivatives (v, v) of ``sum(weights * log standard deviations)``."""
    return block_diagonal(
        [
            deviation_curvature(part, own, seen, weights.ravel())
            for part, own, seen in model.variance_parts(theta, sums.covariates)
        ]
    )
