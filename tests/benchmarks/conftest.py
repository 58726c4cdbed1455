"""The benchmarks are programs, not a package: their folder is put on the path for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "adapters")


@pytest.fixture
def search_program():
    """Run benchmarks/search.py in the environment that slows NumPy."""

    def run(*arguments):
        slow = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
        return subprocess.run(
            [sys.executable, str(BENCHMARKS / "search.py"), *arguments],
            env=os.environ | slow,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def case():
    """Return a made-up report of search.py: ratios 4 and 2, at AVX2 2.5 and 1.25."""
    medians = {"recengine": 1.0, "recengine-level": 1.6, "numpy": 4.0, "faiss": 2.0}
    result = {
        "group": "table",
        "command": "python benchmarks/search.py",
        "options": {
            "vectors": "gaussian",
            "n_queries": 8,
            "k": 10,
            "metric": "dot",
            "filter": "none",
            "threads": 1,
            "level": "avx2",
            "seed": 0,
        },
        "machine": {
            "cpu": "a CPU",
            "cpus": 2,
            "simd": "avx2",
            "python": "3.11.7",
            "versions": {"numpy": "2.0"},
            "commit": "0123456789abcdef+changes",
        },
        "vectors": {"n_items": 1000, "dim": 8},
        "filter": None,
        "results": {
            name: {"median_ms": median, "min_ms": median, "spread": 0.01}
            for name, median in medians.items()
        },
        "ratios": {"numpy": 4.0, "faiss": 2.0},
        "best_peer": "faiss",
        "ratio_to_best_peer": 2.0,
        "ratio_of_minima": 2.0,
        "at_level": {
            "ratios": {"numpy": 2.5, "faiss": 1.25},
            "best_peer": "faiss",
            "ratio_to_best_peer": 1.25,
            "ratio_of_minima": 1.25,
        },
        "share_of_int8_peak": 0.5,
        "share_of_read_peak": None,
        "time_over_bytes": None,
    }
    return json.loads(json.dumps(result))
