"""What counts of the past: weights that halve with age, and the events of a stretch of time."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_real
from recengine.data._columns import time_column

Moment: TypeAlias = datetime | date | np.datetime64 | float
Duration: TypeAlias = timedelta | np.timedelta64 | float


class Recency:
    """The methods of `Interactions` that read the clock."""

    __slots__ = ()

    weights: Float32Array
    timestamps: Int64Array | None

    if TYPE_CHECKING:  # what `Interactions` has

        def select(self, events: NDArray[np.bool_] | Int64Array) -> Self:
            """Return some of the events."""

        def _with_weights(self, weights: Float32Array) -> Self: ...

    def decayed(self, half_life: Duration, now: Moment | None = None) -> Self:
        """Return the events with weights that halve with every `half_life` of age.

        Parameters
        ----------
        half_life : timedelta or float
            In seconds where it is a number, > 0.
        now : datetime, date or float, optional
            The moment at which age is 0, not before the latest event, which it is when omitted;
            seconds since 1970 where it is a number. A later one makes all weights smaller alike.

        Returns
        -------
        Interactions
            weight · 2^(−age / half_life), in float64 and rounded once; the id maps are shared.

        Raises
        ------
        ValueError
            If there are no timestamps, `half_life` is not above 0, or an event is later than
            `now`.

        Notes
        -----
        Each event decays by its own age before `to_csr` adds those of a pair. The rules of
        cleaning must keep them for that: ``CleaningRules(duplicate="keep")``; by default one event
        at the time of the last one stands for all. A weight that is too small for float32 is 0,
        which is no event to a model. O(n_events).
        """
        times = self._times("decayed")
        seconds = _seconds_of("half_life", half_life)
        moment = _moment("now", now, times)
        if len(times) and moment < times.max():
            raise ValueError(f"now must be >= the latest event, {times.max()}, got {moment}")
        ages = float(moment) - times.astype(np.float64)
        weights = (self.weights * np.exp2(-ages / seconds)).astype(np.float32)
        return self._with_weights(weights)

    def since(self, moment: Moment) -> Self:
        """Return the events at or after a moment.

        Parameters
        ----------
        moment : datetime, date or float
            Seconds since 1970 where it is a number; UTC where it has no zone; cut to whole seconds.

        Returns
        -------
        Interactions
            With the same id maps.

        Raises
        ------
        ValueError
            If there are no timestamps.
        """
        times = self._times("since")
        return self.select(times >= _moment("moment", moment, times))

    def window(self, duration: Duration, until: Moment | None = None) -> Self:
        """Return the events of the last `duration`: after ``until - duration``, up to `until`.

        Parameters
        ----------
        duration : timedelta or float
            In seconds where it is a number, > 0.
        until : datetime, date or float, optional
            The time of the latest event when omitted.

        Returns
        -------
        Interactions
            With the same id maps.

        Raises
        ------
        ValueError
            If there are no timestamps, or `duration` is not above 0.
        """
        times = self._times("window")
        end = _moment("until", until, times)
        ages = float(end) - times.astype(np.float64)
        return self.select((ages >= 0) & (ages < _seconds_of("duration", duration)))

    def _times(self, name: str) -> Int64Array:
        if self.timestamps is None:
            raise ValueError(f"{name} needs timestamps, got interactions without a datetime")
        return self.timestamps


def _moment(name: str, value: Any, times: Int64Array) -> int:
    """Return a moment as whole seconds since 1970; None is the latest of `times`."""
    if value is None and name != "moment":
        return int(times.max()) if len(times) else 0
    column = time_column(name, np.array([value]) if isinstance(value, np.datetime64) else [value])
    if column.missing[0] or column.invalid[0]:
        raise ValueError(f"{name} must be a moment that int64 seconds can hold, got {value!r}")
    return int(column.values[0])


def _seconds_of(name: str, value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, np.timedelta64):
        value = value / np.timedelta64(1, "s")
    return as_real(name, value, minimum=0, exclusive=True)
