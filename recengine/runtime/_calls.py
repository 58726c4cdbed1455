"""`Calls`: how one call reaches the native session, under a deadline where it has one."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from recengine._errors import DeadlineError
from recengine.runtime._watch import watched
from recengine.runtime._wheel import SILENT

Arrays = dict[str, NDArray[Any]]


class Calls:
    """Calls of one native session.

    Parameters
    ----------
    ort : module
        onnxruntime.
    native : onnxruntime.InferenceSession
    shrink : str
        The arenas to shrink after each run, as onnxruntime names them.

    Notes
    -----
    May be called from many threads. A run with a deadline has options of its own, for a flag in
    them ends it; the others share theirs.
    """

    def __init__(self, ort: Any, native: Any, *, shrink: str = "") -> None:
        self._ort, self._native, self._shrink = ort, native, shrink
        self._usual = self._run_options()

    def run(self, arrays: Arrays, timeout: float | None) -> list[NDArray[Any]]:
        """Run the graph on arrays that fit it, for at most `timeout` seconds.

        Raises
        ------
        DeadlineError
            If it was ended.
        """
        if timeout is None:
            return self._run(arrays, self._usual)
        options = self._run_options()
        with watched(options, timeout) as watch:
            try:
                return self._run(arrays, options)
            except Exception as error:  # onnxruntime's exceptions have no common root
                if not (watch.expired and "terminate flag" in str(error)):
                    raise
        raise DeadlineError(f"timeout of {timeout:g} s ran out while the graph ran")

    def warm(self, arrays: Arrays) -> None:
        """Run once for what it leaves behind."""
        self.run(arrays, None)

    def _run(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = self._native.run(None, arrays, options)
        return results

    def _run_options(self) -> Any:
        options = self._ort.RunOptions()
        options.log_severity_level = SILENT
        if self._shrink:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self._shrink)
        return options
