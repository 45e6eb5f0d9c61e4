"""Frozen records whose arrays are read-only, and stay so through pickle, deepcopy and evolve."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

import attrs
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from lmmkit.errors import ShapeError

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int32]
_T = TypeVar("_T")
_SHOWN_IN_FULL = 24
_SMALL = 10_000
_FINITE: WeakValueDictionary[int, NDArray[Any]] = WeakValueDictionary()


def adopt(array: NDArray[Any]) -> NDArray[Any]:
    """Make ``array``, which the caller owns and gives away, read-only without a copy.

    The result is a view: its holder cannot make it writeable again.
    """
    array = np.asarray(array, order="C")
    _owner(array).flags.writeable = False
    array.flags.writeable = False
    return array.view()


def _owner(array: NDArray[Any]) -> NDArray[Any]:
    """The array of whose memory ``array`` is a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _is_read_only(array: NDArray[Any]) -> bool:
    base = array.base
    return not array.flags.writeable and isinstance(base, np.ndarray) and not base.flags.writeable


def frozen_array(value: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:
    """A C-contiguous read-only array of ``dtype``: a private copy, unless it is one already."""
    try:
        array = np.asarray(value, dtype=dtype, order="C")
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"expected an array of {np.dtype(dtype).name}, got {type(value).__name__}: {error}"
        ) from error
    if _is_read_only(array) and array.flags.c_contiguous:
        return array
    if array is value or np.may_share_memory(array, np.asarray(value)):
        array = array.copy(order="C")
    return adopt(array)


def _all_finite(array: NDArray[Any]) -> bool:
    """Whether all numbers are finite; views of one large read-only array are scanned once."""
    if array.size < _SMALL:
        return bool(np.isfinite(array).all())
    owner = _owner(array)
    if _FINITE.get(id(owner)) is owner and not owner.flags.writeable:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
    if finite and array.size == owner.size and not owner.flags.writeable:
        _FINITE[id(owner)] = owner
    return finite


def _checker(ndim: int | None, finite: bool) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    def check(record: Any, attribute: "attrs.Attribute[Any]", value: NDArray[Any]) -> None:
        name = f"{type(record).__name__}.{attribute.name}"
        if ndim is not None and value.ndim != ndim:
            raise ShapeError(f"{name}: expected {ndim} axes, got an array of shape {value.shape}")
        if finite and not _all_finite(value):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise ShapeError(
                f"{name}: expected finite numbers, got {value[where]} at position {where}"
            )

    return check


def float_array(ndim: int | None = None, *, finite: bool = True) -> Any:
    """A field that holds a read-only float64 array (of ``ndim`` axes, all finite)."""
    return attrs.field(converter=frozen_array, validator=_checker(ndim, finite))


def optional_float_array(ndim: int | None = None, *, default: None = None) -> Any:
    """As :func:`float_array`, or None."""
    return attrs.field(
        default=default,
        converter=attrs.converters.optional(frozen_array),
        validator=attrs.validators.optional(_checker(ndim, finite=True)),
    )


def int_array(ndim: int | None = None) -> Any:
    """A field that holds a read-only int32 array."""
    return attrs.field(
        converter=lambda value: frozen_array(value, np.int32),
        validator=_checker(ndim, finite=False),
    )


def float_arrays(ndim: int | None = None) -> Any:
    """A field that holds a tuple of read-only float64 arrays."""
    return attrs.field(
        converter=lambda values: tuple(frozen_array(value) for value in values),
        validator=attrs.validators.deep_iterable(_checker(ndim, finite=True)),
    )


def optional_float_arrays(ndim: int | None = None, *, default: tuple[()]) -> Any:
    """As :func:`float_arrays`, entries may be None."""
    check = attrs.validators.optional(_checker(ndim, finite=True))
    return attrs.field(
        default=default,
        converter=lambda values: tuple(v if v is None else frozen_array(v) for v in values),
        validator=attrs.validators.deep_iterable(check),
    )


def int_arrays(ndim: int | None = None) -> Any:
    """A field that holds a tuple of read-only int32 arrays."""
    return attrs.field(
        converter=lambda values: tuple(frozen_array(value, np.int32) for value in values),
        validator=attrs.validators.deep_iterable(_checker(ndim, finite=False)),
    )


def _seal(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    array.flags.writeable = False
    return array


def computed_array() -> Any:
    """A field for an array just computed: made read-only, neither copied nor checked."""
    return attrs.field(converter=_seal)


def adopted_array() -> Any:
    """A field for an array that is given away: as :func:`adopt` makes it."""
    return attrs.field(converter=adopt)


def require(condition: bool, message: str) -> None:
    """Raise :class:`ShapeError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ShapeError(message)


def same(a: Any, b: Any) -> bool:
    """Equality that reads arrays and series element by element and containers item by item."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if a is b:
        return True
    if isinstance(a, pl.Series | pl.DataFrame) or isinstance(b, pl.Series | pl.DataFrame):
        return type(a) is type(b) and a.equals(b)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def evolve(original: _T, **changes: Any) -> _T:
    """A copy of a record with some of its fields changed, validated like any other."""
    copy: _T = attrs.evolve(original, **changes)  # type: ignore[misc]
    return copy


def _equal(self: Any, other: Any) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return all(
        same(getattr(self, field.name), getattr(other, field.name))
        for field in attrs.fields(type(self))
        if field.eq
    )


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > _SHOWN_IN_FULL:
        return f"array of shape {value.shape}"
    if isinstance(value, pl.Series | pl.DataFrame):
        return f"{type(value).__name__} of shape {value.shape}"
    if isinstance(value, tuple) and len(value) > _SHOWN_IN_FULL:
        return f"tuple of {len(value)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _repr(self: Any) -> str:
    """Field by field; a large array by its shape."""
    fields = [field.name for field in attrs.fields(type(self)) if field.repr]
    shown = (f"{name}={_shown(getattr(self, name))}" for name in fields)
    return f"{type(self).__name__}({', '.join(shown)})"


def _rebuild(cls: type[_T], values: tuple[Any, ...]) -> _T:
    fields: Any = attrs.fields(cls)  # type: ignore[arg-type]
    return cls(**{field.alias: value for field, value in zip(fields, values, strict=True)})


def _reduce(self: Any) -> tuple[Any, ...]:
    fields = attrs.fields(type(self))
    return _rebuild, (type(self), tuple(getattr(self, field.name) for field in fields))


@dataclass_transform(
    frozen_default=True,
    field_specifiers=(
        attrs.field,
        float_array,
        optional_float_array,
        int_array,
        float_arrays,
        optional_float_arrays,
        int_arrays,
        computed_array,
        adopted_array,
    ),
)
def record(cls: type[_T]) -> type[_T]:
    """Class decorator: a frozen, slotted attrs class, compared field by field.

    Pickle and deepcopy rebuild a record through its constructor, so that its arrays come back
    read-only and its invariants are checked again.
    """
    cls.__eq__ = _equal  # type: ignore[method-assign]
    cls.__hash__ = None  # type: ignore[assignment]
    cls.__reduce__ = _reduce  # type: ignore[method-assign]
    if cls.__repr__ is object.__repr__:
        cls.__repr__ = _repr  # type: ignore[method-assign]
    return attrs.frozen(cls, eq=False, slots=True, repr=False)
