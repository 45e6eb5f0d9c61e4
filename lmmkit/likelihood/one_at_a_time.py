"""Leading parameter axes where several grouping factors are eliminated together."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from lmmkit.likelihood.charts import Params, matrices_of
from lmmkit.parameters.natural import NaturalParams
from lmmkit.records import FloatArray, evolve

_Method = TypeVar("_Method", bound=Callable[..., Any])


def one_at_a_time(method: _Method) -> _Method:
    """A method of an objective that loops over leading axes, unless it has one factor only."""

    @wraps(method)
    def looping(self: Any, params: Params) -> Any:
        lead = () if self.system.one_factor else _lead(params)
        if not lead:
            return method(self, params)
        found = [method(self, _entry(params, lead, at)) for at in np.ndindex(lead)]
        return _stacked(found, lead)

    return cast(_Method, looping)


def _lead(params: Params) -> tuple[int, ...]:
    """Leading axes; none for what is no record of parameters, which the method refuses."""
    if not isinstance(params, Params):
        return ()
    shapes = [matrix.shape[:-2] for matrix in matrices_of(params)]
    if params.beta is not None:
        shapes.append(params.beta.shape[:-1])
    if isinstance(params, NaturalParams):
        shapes.append(np.shape(params.sigma2))
    return np.broadcast_shapes(*shapes)


def _entry(params: Params, lead: tuple[int, ...], at: tuple[int, ...]) -> Params:
    def chosen(array: FloatArray, own: int) -> FloatArray:
        own_shape = array.shape[array.ndim - own :]
        return np.array(np.broadcast_to(array, (*lead, *own_shape))[at])

    name = _matrices_name(params)
    changes: dict[str, Any] = {name: tuple(chosen(m, 2) for m in matrices_of(params))}
    if params.beta is not None:
        changes["beta"] = chosen(params.beta, 1)
    if isinstance(params, NaturalParams):
        changes["sigma2"] = chosen(np.asarray(params.sigma2), 0)
    return evolve(params, **changes)


def _matrices_name(params: Params) -> str:
    return {"NaturalParams": "psi", "ProfileParams": "psi_rel", "SquareRootParams": "factor"}[
        type(params).__name__
    ]


def _stacked(found: list[Any], lead: tuple[int, ...]) -> Any:
    def joined(arrays: list[Any]) -> FloatArray:
        stack = np.stack([np.asarray(array) for array in arrays])
        return stack.reshape(*lead, *stack.shape[1:])

    if not isinstance(found[0], NaturalParams):
        return joined(found)
    return NaturalParams(
        psi=tuple(joined(list(each)) for each in zip(*(p.psi for p in found), strict=True)),
        sigma2=joined([p.sigma2 for p in found]),
        beta=joined([p.beta for p in found]),
    )
