"""Read the tensors of a PyTorch state dict without PyTorch, and without executing anything.

A ``.pth`` of the old format (before PyTorch 1.6) is five pickles (magic number, version, system,
the dict, the keys of its storages) and then the storages, each as a count and raw numbers. A pickle
is a program; here its instructions are *read* by `pickletools` and obeyed by a small machine of our
own, which knows numbers, texts, containers and two calls: an empty ``OrderedDict``, and a tensor
rebuilt from a storage. Any other name or instruction is refused before anything has happened.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
DICT, REBUILD = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINSTRING")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    """A global that a pickle names: a word here, never an object."""

    text: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


_MARK = _Mark()


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a ``.pth`` file by name.

    Parameters
    ----------
    path : Path
        A state dict saved in PyTorch's format from before 1.6.

    Returns
    -------
    dict of str to ndarray
        In the order of the file; read-only.

    Raises
    ------
    BundleError
        If it is another format, damaged, or asks for anything but tensors.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise BundleError(f"{path} is a zip; only PyTorch's format from before 1.6 is read")
        file.seek(0)
        try:
            magic, protocol, system, tensors, keys = (_obeyed(file) for _ in range(5))
            if magic != MAGIC or protocol != PROTOCOL or not system["little_endian"]:
                raise BundleError("it has not the marks of a state dict")
            named = [(name, value) for name, value in tensors.items() if type(name) is str]
            if len(named) != len(tensors) or any(type(t) is not _Tensor for _, t in named):
                raise BundleError("it must be a dict from names to tensors")
            sizes = {tensor.storage.key: tensor.storage for _, tensor in named}
            if sorted(keys) != sorted(sizes):
                raise BundleError("its storages are not those of its tensors")
            storages = {key: _storage(file, sizes[key]) for key in keys}
            return {name: _viewed(tensor, storages[tensor.storage.key]) for name, tensor in named}
        except BundleError as error:
            raise BundleError(f"{path} cannot be read as a state dict: {error}") from None
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise BundleError(f"{path} is damaged: {error!r}") from error


def _obeyed(file: BinaryIO) -> Any:
    """Return what one pickle describes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, value in _instructions(file):
        if code in _VALUES:
            stack.append(value)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code == "MARK":
            stack.append(_MARK)
        elif code == "TUPLE":
            stack.append(tuple(_to_mark(stack)))
        elif code in _TUPLES:
            items = tuple(stack[-_TUPLES[code] :])
            stack[-_TUPLES[code] :] = [items]
        elif code in ("BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif code in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if code == "SETITEM" else _to_mark(stack)
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif code == "APPENDS":
            items = tuple(_to_mark(stack))
            stack[-1].extend(items)
        elif code == "GLOBAL":
            stack.append(_named(value))
        elif code == "BINPERSID":
            stack.append(_described(stack.pop()))
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif code == "BUILD":  # attributes of the dict (its versions): not wanted
            stack.pop()
        elif code == "STOP":
            return stack.pop()
        elif code != "PROTO":
            raise BundleError(f"it holds the instruction {code}, which no state dict needs")
    raise BundleError("it ends early")


def _instructions(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    for code, value, _ in pickletools.genops(file):
        yield code.name, value


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _named(text: str) -> _Name:
    if text not in (DICT, REBUILD) and text not in DTYPES:
        raise BundleError(f"it names {text!r}, which is no part of a state dict")
    return _Name(text)


def _described(described: Any) -> _Storage:
    kind, name, key, _, size, view = described
    if kind != "storage" or type(key) is not str or view is not None:
        raise BundleError("it describes a storage in another way than PyTorch")
    return _Storage(key, DTYPES[name.text], _count(size))


def _called(name: Any, arguments: Any) -> Any:
    if name == _Name(DICT) and arguments == ():
        return {}
    if name != _Name(REBUILD):
        raise BundleError(f"it calls {name!r}")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not _Storage or len(shape) != len(strides):
        raise BundleError("it describes a tensor in another way than PyTorch")
    return _Tensor(storage, _count(offset), tuple(map(_count, shape)), tuple(map(_count, strides)))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise BundleError(f"a size in it must be an integer >= 0, got {value!r}")
    return value


def _storage(file: BinaryIO, told: _Storage) -> NDArray[Any]:
    size = int.from_bytes(file.read(8), "little")
    content = file.read(min(size, told.size) * told.dtype.itemsize)
    if size != told.size or len(content) != size * told.dtype.itemsize:
        raise BundleError("it ends early, or its sizes do not agree")
    return np.frombuffer(content, told.dtype)


def _viewed(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    """Return a tensor as a view of its storage, never beyond it."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    n_values = math.prod(tensor.shape)
    if n_values > len(storage) or (n_values and last >= len(storage)):
        raise BundleError("a tensor in it reaches beyond its storage")
    itemsize = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        [stride * itemsize for stride in tensor.strides],
        writeable=False,
    )
