"""`Calls`: how one call reaches the native session, under a deadline where it has one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from recengine._errors import DeadlineError
from recengine.runtime._aside import Pace, aside
from recengine.runtime._watch import watched
from recengine.runtime._wheel import SILENT
from recengine.runtime.placed import Placed
from recengine.runtime.ports import Port

Arrays = dict[str, NDArray[Any]]
Feeds = dict[str, NDArray[Any] | Placed]
# Seconds that a run is expected to take at most if it is done on the calling thread, which can be
# late by that much and saves the tenth of a millisecond that a thread of its own costs.
SHORT = 0.02


class Calls:
    """Calls of one native session.

    Parameters
    ----------
    ort : module
        onnxruntime.
    native : onnxruntime.InferenceSession
    outputs : tuple of Port, optional
        Those to return; all that the graph has when omitted.
    shrink : str
        The arenas to shrink after each run, as onnxruntime names them.

    Notes
    -----
    May be called from many threads. A run with a deadline has options of its own, for a flag in
    them ends it; the others share theirs. It runs on the calling thread, watched, where earlier
    runs say that it is short; aside, where it is long or nothing is known.
    """

    _reuses_options = True

    def __init__(
        self,
        ort: Any,
        native: Any,
        *,
        outputs: tuple[Port, ...] | None = None,
        shrink: str = "",
    ) -> None:
        self.ort, self._native, self._shrink = ort, native, shrink
        self._names = None if outputs is None else [port.name for port in outputs]
        self._usual = self._run_options()
        self._spare: list[Any] = []
        self._pace = Pace()

    def run(self, arrays: Arrays, timeout: float | None) -> list[NDArray[Any]]:
        """Run the graph on arrays that fit it, for at most `timeout` seconds.

        Raises
        ------
        DeadlineError
            If it was ended.
        """
        return self._limited(partial(self._run, arrays), arrays, timeout)

    def run_placed(self, feeds: Feeds, device: str, timeout: float | None) -> list[NDArray[Any]]:
        """Do the same where some of the arrays lie on the session's device already."""
        return self._limited(partial(self._run_placed, feeds, device), feeds, timeout)

    def _limited(
        self,
        run: Callable[[Any], list[NDArray[Any]]],
        feeds: Feeds | Arrays,
        timeout: float | None,
    ) -> list[NDArray[Any]]:
        n_bytes = sum(given.nbytes for given in feeds.values())
        timed = partial(self._timed, run, n_bytes)
        if timeout is None:
            return timed(self._usual)
        is_short = self._pace.expected(n_bytes) <= SHORT
        found = self._here(timed, timeout) if is_short else self._aside(timed, timeout)
        if found is None:
            raise DeadlineError(f"timeout of {timeout:g} s ran out while the graph ran")
        return found

    def _here(
        self, run: Callable[[Any], list[NDArray[Any]]], timeout: float
    ) -> list[NDArray[Any]] | None:
        options = self._spare.pop() if self._spare else self._run_options()
        with watched(options, timeout) as watch:
            try:
                found = run(options)
            except Exception as error:  # onnxruntime's exceptions have no common root
                if not (watch.expired and "terminate flag" in str(error)):
                    raise
                return None
        if self._reuses_options and not watch.expired:
            self._spare.append(options)
        return found

    def _aside(
        self, run: Callable[[Any], list[NDArray[Any]]], timeout: float
    ) -> list[NDArray[Any]] | None:
        try:
            return aside(run, self._run_options(), timeout)
        except TimeoutError:
            return None

    def _timed(
        self, run: Callable[[Any], list[NDArray[Any]]], n_bytes: int, options: Any
    ) -> list[NDArray[Any]]:
        start = time.perf_counter()
        found = run(options)
        self._pace.took(n_bytes, time.perf_counter() - start)
        return found

    def warm(self, arrays: Arrays) -> None:
        """Run once for what it leaves behind."""
        self.run(arrays, None)

    def _run(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = self._native.run(self._names, arrays, options)
        return results

    def _run_placed(self, feeds: Feeds, device: str, options: Any) -> list[NDArray[Any]]:
        on_cpu = self.ort.OrtValue.ortvalue_from_numpy
        values = {
            name: given.value(device) if isinstance(given, Placed) else on_cpu(given)
            for name, given in feeds.items()
        }
        found = self._native.run_with_ort_values(self._names, values, options)
        return [each.numpy() for each in found]

    def _run_options(self) -> Any:
        options = self.ort.RunOptions()
        options.log_severity_level = SILENT
        if self._shrink:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self._shrink)
        return options
