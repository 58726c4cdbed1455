"""`Placed`: an array that lies where a session runs, and serves many runs from there."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import DeviceError


class Placed:
    """An array on a device; made by `Session.place`.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    nbytes : int
        Bytes it holds on the device. On the CPU it is the array that was given, not a copy.

    Notes
    -----
    Immutable; may serve runs of many threads and sessions of one device. On a GPU it belongs to the
    process that made it: a forked child places its own.
    """

    __slots__ = ("_pid", "_value", "device", "dtype", "nbytes", "shape")

    def __init__(self, ort: Any, array: NDArray[Any], where: tuple[str, int], device: str) -> None:
        self._value = ort.OrtValue.ortvalue_from_numpy(array, *where)
        self._pid = os.getpid()
        self.device = device
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes

    def value(self, device: str) -> Any:
        """Return the OrtValue, for a run on `device`.

        Raises
        ------
        DeviceError
            If it lies elsewhere, or was placed by a process that this one was forked from.
        """
        if self.device != device:
            raise DeviceError(f"an array placed on {self.device} cannot serve a run on {device}")
        if self._pid != os.getpid() and device != "cpu":
            raise DeviceError("an array placed on a GPU before a fork must be placed anew")
        return self._value

    def __repr__(self) -> str:
        return f"Placed({np.dtype(self.dtype).name}{list(self.shape)}, {self.device!r})"
