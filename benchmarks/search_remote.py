"""Engines in processes of their own, for an environment that must be set before they are loaded."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("search_worker.py")


class Worker:
    """A process of search_worker.py; called, it returns (milliseconds, arrays of the answer)."""

    def __init__(self, kind: str, given: dict[str, Any], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recengine-bench-")
        self._path = Path(self._folder.name)
        (self._path / "given.json").write_text(json.dumps(given))
        self._command = [sys.executable, str(WORKER), kind, self._folder.name]
        self._environment = os.environ | environment

    def _start(self, **arrays: Any) -> None:
        for name, array in arrays.items():
            np.save(self._path / f"{name}.npy", array)
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _asked(self) -> tuple[float, dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("search\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._command[2]} ended with {self._process.wait()}")
        with np.load(self._path / "found.npz") as found:
            return float(answer), dict(found)

    def close(self) -> None:
        self._process.communicate()  # an end of input ends the worker
        self._folder.cleanup()


class RemoteNumpy(Worker):
    """NumPy with OPENBLAS_CORETYPE set; called, it returns (milliseconds, ids)."""

    def __init__(self, core: str, queries: Any, items: Any, k: int) -> None:
        super().__init__("numpy", {"k": k}, {"OPENBLAS_CORETYPE": core})
        self._start(queries=queries, items=items)

    def __call__(self) -> tuple[float, Any]:
        elapsed, found = self._asked()
        return elapsed, found["ids"]


class RemoteLevel(Worker):
    """recengine at a SIMD level, over the vectors and the filter that `options` describe."""

    def __init__(self, level: str, options: argparse.Namespace) -> None:
        super().__init__("recengine", vars(options), {"RECENGINE_SIMD": level})
        self._level = level
        self._start()

    def __call__(self) -> tuple[float, Any]:
        from recengine import TopK

        elapsed, found = self._asked()
        assert found["level"] == self._level, found["level"]
        return elapsed, TopK(found["ids"], found["scores"])
