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

    Notes
    -----
    May be called from many threads. A run has options of its own where they tell it from others
    (a deadline); without them onnxruntime takes its defaults.
    """

    def __init__(self, ort: Any, native: Any) -> None:
        self._ort, self._native = ort, native

    def run(self, arrays: Arrays, timeout: float | None) -> list[NDArray[Any]]:
        """Run the graph on arrays that fit it, for at most `timeout` seconds.

        Raises
        ------
        DeadlineError
            If it was ended.
        """
        if timeout is None:
            return self._run(arrays, None)
        options = self._run_options()
        with watched(options, timeout) as watch:
            try:
                return self._run(arrays, options)
            except Exception as error:  # onnxruntime's exceptions have no common root
                if not (watch.expired and "terminate flag" in str(error)):
                    raise
        raise DeadlineError(f"timeout of {timeout:g} s ran out while the graph ran")

    def _run(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = self._native.run(None, arrays, options)
        return results

    def _run_options(self) -> Any:
        options = self._ort.RunOptions()
        options.log_severity_level = SILENT
        return options
