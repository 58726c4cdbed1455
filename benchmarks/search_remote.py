"""NumPy in a process of its own, for an environment that must be set before NumPy is loaded.

Run as a program it is the worker: it loads queries.npy and items.npy, and answers each line on
stdin with the milliseconds that one search took, the ids in found.npy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from search_peers import numpy_peer


class RemoteNumpy:
    """A worker with OPENBLAS_CORETYPE set; called, it returns (milliseconds, ids)."""

    def __init__(self, core: str, queries: Any, items: Any, k: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recengine-bench-")
        self._path = Path(self._folder.name)
        np.save(self._path / "queries.npy", queries)
        np.save(self._path / "items.npy", items)
        self._worker = subprocess.Popen(
            [sys.executable, __file__, self._folder.name, str(k)],
            env=os.environ | {"OPENBLAS_CORETYPE": core},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self) -> tuple[float, Any]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write("search\n")
        self._worker.stdin.flush()
        elapsed = float(self._worker.stdout.readline())
        return elapsed, np.load(self._path / "found.npy")

    def close(self) -> None:
        self._worker.communicate()  # an end of input ends the worker
        self._folder.cleanup()


def main(folder: Path, k: int) -> None:
    search = numpy_peer(np.load(folder / "queries.npy"), np.load(folder / "items.npy"), k)
    for _ in sys.stdin:
        started = time.perf_counter()
        found = search()
        elapsed = 1e3 * (time.perf_counter() - started)
        np.save(folder / "found.npy", found)
        print(elapsed, flush=True)


if sys.argv[:1] == [__file__]:  # `make bench` runs what has the usual line
    main(Path(sys.argv[1]), int(sys.argv[2]))
