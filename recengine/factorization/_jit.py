"""How kernels are compiled: eagerly, for one signature, without the GIL, cached where possible."""

from __future__ import annotations

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

from numba import njit
from numba.core.types import Array, Type, float32, float64, int32, int64

READ_F32_2D = Array(float32, 2, "C", readonly=True)
READ_F64_2D = Array(float64, 2, "C", readonly=True)
READ_F32 = Array(float32, 1, "C", readonly=True)
READ_F64 = Array(float64, 1, "C", readonly=True)
READ_I32 = Array(int32, 1, "C", readonly=True)
READ_I64 = Array(int64, 1, "C", readonly=True)
F32_2D = Array(float32, 2, "C")
F64_2D = Array(float64, 2, "C")
F32 = Array(float32, 1, "C")
F64 = Array(float64, 1, "C")
I32 = Array(int32, 1, "C")
I64_2D = Array(int64, 2, "C")
READ_I64_2D = Array(int64, 2, "C", readonly=True)
F64_3D = Array(float64, 3, "C")


def inner(function: Callable[..., Any]) -> Any:
    """Return `function` for use inside kernels: compiled and cached as a part of its callers."""
    return njit(function, nogil=True)


def kernel(result: Type, *arguments: Type) -> Callable[[Callable[..., Any]], Any]:
    """Return a compiler for one signature.

    Notes
    -----
    The machine code is cached beside the source, or in the user's cache folder where the package
    is read-only. Where neither can be written (read-only containers, a full disk) or a cache file
    is damaged, the kernel is compiled for this process only: a cache saves time, never decides.
    """
    signature = result(*arguments)

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, nogil=True, cache=True)(function)
        except (OSError, EOFError, UnpicklingError):
            return njit(signature, nogil=True)(function)
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            return njit(signature, nogil=True)(function)

    return compiled
