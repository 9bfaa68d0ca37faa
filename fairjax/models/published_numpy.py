"""NumPy values of a pickle, as data: types of numbers, single numbers, arrays.

NumPy makes each of them by a call and fills it with a state. The functions here stand for those
calls; they look at types and sizes and call nothing. Flows in: what `inert_pickle.Machine` read.
Flows out: numbers of Python and arrays that are views of the file.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fairjax.models.inert_pickle import Refused

MAX_DIMENSIONS = 8
NDARRAY = "numpy.ndarray"  # stands for the class; text cannot be called


class Type(NamedTuple):
    """A type that numbers may have; never that of a Python object."""

    code: str

    def dtype(self) -> np.dtype[Any]:
        """Little-endian: `set_state` refuses the other order."""
        return np.dtype("?" if self.code == "b1" else "<" + self.code)


class Array:
    """An array that the file described so far; `values` follow with its state."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: np.ndarray | None = None


def _type(code: Any, *_: Any) -> Type:
    if type(code) is not str or code not in ("f2", "f4", "f8", "i2", "i4", "i8", "u1", "b1"):
        raise Refused(f"a number of the type {str(code)[:20] if type(code) is str else 'unknown'}")
    return Type(code)


def _number(kind: Any, data: Any) -> float | int | bool:
    if not isinstance(kind, Type) or not isinstance(data, bytes | memoryview):
        raise Refused("a number without its bytes")
    if len(data) != kind.dtype().itemsize:
        raise Refused("a number with too many or too few bytes")
    value: float | int | bool = np.frombuffer(data, kind.dtype())[0].item()
    return value


def _array(kind: Any, *_: Any) -> Array:
    if kind != NDARRAY:
        raise Refused("an array of another class than NumPy's")
    return Array()


def set_state(target: Any, state: Any) -> None:
    """Takes the state of a type (its byte order) or of an array (shape, type, order, bytes).

    Raises Refused where it is of another form, or the bytes are not those of the shape.
    """
    if isinstance(target, Array) and target.values is None:
        target.values = _values(state)
        return
    if not isinstance(target, Type) or type(state) is not tuple or len(state) < 2:
        raise Refused("a state that does not occur in such a file")
    if state[1] not in ("<", "|"):
        raise Refused("it was written on a big-endian machine")


def _values(state: Any) -> np.ndarray:
    if type(state) is not tuple or len(state) != 5:
        raise Refused("an array with another state than usual")
    _, shape, kind, columns_first, data = state
    if not isinstance(kind, Type) or not isinstance(data, bytes | memoryview):
        raise Refused("an array without its type or its bytes")
    if type(shape) is not tuple or any(type(size) is not int or size < 0 for size in shape):
        raise Refused("an array whose shape is not of whole numbers from 0 up")
    if columns_first is not False or len(shape) > MAX_DIMENSIONS:
        raise Refused("an array in another order, or with more dimensions, than usual")
    if math.prod(shape) * kind.dtype().itemsize != len(data):
        raise Refused(f"an array of shape {shape} with {len(data)} bytes"[:200])
    return np.frombuffer(data, kind.dtype()).reshape(shape)


NAMES: dict[tuple[str, str], Any] = {("numpy", "dtype"): _type, ("numpy", "ndarray"): NDARRAY}
for core in ("core", "_core"):  # the second one since NumPy 2
    NAMES[f"numpy.{core}.multiarray", "scalar"] = _number
    NAMES[f"numpy.{core}.multiarray", "_reconstruct"] = _array
