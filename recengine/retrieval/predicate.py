"""Predicates over item columns: what `where` makes, `Columns` evaluates and a filter prepares.

A predicate is a tree of two joints, all-of and any-of, over conditions. There is no node for
"not": `~` turns every condition around and swaps the joints (De Morgan). So an item whose value is
missing matches neither a condition nor its opposite, however they are combined: Kleene's logic,
of which only "true" lets an item through.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Value: TypeAlias = bool | int | float | str
Mask: TypeAlias = NDArray[np.bool_]

OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "in")
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "in": "in"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One column held against one value (a tuple of values for "in")."""

    column: str
    operator: str
    value: Value | tuple[Value, ...]
    negated: bool = False

    def __str__(self) -> str:
        sign = _SIGNS[self.operator]
        text = f"{self.column} {sign} {self.value!r}"
        return f"not ({text})" if self.negated else text


@dataclass(frozen=True, slots=True)
class Predicate:
    """Which items a search may return, by their columns; made by `where`, combined by ``& | ~``.

    Immutable and hashable: two predicates are equal when they are written alike.

    Notes
    -----
    An item whose value is missing matches no condition on that column, nor its ``~``.
    """

    parts: tuple[Condition | Predicate, ...]
    every: bool = True

    def __and__(self, other: object) -> Predicate:
        return self._joined(other, every=True) if isinstance(other, Predicate) else NotImplemented

    def __or__(self, other: object) -> Predicate:
        return self._joined(other, every=False) if isinstance(other, Predicate) else NotImplemented

    def __invert__(self) -> Predicate:
        turned = (
            ~part if isinstance(part, Predicate) else replace(part, negated=not part.negated)
            for part in self.parts
        )
        return Predicate(tuple(turned), not self.every)

    def __bool__(self) -> bool:
        raise TypeError("a predicate has no truth value: combine with & | ~, not with and, or, not")

    def __str__(self) -> str:
        return f" {'&' if self.every else '|'} ".join(f"({part})" for part in self.parts)

    def __repr__(self) -> str:
        return f"<where {self}>"

    def _joined(self, other: Predicate, *, every: bool) -> Predicate:
        parts: list[Condition | Predicate] = []
        for side in (self, other):
            alike = side.every == every or len(side.parts) == 1
            parts += side.parts if alike else [side]
        return Predicate(tuple(parts), every)

    def conditions(self) -> Iterator[Condition]:
        """Walk over the conditions, left to right."""
        for part in self.parts:
            if isinstance(part, Predicate):
                yield from part.conditions()
            else:
                yield part

    def evaluate(self, test: Callable[[Condition], Mask]) -> Mask:
        """Return which items match, given which of them match each condition."""
        join = np.logical_and if self.every else np.logical_or
        masks = (
            part.evaluate(test) if isinstance(part, Predicate) else test(part)
            for part in self.parts
        )
        result = next(masks)
        for mask in masks:
            result = join(result, mask)
        return result


def where(**conditions: Any) -> Predicate:
    """Return the predicate of items that meet all the given conditions.

    Parameters
    ----------
    **conditions
        ``column=value`` or ``column__operator=value`` with one of eq, ne, lt, le, gt, ge, in. A
        column whose own name holds ``__`` needs its operator spelled out; one that is no
        identifier is given as ``where(**{"release date__ge": 1990})``. The value is a number, a
        bool or a str, as the column holds; for "in" a list, set or array of them. Text is ordered
        by code points.

    Returns
    -------
    Predicate
        For ``where=`` of `FlatIndex.filter` and `FlatIndex.search`.

    Raises
    ------
    ValueError
        No condition, an unknown operator, a value that is None or NaN (no item matches those).
    TypeError
        A value that is no number, bool or str, or for "in" no collection of them.

    Notes
    -----
    Missing values (None, NaN) never match, not even ``ne`` or under ``~``. Columns are looked up
    when the predicate meets an index: an unknown one is a ValueError there.

    Examples
    --------
    >>> import recengine as rec
    >>> rec.where(genre="Drama", year__ge=1990) | rec.where(price__lt=10)
    <where ((genre == 'Drama') & (year >= 1990)) | (price < 10)>
    """
    if not conditions:
        raise ValueError("where must be given at least one condition")
    return Predicate(tuple(_condition(key, value) for key, value in conditions.items()))


def _condition(key: str, value: Any) -> Condition:
    column, separator, operator = key.rpartition("__")
    if not separator:
        column, operator = key, "eq"
    if operator not in OPERATORS or not column:
        raise ValueError(f"where must use an operator of {', '.join(OPERATORS)}, got {key!r}")
    if operator != "in":
        return Condition(column, operator, _value(key, value))
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{key} must be a collection of values, got {type(value).__name__}")
    return Condition(column, operator, tuple(_value(key, entry) for entry in value))


def _value(key: str, value: Any) -> Value:
    if value is None:
        raise ValueError(f"{key} must not be None: missing values never match")
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            raise ValueError(f"{key} must not be NaN: missing values never match")
        return float(value)
    raise TypeError(f"{key} must be a number, bool or str, got {type(value).__name__}")
