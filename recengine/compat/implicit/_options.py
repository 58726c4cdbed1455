"""Options that are read in another way here or refused, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from recengine._errors import DeviceError
from recengine._validation import as_generator


def check_options(dtype: Any, use_gpu: Any) -> None:
    """Refuse what is not done here: other precisions, and training on a GPU."""
    if np.dtype(dtype) != np.float32:
        raise ValueError(f"dtype must be float32, got {np.dtype(dtype).name}")
    if use_gpu:
        raise DeviceError(f"use_gpu must be False, got {use_gpu!r}: factors are trained on the CPU")


def as_draw(random_state: Any) -> np.random.Generator:
    """Return a Generator from an int, a Generator, a legacy RandomState or None."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(int(random_state.randint(2**31)))
    return as_generator(random_state)


def write_npz(file: Any, values: Mapping[str, Any]) -> None:
    """Write an .npz of arrays and numbers as implicit does, without what is None."""
    plain = dict(values) | {"dtype": "float32"}
    if not isinstance(plain["random_state"], int | np.integer):
        del plain["random_state"]  # a generator belongs to the process
    np.savez(file, **{name: value for name, value in plain.items() if value is not None})


def read_npz(file: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what an .npz holds under `names`, numbers as Python's; runs nothing in it."""
    path = file if not isinstance(file, str) or file.endswith(".npz") else f"{file}.npz"
    with np.load(path, allow_pickle=False) as data:
        held = {name: data[name] for name in names if name in data}
    return {name: value if value.ndim else value.item() for name, value in held.items()}
