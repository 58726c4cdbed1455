"""The graph of a sequence model: which input is which, which output to take, one batch through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine.encoders.histories import laid_out
from recengine.encoders.running import UNLIMITED, Countdown
from recengine.encoders.sequence_options import SequenceOptions, fixed_length
from recengine.runtime import Buckets, Port, Session

ROLES = ("items", "mask", "positions", "recency", "lengths")
ALIASES = {
    "item_ids": "items",
    "input_ids": "items",
    "attention_mask": "mask",
    "position_ids": "positions",
}
REAL = ("tensor(float)", "tensor(float16)", "tensor(double)")


class SequenceGraph:
    """A session, read as a model of histories.

    Parameters
    ----------
    session : Session
    options : SequenceOptions
    buckets : Buckets, optional
        The shapes that batches are padded to.

    Attributes
    ----------
    dim : int or None
        Length of a vector, where the graph tells it.
    """

    def __init__(
        self, session: Session, options: SequenceOptions, buckets: Buckets | None = None
    ) -> None:
        self.session, self._options, self._buckets = session, options, buckets
        self._roles = roles_of(session, options)
        self._taken = _output(session, options.output)
        shape = session.outputs[self._taken].shape
        self.dim = shape[-1] if shape and isinstance(shape[-1], int) else None
        _check_lengths(session, options, buckets)

    def places(self, lengths: Int64Array) -> Int64Array:
        """Return how long each history is to the graph; 0 stays 0."""
        if self._options.pad_to == "longest":
            return lengths
        return np.where(lengths > 0, self._options.max_length, 0)

    def vectors(self, windows: list[Int64Array], countdown: Countdown = UNLIMITED) -> Float32Array:
        """Return (n, dim) for one batch; each window has at least one event.

        Parameters
        ----------
        windows : list of ndarray (m,), int64
        countdown : Countdown
        """
        feeds = self.feeds(windows)
        n_rows, length = feeds[self._roles["items"]].shape
        found = countdown.run(self.session, feeds)[self._taken]
        if found.ndim == 3 and found.shape[1] == length:
            found = found[:, -1]  # the newest event stands there
        if found.ndim != 2 or len(found) != n_rows or found.dtype.kind != "f":
            raise ValueError(
                f"output {self.session.outputs[self._taken].name} must be real and "
                f"({n_rows}, dim) or ({n_rows}, {length}, dim), got {found.dtype} of {found.shape}"
            )
        return found[: len(windows)].astype(np.float32)

    def feeds(self, windows: list[Int64Array]) -> dict[str, NDArray[Any]]:
        """Return what the graph takes for a batch, padded at the left to its shape.

        Rows beyond those of `windows` repeat the last one.
        """
        n_rows, options = len(windows), self._options
        length = options.max_length
        if options.pad_to == "longest":
            length = max(len(window) for window in windows)
        if self._buckets is not None:
            n_rows, length = self._buckets.fit(n_rows, length)
        filled = windows + windows[-1:] * (n_rows - len(windows))
        given = laid_out(filled, length, options.padding, options.max_length)
        ports = {port.name: port for port in self.session.inputs}
        return {
            name: given[role].astype(ports[name].dtype or np.int64)
            for role, name in self._roles.items()
        }


def roles_of(session: Session, options: SequenceOptions) -> dict[str, str]:
    """Return role -> name for every input of the graph.

    Raises
    ------
    ValueError
        If an input is none that is known, or cannot hold what it would be given.
    """
    ports = {port.name: port for port in session.inputs}
    named = dict(options.inputs)
    if wrong := [role for role in named if role not in ROLES]:
        raise ValueError(f"inputs must be of {', '.join(ROLES)}, got {wrong[0]!r}")
    if wrong := [name for name in named.values() if name not in ports]:
        listed = "; ".join(map(str, session.inputs))
        raise ValueError(f"inputs must name inputs of the graph ({listed}), got {wrong[0]!r}")
    if len(ports) == 1 and not named:
        named = {"items": session.inputs[0].name}
    for name in ports.keys() - set(named.values()):
        role = ALIASES.get(name, name)
        if role not in ROLES or role in named:
            raise ValueError(
                f"model must take {', '.join(ROLES)} (items at least), or say which input is "
                f"which: inputs={{'items': ...}}; {session.path.name} takes "
                f"{'; '.join(map(str, session.inputs))}"
            )
        named[role] = name
    if "items" not in named:
        raise ValueError(f"model must take items; {session.path.name} takes {', '.join(ports)}")
    for role, name in named.items():
        _check_port(role, ports[name], options)
    return named


def _check_port(role: str, port: Port, options: SequenceOptions) -> None:
    rank = 1 if role == "lengths" else 2
    if len(port.shape) not in (0, rank):
        raise ValueError(f"input {port} must have {rank} axes to hold {role}")
    if port.dtype is None or port.dtype.kind not in ("biuf" if role == "mask" else "iu"):
        raise ValueError(f"input {port} must hold integers to hold {role}")
    last = options.first_item + options.n_items - 1
    if role == "items":
        holds = np.iinfo(port.dtype)
        if not (holds.min <= options.padding <= holds.max and last <= holds.max):
            raise ValueError(f"input {port} must hold items up to {last} and {options.padding}")


def _output(session: Session, name: str) -> int:
    names = [port.name for port in session.outputs]
    if name:
        if name not in names:
            raise ValueError(f"output must be one of {', '.join(names)}, got {name!r}")
        return names.index(name)
    for number, port in enumerate(session.outputs):
        if port.kind in REAL and len(port.shape) in (0, 2, 3):
            return number
    raise ValueError(
        f"model must have an output (n, dim) or (n, length, dim); {session.path.name} gives "
        f"{'; '.join(map(str, session.outputs))}"
    )


def _check_lengths(session: Session, options: SequenceOptions, buckets: Buckets | None) -> None:
    fixed = fixed_length(session)
    if fixed and (fixed != options.max_length or options.pad_to == "longest"):
        raise ValueError(
            f"max_length must be {fixed} and pad_to 'max_length', as {session.path.name} is fixed "
            f"to that length, got {options.max_length} and {options.pad_to!r}"
        )
    whole = options.pad_to == "max_length"
    if buckets is not None and whole and buckets.lengths != (options.max_length,):
        raise ValueError(
            f"buckets[1] must be ({options.max_length},) with pad_to='max_length', "
            f"got {buckets.lengths}"
        )
