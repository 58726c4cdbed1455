"""Item columns by ordinal: immutable, in chunks, so that a change copies and marks few of them.

A chunk covers 4,096 ordinals of every column. An update makes new chunks of those it touches and
shares the others with the state before; what was worked out for a chunk object therefore holds
for as long as that object is part of a state. Prepared filters rely on it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._types import Int64Array
from recengine.retrieval._cells import DTYPES, NO_TEXT, Cells, Vocabulary, as_kind, read_columns
from recengine.retrieval.predicate import OPERATORS, Condition, Mask, Predicate

CHUNK = 4096
Values: TypeAlias = NDArray[Any]
Chunk: TypeAlias = dict[str, tuple[Values, Mask]]  # column -> (values, which are present)
Test: TypeAlias = Callable[[Values], Mask]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one state of an index.

    Attributes
    ----------
    kinds : dict of str to str
        What each column holds, in the order given: "int", "float", "bool" or "str".
    texts : dict of str to Vocabulary
        Of the str columns, whose values are its numbers.
    chunks : tuple of Chunk
    n_rows : int
        How many ordinals they cover.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Vocabulary] = field(default_factory=dict)
    chunks: tuple[Chunk, ...] = ()
    n_rows: int = 0

    @classmethod
    def read(cls, columns: Any, n_rows: int) -> Columns:
        """Return the columns of a frame or a mapping of arrays (None: no columns)."""
        cells = {} if columns is None else read_columns("columns", columns, n_rows)
        kinds = {name: column.kind for name, column in cells.items()}
        texts = {name: Vocabulary() for name, kind in kinds.items() if kind == "str"}
        whole = {name: _stored(column, texts.get(name)) for name, column in cells.items()}
        return cls.chunked(kinds, texts, whole, n_rows)

    @classmethod
    def chunked(
        cls, kinds: Mapping[str, str], texts: Mapping[str, Vocabulary], whole: Chunk, n_rows: int
    ) -> Columns:
        """Return the columns whose cells for all ordinals are `whole`."""
        chunks = tuple(
            {
                name: (values[start : start + CHUNK], present[start : start + CHUNK])
                for name, (values, present) in whole.items()
            }
            for start in (range(0, n_rows, CHUNK) if kinds else ())
        )
        return cls(kinds, texts, chunks, n_rows)

    def whole(self, name: str) -> tuple[Values, Mask]:
        """Return the cells of one column for all ordinals."""
        parts = [chunk[name] for chunk in self.chunks or (self._empty_chunk(),)]
        values, present = zip(*parts, strict=True)
        return np.concatenate(values), np.concatenate(present)

    def upserted(self, n_rows: int, ordinals: Int64Array, fresh: Mask, columns: Any) -> Columns:
        """Return the columns after an upsert.

        Parameters
        ----------
        n_rows : int
            How many ordinals there are then.
        ordinals : ndarray (m,), int64
            The items, distinct.
        fresh : ndarray (m,), bool
            Which of them the index did not hold: what they are not given is missing.
        columns : frame or mapping of arrays (m,), or None
            Columns that are not given keep what they hold.
        """
        given = {} if columns is None else read_columns("columns", columns, len(ordinals))
        for name in given:
            self._require(name, "columns")
        if not self.kinds or not (given or fresh.any()):
            return self
        stored = {
            name: _stored(as_kind(name, cells, self.kinds[name]), self.texts.get(name))
            for name, cells in given.items()
        }
        numbers = ordinals // CHUNK
        chunks: list[Chunk] = list(self.chunks)
        chunks += [self._empty_chunk() for _ in range(len(chunks) * CHUNK, n_rows, CHUNK)]
        for number in np.unique(numbers).tolist():
            mine = np.flatnonzero(numbers == number)
            size = min(CHUNK, n_rows - number * CHUNK)
            rows = ordinals[mine] - number * CHUNK
            updates = {
                name: (values[mine], present[mine]) for name, (values, present) in stored.items()
            }
            chunks[number] = _changed(chunks[number], size, rows, fresh[mine], updates)
        return replace(self, chunks=tuple(chunks), n_rows=n_rows)

    def _empty_chunk(self) -> Chunk:
        like: Chunk = self.chunks[0] if self.chunks else {}
        return {
            name: (
                np.empty(0, like[name][0].dtype if name in like else DTYPES[kind][0]),
                np.empty(0, bool),
            )
            for name, kind in self.kinds.items()
        }

    def matcher(self, predicate: Predicate) -> Callable[[Chunk], Mask]:
        """Return what tells which items of a chunk match; refuses what it cannot tell.

        Raises
        ------
        ValueError
            An unknown column, or an operator that the column's kind does not have.
        TypeError
            A value of another kind.
        """
        tests = {condition: self._test(condition) for condition in predicate.conditions()}

        def matches(chunk: Chunk) -> Mask:
            def holds(condition: Condition) -> Mask:
                values, present = chunk[condition.column]
                return np.logical_and(tests[condition](values), present)

            return predicate.evaluate(holds)

        return matches

    def matching(self, predicate: Predicate) -> Mask:
        """Return which of all ordinals match. O(n_rows)."""
        matches = self.matcher(predicate)
        masks = [matches(chunk) for chunk in self.chunks]
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    def _require(self, name: str, argument: str) -> str:
        if name not in self.kinds:
            there = ", ".join(map(repr, self.kinds)) or "none"
            raise ValueError(f"{argument} must name columns of the index ({there}), got {name!r}")
        return self.kinds[name]

    def _test(self, condition: Condition) -> Test:
        kind = self._require(condition.column, "where")
        test = _tester(kind, condition, self.texts.get(condition.column))
        if condition.negated is (condition.operator == "ne"):
            return test
        return lambda values: ~test(values)


def _stored(cells: Cells, texts: Vocabulary | None) -> tuple[Values, Mask]:
    values = cells.values if texts is None else texts.codes(cells.values, cells.present)
    return values, cells.present


def _changed(chunk: Chunk, size: int, rows: Int64Array, fresh: Mask, updates: Chunk) -> Chunk:
    changed: Chunk = {}
    for name, (old_values, old_present) in chunk.items():
        values, present = np.zeros(size, old_values.dtype), np.zeros(size, bool)
        values[: len(old_values)] = old_values
        present[: len(old_present)] = old_present
        present[rows[fresh]] = False
        if name in updates:
            new_values, new_present = updates[name]
            values[rows] = np.where(new_present, new_values, NO_TEXT)
            present[rows] = new_present
        changed[name] = values, present
    return changed


def _tester(kind: str, condition: Condition, texts: Vocabulary | None) -> Test:
    """Return the test of values against eq (for "ne" too), in, lt, le, gt or ge."""
    name, value = condition.operator, condition.value
    ordered = name in _COMPARE
    if kind == "bool" and ordered:
        usable = ", ".join(other for other in OPERATORS if other not in _COMPARE)
        raise ValueError(
            f"where must use an operator of {usable} on the bool column {condition.column!r}, "
            f"got {name!r}"
        )
    options = value if isinstance(value, tuple) else (value,)
    for option in options:
        _check_kind(kind, condition.column, option)
    if texts is not None:
        return _text_tester(name, options, texts)
    if kind == "int" and ordered:
        bound = _whole(name, options[0])
        return lambda values: np.asarray(_COMPARE[name](values, bound))
    if kind == "int":
        whole = [int(v) for v in options if -(2**63) <= v < 2**63 and v == int(v)]  # type: ignore[operator]
        return _one_of(np.array(whole, np.int64))
    if kind == "bool":
        return _one_of(np.array(options, bool))
    return _float_tester(name, options)


def _float_tester(name: str, options: tuple[Any, ...]) -> Test:
    # What lies beyond float64, or beyond float32 in such a column, compares as infinity does.
    reals = [_as_float(option) for option in options]

    def test(values: Values) -> Mask:
        with np.errstate(over="ignore"):
            bounds = np.array(reals, np.float64).astype(values.dtype)
        if name in _COMPARE:
            return np.asarray(_COMPARE[name](values, bounds[0]))
        return _one_of(bounds)(values)

    return test


def _text_tester(name: str, options: tuple[Any, ...], texts: Vocabulary) -> Test:
    if name not in _COMPARE:
        return _one_of(np.array([texts.code(option) for option in options], np.int32))
    numbers = texts.numbers()
    table = np.zeros(max(numbers.values(), default=0) + 1, bool)
    for text, code in numbers.items():
        table[code] = _COMPARE[name](text, options[0])
    return lambda values: table[values]


def _one_of(options: Values) -> Test:
    if len(options) == 1:
        return lambda values: np.asarray(values == options[0])
    return lambda values: np.isin(values, options)


def _whole(name: str, value: Any) -> int:
    """Return the integer that stands for `value` in a comparison of integers with it."""
    near = max(-(2.0**64), min(value, 2.0**64)) if isinstance(value, float) else value
    return math.ceil(near) if name in ("lt", "ge") else math.floor(near)


def _as_float(value: Any) -> float:
    if isinstance(value, int) and abs(value) >= 2**1024:
        return math.inf if value > 0 else -math.inf
    return float(value)


def _check_kind(kind: str, column: str, value: Any) -> None:
    given = "bool" if isinstance(value, bool) else "str" if isinstance(value, str) else "number"
    if given != (kind if kind in ("bool", "str") else "number"):
        raise TypeError(
            f"where must compare column {column!r} with what it holds, {kind}, got {value!r}"
        )
