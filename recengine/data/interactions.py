"""The event log that everything else is trained on and measured against."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import UnknownUserError
from recengine._types import Float32Array, IdArray, Int64Array
from recengine._validation import as_indices
from recengine.data import split
from recengine.data._columns import id_column, time_column, weight_column
from recengine.data._frames import raw_from_frame, read_table
from recengine.data._id_tables import factorize
from recengine.data.cleaning import CleaningReport, CleaningRules, RawEvents, clean
from recengine.data.ids import IdMap
from recengine.data.recency import Recency

if TYPE_CHECKING:
    from scipy import sparse

DEFAULT_RULES = CleaningRules()


class Interactions(Recency):
    """Cleaned events of users with items, in the order in which they came; immutable.

    Made by `from_frame`, `from_arrays` or `read`. The constructor takes parts that are clean
    already, as a split or a loader has them.

    Parameters
    ----------
    users, items : IdMap
        Row number ↔ id. Those made here are ascending by id and hold no id without an event;
        a split keeps its parent's.
    user_indices, item_indices : ndarray (n_events,), int64
        Row numbers of each event.
    weights : ndarray (n_events,), float32, optional
        1 when omitted.
    timestamps : ndarray (n_events,), int64, optional
        Seconds since 1970 (UTC).
    report : CleaningReport, optional
        What cleaning dropped on the way here; that of the parent in a split.

    Raises
    ------
    ValueError
        If a row number or the length of an array does not fit.
    """

    __slots__ = (
        "_by_user",
        "item_indices",
        "items",
        "report",
        "timestamps",
        "user_indices",
        "users",
        "weights",
    )

    def __init__(
        self,
        users: IdMap,
        items: IdMap,
        user_indices: Int64Array,
        item_indices: Int64Array,
        weights: Float32Array | None = None,
        timestamps: Int64Array | None = None,
        report: CleaningReport | None = None,
    ) -> None:
        n = len(user_indices)
        weights = np.ones(n, np.float32) if weights is None else weights
        others: dict[str, Any] = {
            "item_indices": item_indices,
            "weights": weights,
            "timestamps": timestamps,
        }
        for name, array in others.items():
            if array is not None and len(array) != n:
                raise ValueError(f"{name} must have one entry per event ({n}), got {len(array)}")
        self.users = users
        self.items = items
        self.user_indices = _frozen(as_indices("user_indices", user_indices, size=len(users)))
        self.item_indices = _frozen(as_indices("item_indices", item_indices, size=len(items)))
        self.weights = _frozen(np.array(weights, np.float32))
        self.timestamps = None if timestamps is None else _frozen(np.array(timestamps, np.int64))
        self.report = CleaningReport(n, n, {}) if report is None else report
        self._by_user: tuple[Int64Array, Int64Array] | None = None

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        columns: Mapping[str, str | None] | None = None,
        rules: CleaningRules = DEFAULT_RULES,
    ) -> Interactions:
        """Take the events of a pandas or polars DataFrame or an Arrow Table.

        Parameters
        ----------
        frame : table with columns user_id, item_id and, where present, weight and datetime
            Ids are integers, str or categories; weights are numbers; datetime is a datetime or
            date (UTC where it has no zone) or a number of seconds since 1970.
        columns : dict, optional
            The frame's name of a column for each of those four, where it is another one, e.g.
            ``{"user_id": "uid"}``; None leaves an optional column out, e.g. ``{"weight": None}``.
        rules : CleaningRules
            What to drop.

        Raises
        ------
        ValueError
            If a column is not there, or rows break a rule that is switched off and cannot be.
        TypeError
            If the frame or a column is of a kind that cannot be meant.
        """
        return cls._from_raw(raw_from_frame(frame, columns), rules)

    @classmethod
    def from_arrays(
        cls,
        user_ids: Any,
        item_ids: Any,
        weights: Any = None,
        timestamps: Any = None,
        rules: CleaningRules = DEFAULT_RULES,
    ) -> Interactions:
        """Take the events from parallel arrays or lists; None in a list is a missing entry.

        Parameters
        ----------
        user_ids, item_ids : array-like (n,), integers or str
        weights : array-like (n,), numbers, optional
            1 when omitted.
        timestamps : array-like (n,), optional
            Seconds since 1970, datetime64 or datetimes (UTC where they have no zone).
        rules : CleaningRules
            What to drop.

        Raises
        ------
        ValueError
            If lengths differ, or rows break a rule that is switched off and cannot be.
        TypeError
            If an array is of a kind that cannot be meant.
        """
        users = id_column("user_ids", user_ids)
        raw = RawEvents(
            users=users,
            items=id_column("item_ids", item_ids),
            weights=None if weights is None else weight_column("weights", weights),
            times=None if timestamps is None else time_column("timestamps", timestamps),
        )
        for name in ("items", "weights", "times"):
            column = getattr(raw, name)
            if column is not None and len(column) != len(users):
                argument = {"items": "item_ids", "times": "timestamps"}.get(name, name)
                raise ValueError(
                    f"{argument} must have one entry per user id ({len(users)}), got {len(column)}"
                )
        return cls._from_raw(raw, rules)

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        columns: Mapping[str, str | None] | None = None,
        rules: CleaningRules = DEFAULT_RULES,
    ) -> Interactions:
        """Take the events of a .csv, .tsv, .parquet or RecBole .inter file.

        Parameters
        ----------
        path : str or path
            Text files have a header. In .inter files the types behind the names are dropped, and
            rating and timestamp are the weight and the datetime.
        columns, rules
            As for `from_frame`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ImportError
            If polars is not installed (``pip install 'recengine[data]'``).
        ValueError
            If the suffix is another, a column is not there, or a time cannot be read.

        Notes
        -----
        In text files a column whose every entry is a number is numbers: "007" becomes 7. Read
        such ids as str with a frame library of your own and use `from_frame`.
        """
        return cls.from_frame(read_table(Path(path), columns), rules=rules)

    @classmethod
    def _from_raw(cls, raw: RawEvents, rules: CleaningRules) -> Interactions:
        if not isinstance(rules, CleaningRules):
            raise TypeError(f"rules must be CleaningRules, got {type(rules).__name__}")
        rows, weights, report = clean(raw, rules)
        user_ids, user_indices = factorize(raw.users.values[rows])
        item_ids, item_indices = factorize(raw.items.values[rows])
        times = None if raw.times is None else raw.times.values[rows]
        users, items = IdMap(user_ids), IdMap(item_ids)
        return cls(users, items, user_indices, item_indices, weights, times, report)

    @property
    def n_users(self) -> int:
        """Rows of the matrix: users in the map, also those without an event in this split."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Columns of the matrix: items in the map, also those without an event in this split."""
        return len(self.items)

    def __len__(self) -> int:
        return len(self.user_indices)

    def __repr__(self) -> str:
        return f"Interactions({len(self)} events, {self.n_users} users, {self.n_items} items)"

    def to_csr(self) -> sparse.csr_array[np.float32]:
        """Return the (n_users, n_items) float32 matrix of weights, columns ascending in each row.

        Several events of a pair are added up, in float64. Zero weights, where the rules let them
        in, are stored.
        """
        from scipy import sparse

        places = (self.user_indices, self.item_indices)
        wide = sparse.coo_array(
            (self.weights.astype(np.float64), places), shape=(self.n_users, self.n_items)
        ).tocsr()
        wide.sum_duplicates()
        limit = float(np.finfo(np.float32).max)
        data = np.clip(wide.data, -limit, limit).astype(np.float32)
        return sparse.csr_array((data, wide.indices, wide.indptr), shape=wide.shape)

    def by_user(self) -> tuple[Int64Array, Int64Array]:
        """Return (indptr (n_users + 1,), order (n_events,)), int64, read-only; computed once.

        The events of user row u, oldest first, are ``order[indptr[u]:indptr[u + 1]]``. Events of
        one time, and all events where there are no times, are in input order.
        """
        if self._by_user is None:  # a race computes the same twice
            counts = np.bincount(self.user_indices, minlength=self.n_users)
            indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            if self.timestamps is None:
                order = np.argsort(self.user_indices, kind="stable")
            else:
                order = np.lexsort((self.timestamps, self.user_indices))
            self._by_user = _frozen(indptr), _frozen(order)
        return self._by_user

    def history(self, user_id: Any) -> IdArray:
        """Return the item ids of one user's events, oldest first, repeats included.

        Parameters
        ----------
        user_id : int or str

        Raises
        ------
        UnknownUserError
            If the user is not in the map.
        """
        row = self.users.index(user_id)
        if row < 0:
            raise UnknownUserError(f"user_id must be a known user, got {user_id!r}")
        indptr, order = self.by_user()
        events = order[indptr[row] : indptr[row + 1]]
        return np.asarray(self.items.ids[self.item_indices[events]])

    def select(self, events: NDArray[np.bool_] | Int64Array) -> Interactions:
        """Return some of the events, with the same id maps and report.

        Parameters
        ----------
        events : ndarray (n_events,) bool, or (m,) integers
            A mask, or event numbers in the order wanted.
        """
        chosen = np.asarray(events)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(
                    f"events must have one entry per event ({len(self)}), got {chosen.shape}"
                )
            chosen = np.flatnonzero(chosen)
        rows = as_indices("events", chosen, size=len(self))
        times = None if self.timestamps is None else self.timestamps[rows]
        return Interactions(
            self.users,
            self.items,
            self.user_indices[rows],
            self.item_indices[rows],
            self.weights[rows],
            times,
            self.report,
        )

    def _with_weights(self, weights: Float32Array) -> Interactions:
        twin = copy(self)
        twin.weights = _frozen(weights)
        return twin

    def split_last(self, n: int = 1) -> tuple[Interactions, Interactions]:
        """Return (train, test): the last `n` events of each user are in test.

        Users with n events or fewer stay in train entirely. Last is by time, then by input order.

        Parameters
        ----------
        n : int
            Events of each user to hold out, >= 1.
        """
        held_out = split.last_events(*self.by_user(), n)
        return self.select(~held_out), self.select(held_out)

    def split_time(self, fraction: float = 0.2) -> tuple[Interactions, Interactions]:
        """Return (train, test): the latest `fraction` of all events is in test.

        The cut is one moment for everybody, so nothing in train is later than, or as late as,
        anything in test; test grows by the events that share the second of the cut.

        Parameters
        ----------
        fraction : float
            Share of all events to hold out, between 0 and 1.

        Raises
        ------
        ValueError
            If there are no timestamps, or `fraction` is not between 0 and 1.
        """
        if self.timestamps is None:
            raise ValueError("split_time needs timestamps, got interactions without a datetime")
        held_out = split.events_from_moment(self.timestamps, fraction)
        return self.select(~held_out), self.select(held_out)


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array
