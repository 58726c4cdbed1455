"""Which rows are events: the rules, their order, and the account of what they dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_choice, as_count
from recengine.data._columns import Column, Mask
from recengine.data._id_tables import factorize

RULES = {
    "missing": "no user, item, weight or time",
    "out_of_range": "an id that is -1 or does not fit int64",
    "not_finite": "a weight or time that is NaN, infinite or too large",
    "negative_weight": "a weight below 0",
    "explicit_zero": "a weight of 0: seen, but no sign of liking",
    "duplicate": "merged into another event of the same user and item",
    "bot": "older than the user's latest max_events_per_user events",
}


@dataclass(frozen=True)
class CleaningRules:
    """What to do about each kind of bad row. The first rule that a row breaks counts it.

    Attributes
    ----------
    missing, out_of_range, not_finite : bool
        True drops such rows. They cannot be stored, so False makes them an error.
    negative_weight, explicit_zero : bool
        True drops rows with a weight below 0, or of 0; False keeps them.
    duplicate : {"sum", "last", "first", "keep"}
        What several events of one user with one item become. "sum": one event at the time and
        place of the last, with the weights added up, so that `to_csr` is the same as under
        "keep" and no time is told earlier than it was known. "last" and "first": that event
        alone (for ratings). "keep": all of them, the log as it came.
    max_events_per_user : int or None
        Keep only the latest this many events of each user, against bots; None keeps all.

    Notes
    -----
    The order is that of the attributes; the cap comes after merging. Latest means by time, then
    by input order; without times, by input order alone.
    """

    missing: bool = True
    out_of_range: bool = True
    not_finite: bool = True
    negative_weight: bool = True
    explicit_zero: bool = True
    duplicate: Literal["sum", "last", "first", "keep"] = "sum"
    max_events_per_user: int | None = None

    def __post_init__(self) -> None:
        for rule in fields(self)[:5]:
            value = getattr(self, rule.name)
            if not isinstance(value, bool):
                raise TypeError(f"{rule.name} must be a bool, got {type(value).__name__}")
        as_choice("duplicate", self.duplicate, ("sum", "last", "first", "keep"))
        if self.max_events_per_user is not None:
            as_count("max_events_per_user", self.max_events_per_user, minimum=1)

    @property
    def switched_off(self) -> tuple[str, ...]:
        """Names of the rules that drop nothing, as `CleaningReport` names them."""
        off = {
            "duplicate": self.duplicate == "keep",
            "bot": self.max_events_per_user is None,
        }
        return tuple(rule for rule in RULES if off.get(rule, getattr(self, rule, None) is False))


@dataclass(frozen=True)
class CleaningReport:
    """What cleaning did: ``n_read == n_kept + sum(dropped.values())``, always.

    Attributes
    ----------
    n_read, n_kept : int
        Rows that came in, events that stayed.
    dropped : dict of str to int
        Rows dropped by each rule, in the order of the rules, zeros included.
    switched_off : tuple of str
        The rules that were off.
    """

    n_read: int
    n_kept: int
    dropped: Mapping[str, int]
    switched_off: tuple[str, ...] = ()

    def table(self) -> list[tuple[str, int, str]]:
        """Return rows (rule, rows dropped, what the rule means or "off") for a screen."""
        return [
            (rule, count, "off" if rule in self.switched_off else RULES[rule])
            for rule, count in self.dropped.items()
        ]

    def __str__(self) -> str:
        lines = [f"{self.n_read:,} rows read, {self.n_kept:,} events kept"]
        for rule, count, meaning in self.table():
            if count or meaning == "off":
                lines.append(f"  {rule:<16}{count:>12,}  {meaning}")
        return "\n".join(lines)


@dataclass(frozen=True)
class RawEvents:
    """The columns of the events as they came; `weights` and `times` may be absent."""

    users: Column
    items: Column
    weights: Column | None = None
    times: Column | None = None


def clean(raw: RawEvents, rules: CleaningRules) -> tuple[Int64Array, Float32Array, CleaningReport]:
    """Return (rows to keep ascending (m,) int64, their weights (m,) float32, the report).

    Raises
    ------
    ValueError
        If rows break `missing`, `out_of_range` or `not_finite` while that rule is off.

    Notes
    -----
    O(n log n) time where duplicates or a cap have to be looked for in time order, O(n) memory.
    """
    n_read = len(raw.users)
    tally = _Tally(n_read, rules)
    columns = [c for c in (raw.users, raw.items, raw.weights, raw.times) if c is not None]
    numbers = [c for c in (raw.weights, raw.times) if c is not None]
    tally.refuse_or_drop("missing", _any(n_read, [column.missing for column in columns]))
    tally.refuse_or_drop("out_of_range", raw.users.invalid | raw.items.invalid)
    tally.refuse_or_drop("not_finite", _any(n_read, [column.invalid for column in numbers]))
    weights = np.ones(n_read, np.float32) if raw.weights is None else raw.weights.values
    tally.drop("negative_weight", (weights < 0) if rules.negative_weight else None)
    tally.drop("explicit_zero", (weights == 0) if rules.explicit_zero else None)
    times = None if raw.times is None else raw.times.values

    rows = np.flatnonzero(tally.alive)
    users, items = factorize(raw.users.values[rows])[1], factorize(raw.items.values[rows])[1]
    weights, times = weights[rows], None if times is None else times[rows]
    keep = np.ones(len(rows), bool)
    if rules.duplicate != "keep":
        keep, weights = _merge(users, items, weights, times, rules.duplicate)
        tally.count("duplicate", len(rows) - int(keep.sum()))
        if rules.explicit_zero:  # negative weights, when kept, can cancel what they are added to
            cancelled = keep & (weights == 0)
            tally.count("explicit_zero", int(cancelled.sum()))
            keep &= ~cancelled
    if rules.max_events_per_user is not None:
        capped = keep & ~_latest(users, times, keep, rules.max_events_per_user)
        tally.count("bot", int(capped.sum()))
        keep &= ~capped
    report = CleaningReport(n_read, int(keep.sum()), tally.dropped, rules.switched_off)
    return rows[keep], weights[keep], report


class _Tally:
    """Who is still alive, and which rule took the others."""

    def __init__(self, n_rows: int, rules: CleaningRules) -> None:
        self.alive = np.ones(n_rows, bool)
        self.dropped = dict.fromkeys(RULES, 0)
        self._rules = rules

    def refuse_or_drop(self, rule: str, broken: Mask) -> None:
        if not getattr(self._rules, rule) and (self.alive & broken).any():
            broken = self.alive & broken
            raise ValueError(
                f"{rule} is switched off, so every row must be without {RULES[rule]}; "
                f"{int(broken.sum())} are not, the first at row {int(broken.argmax())}"
            )
        self.drop(rule, broken)

    def drop(self, rule: str, broken: Mask | None) -> None:
        if broken is not None:
            self.count(rule, int((self.alive & broken).sum()))
            self.alive &= ~broken

    def count(self, rule: str, n_rows: int) -> None:
        self.dropped[rule] += n_rows


def _any(n_rows: int, masks: list[Mask]) -> Mask:
    return np.logical_or.reduce(masks) if masks else np.zeros(n_rows, bool)


def _merge(
    users: Int64Array,
    items: Int64Array,
    weights: Float32Array,
    times: Int64Array | None,
    how: str,
) -> tuple[Mask, Float32Array]:
    """Return (one event of each (user, item) to keep, weights with the sums in their places)."""
    pair = users * (items.max(initial=0) + 1) + items
    order = np.argsort(pair, kind="stable") if times is None else np.lexsort((times, pair))
    ordered = pair[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    keep = np.zeros(len(pair), bool)
    if len(starts) == len(pair):
        return ~keep, weights
    ends = np.r_[starts[1:], len(ordered)] - 1
    chosen = order[starts] if how == "first" else order[ends]
    keep[chosen] = True
    if how == "sum":
        sums = np.add.reduceat(weights[order].astype(np.float64), starts)
        limit = float(np.finfo(np.float32).max)
        weights = weights.copy()
        weights[chosen] = np.clip(sums, -limit, limit)
    return keep, weights


def _latest(users: Int64Array, times: Int64Array | None, alive: Mask, cap: int) -> Mask:
    """Return which of the living events are among the latest `cap` of their user."""
    rows = np.flatnonzero(alive)
    who = users[rows]
    order = np.argsort(who, kind="stable") if times is None else np.lexsort((times[rows], who))
    counts = np.bincount(who, minlength=int(who.max(initial=-1)) + 1)
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(rows))  # 1 for the latest
    latest = np.zeros(len(users), bool)
    latest[rows[order[from_end <= cap]]] = True
    return latest
