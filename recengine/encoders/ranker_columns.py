"""Which column feeds which input of a ranking graph, and arrays made of columns.

A column is named by whose it is: ``user.age`` and ``context.hour`` have one value a request,
``item.year`` one a candidate, ``candidate.score`` what the stage before has said of it. An input
takes the column it is named after (``user.age``, ``user_age`` or ``user/age``), or the one that the
option `inputs` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._validation import refuse_masked, refuse_set
from recengine.runtime import Port

ROLES = ("user", "item", "context", "candidate")
SCORE = "candidate.score"
_NAMED = re.compile(rf"({'|'.join(ROLES)})[._/](.+)", re.DOTALL)


class Column(NamedTuple):
    """A column and whose it is."""

    role: str
    name: str

    def __str__(self) -> str:
        return f"{self.role}.{self.name}"

    @property
    def is_per_item(self) -> bool:
        """Whether it has a value for each candidate."""
        return self.role in ("item", "candidate")


class Given(NamedTuple):
    """What a request gives: columns by name. `scores` is what the stage before has said."""

    user: Mapping[str, Any]
    item: Mapping[str, Any]
    context: Mapping[str, Any]
    scores: NDArray[np.float32] | None

    def value(self, column: Column) -> Any:
        """Return a column as it was given, None where it was not."""
        if column.role == "candidate":
            return self.scores
        columns: Mapping[str, Any] = getattr(self, column.role)
        return columns.get(column.name)


def as_column(name: str, value: Any) -> Column:
    """Return ``"role.name"`` as a `Column`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    role, dot, rest = value.partition(".")
    if role not in ROLES or not dot or not rest or (role == "candidate" and value != SCORE):
        raise ValueError(
            f"{name} must be 'user.', 'item.' or 'context.' and a column, or {SCORE!r}, "
            f"got {value!r}"
        )
    return Column(role, rest)


def named_after(port: Port) -> Column | None:
    """Return the column that an input is named after."""
    found = _NAMED.fullmatch(port.name)
    if found is None or (found[1] == "candidate" and found[2] != "score"):
        return None
    return Column(found[1], found[2])


def n_candidates(columns: tuple[Column, ...], given: Given) -> int:
    """Return for how many candidates a request gives columns."""
    lengths: dict[str, int] = {}
    for column in columns:
        value = given.value(column) if column.is_per_item else None
        if value is not None:
            if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
                raise TypeError(
                    f"{column} must have an entry a candidate, got {type(value).__name__}"
                )
            lengths[str(column)] = len(value)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"items must have columns of one length, got {listed}")
    return next(iter(lengths.values()), 0)


class Feature(NamedTuple):
    """One input of a graph and how its column becomes an array.

    Attributes
    ----------
    port : Port
    column : Column
    vocabulary : dict of str to int, or None
        The number of each str, from 1; any other str, and None, is 0.
    missing : float or None
        What stands for NaN and None among numbers.
    """

    port: Port
    column: Column
    vocabulary: Mapping[str, int] | None
    missing: float | None

    def array(self, value: Any, n_rows: int) -> NDArray[Any]:
        """Return the column of `n_rows` candidates, as the graph takes it."""
        refuse_masked(str(self.column), value)
        refuse_set(str(self.column), value)
        array = np.asarray(value)
        if array.dtype.kind in "OUT":
            array = self._numbered(array)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.column} must hold numbers or str, got dtype {array.dtype}")
        array = self._cast(self._filled(array))
        if not self.column.is_per_item:
            array = np.broadcast_to(array, (n_rows, *array.shape))
        ends_in_one = array.ndim == 1 and len(self.port.shape) == 2
        return array[:, None] if ends_in_one else array

    def _numbered(self, array: NDArray[Any]) -> NDArray[Any]:
        flat = array.ravel().tolist()
        if all(entry is None or isinstance(entry, int | float) for entry in flat):
            numbers = [np.nan if entry is None else float(entry) for entry in flat]
            return np.array(numbers).reshape(array.shape)
        if self.vocabulary is None:
            raise TypeError(f"{self.column} must hold numbers, or be in vocabularies, got str")
        numbers = [0 if entry is None else self.vocabulary.get(entry, 0) for entry in flat]
        return np.array(numbers, np.int64).reshape(array.shape)

    def _filled(self, array: NDArray[Any]) -> NDArray[Any]:
        if array.dtype.kind != "f":
            return array
        gone = np.isnan(array)
        if not gone.any():
            return array
        if self.vocabulary is not None:  # a column of str of which none is known
            return np.where(gone, 0, array)
        if self.missing is None:
            raise ValueError(
                f"{self.column} must not be missing, got {int(gone.sum())} of {gone.size}: say "
                f"what stands for it, missing={{{str(self.column)!r}: ...}}"
            )
        return np.where(gone, self.missing, array)

    def _cast(self, array: NDArray[Any]) -> NDArray[Any]:
        wanted = self.port.dtype
        if wanted is None:
            raise TypeError(f"input {self.port} cannot be fed: give it numbers by vocabularies")
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(wanted)
            same = cast == array if wanted.kind in "biu" else np.isfinite(cast)
        if not same.all():
            bad = array[~same].flat[0]
            raise ValueError(f"{self.column} must fit {wanted.name}, got {bad}")
        return cast


def features_of(
    ports: tuple[Port, ...],
    inputs: Mapping[str, str],
    vocabularies: Mapping[str, Any],
    missing: Mapping[str, float],
    listed: str,
) -> tuple[Feature, ...]:
    """Return the features of a graph's inputs.

    Parameters
    ----------
    ports : tuple of Port
        Those that are no text.
    inputs, vocabularies, missing : mapping
        As of `OnnxRanker`; vocabularies and missing by column.
    listed : str
        All inputs of the graph, for messages.
    """
    names = [port.name for port in ports]
    if unknown := sorted(set(inputs) - set(names)):
        raise ValueError(f"inputs must name inputs of the model, got {unknown}; it has: {listed}")
    features = []
    for port in ports:
        column = named_after(port)
        if port.name in inputs:
            column = as_column(f"inputs[{port.name!r}]", inputs[port.name])
        if column is None:
            raise ValueError(
                f"inputs must say which column feeds {port.name!r}: it is not named after one, as "
                f"'user.age' is; the model has: {listed}"
            )
        words = vocabularies.get(str(column))
        numbers = None if words is None else {word: i for i, word in enumerate(words, 1)}
        features.append(Feature(port, column, numbers, missing.get(str(column))))
    known = {str(feature.column) for feature in features}
    for name, given in (("vocabularies", vocabularies), ("missing", missing)):
        if unknown := sorted(set(given) - known):
            raise ValueError(f"{name} must be of {sorted(known)}, got {unknown}")
    return tuple(features)
