"""`Port`: what an input or output of a graph looks like, and arrays fitted to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine.runtime.placed import Placed

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes
    ----------
    name : str
    kind : str
        The type as onnxruntime writes it, ``tensor(int64)``.
    shape : tuple of int or str or None
        A number is fixed, a name or None is free.
    """

    name: str
    kind: str
    shape: tuple[int | str | None, ...]

    @cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """The NumPy dtype, or None for what NumPy has no word for."""
        found = DTYPES.get(self.kind)
        return None if found is None else np.dtype(found)

    def __str__(self) -> str:
        name = self.kind if self.dtype is None else self.dtype.name
        return f"{self.name} {name} [{', '.join(str(size or '?') for size in self.shape)}]"


def described_ports(described: Any) -> tuple[Port, ...]:
    """Return onnxruntime's own descriptions as ports."""
    return tuple(Port(each.name, each.type, tuple(each.shape or ())) for each in described)


def fitted(port: Port, value: Any) -> NDArray[Any]:
    """Return `value` as the array that `port` takes."""
    array = value if type(value) is np.ndarray else np.asarray(value)
    wanted = port.dtype
    if wanted is None:
        raise TypeError(f"input {port.name} is {port.kind}, which recengine cannot feed")
    if array.dtype != wanted:
        if not (np.can_cast(array.dtype, wanted, "safe") or _narrows(array, wanted)):
            raise TypeError(f"input {port.name} must be {wanted.name}, got {array.dtype}")
        array = array.astype(wanted)
    _check_shape(port, array.shape)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def check_placed(port: Port, placed: Placed) -> Placed:
    """Return `placed` if `port` takes it as it is."""
    if placed.dtype != port.dtype:
        raise TypeError(f"input {port} cannot take a placed array of {placed.dtype}")
    _check_shape(port, placed.shape)
    return placed


def _check_shape(port: Port, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(port.shape) and all(
        not isinstance(want, int) or want == size
        for size, want in zip(shape, port.shape, strict=True)
    )
    if port.shape and not fits:
        raise ValueError(f"input {port} cannot take shape {shape}")


def _narrows(array: NDArray[Any], wanted: np.dtype[Any]) -> bool:
    return bool(array.dtype == np.float64 and wanted == np.float32)
