"""Checks that every array passes once, where it enters the library.

Nothing here knows what an array means: these functions turn what a user gave into a read-only float64 (or integer)
array of a stated shape, or raise :class:`~surefoot.errors.InvalidInput` with the name of the argument, the rule, the
index of the first offending entry, its value and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surefoot.errors import InvalidInput

__all__ = [
    "FloatArray",
    "IntArray",
    "ReadOnly",
    "as_floats",
    "check_integer",
    "check_probabilities",
    "check_real",
    "first_where",
    "freeze",
    "magnitude",
    "read_only",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

SIMPLEX_TOLERANCE = 1e-9


def freeze(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """A read-only, C-contiguous version of ``array`` that shares no memory with a writeable one."""
    frozen = np.array(array, copy=True, order="C")
    frozen.setflags(write=False)
    return frozen


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """A view of ``array`` that cannot be written to."""
    view = array.view()
    view.setflags(write=False)
    return view


class ReadOnly:
    """Mixin of immutable classes: their arrays stay read-only through copying and pickling.

    NumPy gives every copied or unpickled array back writeable. What never changes need not be copied, and what is unpickled is frozen.
    """

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            _freeze_in_place(value)
        self.__dict__.update(state)


def _freeze_in_place(value: Any) -> None:
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif isinstance(value, tuple):
        for item in value:
            _freeze_in_place(item)


def first_where(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true entry of ``mask`` as plain integers."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def entry(name: str, index: Sequence[int]) -> str:
    """How a message names one entry of an array: ``P[3, 1]``."""
    return f"{name}[{', '.join(str(i) for i in index)}]" if index else name


def as_floats(name: str, value: ArrayLike, shape: tuple[int | None, ...], *, infinite: bool = False) -> FloatArray:
    """``value`` as a read-only float64 array of ``shape`` (``None`` stands for any length), finite unless ``infinite`` allows infinities.

    Raises:
        InvalidInput: not numeric, complex, wrong number of axes, wrong lengths, NaN or (unless allowed) infinite entries.
    """
    array = _numeric(name, value)
    _check_shape(name, array, shape)
    bad = np.isnan(array) if infinite else ~np.isfinite(array)
    if bad.any():
        index = first_where(bad)
        rule = "a number or an infinity" if infinite else "finite"
        raise InvalidInput(
            f"{entry(name, index)} must be {rule}, got {array[index]}; remove or repair that entry",
            code="SF-ARGUMENT-FINITE",
        )
    return freeze(array)


def _numeric(name: str, value: ArrayLike) -> FloatArray:
    try:
        raw: NDArray[Any] = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(
            f"{name} must be a rectangular numeric array, got ragged rows; pad or check it", code="SF-ARGUMENT-SHAPE"
        ) from error
    if raw.dtype.kind not in "fiub":
        raise InvalidInput(
            f"{name} must hold real numbers, got dtype {raw.dtype}; convert it to float64", code="SF-ARGUMENT-TYPE"
        )
    return raw.astype(np.float64)


def _check_shape(name: str, array: FloatArray, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(want is None or got == want for got, want in zip(array.shape, shape))
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise InvalidInput(
            f"{name} must have shape {wanted}, got {array.shape}; check the order of the axes", code="SF-ARGUMENT-SHAPE"
        )


def magnitude(size: Any) -> Any:
    """What a relative tolerance multiplies for numbers of this ``size`` >= 0: ``size + 1`` above one and ``2 size`` below, so that zero has none.

    Above one this leaves an absolute part, as is usual; below one there is none, because what is tiny may be all there is.
    """
    return size + np.minimum(size, 1.0)


def check_probabilities(name: str, array: FloatArray) -> FloatArray:
    """``array`` itself, if its last axis holds probability vectors.

    Raises:
        InvalidInput: a negative entry, or a vector whose sum differs from one by more than ``1e-9``.
    """
    negative = array < 0.0
    if negative.any():
        index = first_where(negative)
        raise InvalidInput(
            f"{entry(name, index)} must be a probability >= 0, got {array[index]:g}; clip or fix it",
            code="SF-ARGUMENT-SIMPLEX",
        )
    sums = array.sum(axis=-1)
    off = np.abs(sums - 1.0) > SIMPLEX_TOLERANCE
    if off.any():
        index = first_where(off)
        total = float(sums[index])
        raise InvalidInput(
            f"{entry(name, index)} must sum to 1 within {SIMPLEX_TOLERANCE:g}, got {total:.12g}; normalise rows first",
            code="SF-ARGUMENT-SIMPLEX",
        )
    return array


def check_real(
    name: str,
    value: float,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """``value`` as a float inside the stated interval.

    Raises:
        InvalidInput: not a number, NaN, or outside.
    """
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    rule = f"must be a number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidInput(f"{name} {rule}, got {value!r}; pass a plain number", code="SF-ARGUMENT-TYPE")
    number = float(value)
    inside = (number > low if open_low else number >= low) and (number < high if open_high else number <= high)
    if not inside:
        raise InvalidInput(f"{name} {rule}, got {number:g}; choose a value inside", code="SF-ARGUMENT-RANGE")
    return number


def check_integer(name: str, value: int, *, low: int, high: int | None = None) -> int:
    """``value`` as an int with ``low <= value <= high``.

    Raises:
        InvalidInput: not an integer, or outside.
    """
    rule = f"must be an integer >= {low}" + ("" if high is None else f" and <= {high}")
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInput(f"{name} {rule}, got {value!r}; pass a whole number", code="SF-ARGUMENT-TYPE")
    if value < low or (high is not None and value > high):
        raise InvalidInput(f"{name} {rule}, got {int(value)}; choose a value inside", code="SF-ARGUMENT-RANGE")
    return int(value)
