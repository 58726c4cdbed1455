"""What `import recengine` costs, brings with it and starts; and what a request may bring in.

Every case is a fresh interpreter that sees only the installed package (``-I``: no working folder,
no user site).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recengine as rec

HEAVY = {
    "numba",
    "scipy",
    "onnxruntime",
    "polars",
    "narwhals",
    "pandas",
    "pyarrow",
    "tokenizers",
    "PIL",
    "onnx",
    "soundfile",
    "soxr",
}
MAX_IMPORT_SECONDS = 0.1

PROBE = """
import json, sys, time
from pathlib import Path

def n_threads():
    return len(list(Path("/proc/self/task").iterdir()))

report = {}
import numpy
report["threads_before"] = n_threads()
start = time.perf_counter()
import recengine
report["seconds"] = time.perf_counter() - start
%s
report["threads_after"] = n_threads()
report["modules"] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(report))
"""


def probe(code: str = "", *arguments: str) -> dict[str, Any]:
    """Run `code` after the import, in a new interpreter; return what was measured."""
    command = [sys.executable, "-I", "-c", PROBE % code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def started_threads(report: dict[str, Any]) -> int:
    started: int = report["threads_after"] - report["threads_before"]
    return started


def test_import_is_quick() -> None:
    fastest = min(probe()["seconds"] for _ in range(5))  # the best of 5: other load is not ours
    assert fastest < MAX_IMPORT_SECONDS


def test_import_is_light_and_starts_no_thread() -> None:
    report = probe()
    assert set(report["modules"]) & (HEAVY | {"typer", "rich"}) == set()
    if Path("/proc/self/task").is_dir():
        assert started_threads(report) == 0


def test_every_export_loads_without_the_heavy_ones() -> None:
    report = probe("for name in recengine.__all__: getattr(recengine, name)")
    assert set(report["modules"]) & (HEAVY - {"scipy", "narwhals"}) == set()
    assert started_threads(report) == 0


def test_probe_sees_modules_and_threads() -> None:
    report = probe(
        "import threading, wave; threading.Thread(target=lambda: time.sleep(9),"
        " daemon=True).start()"
    )
    assert "wave" in report["modules"]
    assert started_threads(report) == 1


REQUESTS = """
engine = recengine.Engine.load(sys.argv[1])
report["known"] = engine.recommend(1, k=3).ids.tolist()
report["history"] = engine.recommend_for(history=[2, 5], k=3).ids.tolist()
report["similar"] = engine.similar_items(3, k=3).ids.tolist()
report["ranked"] = engine.rank(1, [4, 7]).ids.tolist()
engine.observe(1, report["known"][0])
report["observed"] = engine.recommend(1, k=3).ids.tolist()
"""


@pytest.fixture(scope="module")
def saved_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small engine with factors and content; return its path."""
    rng = np.random.default_rng(7)
    users, items = np.repeat(np.arange(12), 4), rng.integers(0, 10, 48)
    inter = rec.Interactions.from_arrays(users, items)
    model = rec.ALS(factors=4, iterations=2, random_state=0).fit(inter)
    content = rng.standard_normal((inter.n_items, 6)).astype(np.float32)
    path = tmp_path_factory.mktemp("engine") / "small.rec"
    rec.Engine.build(inter, model=model, content=content).save(path)
    return path


def test_requests_stay_light_and_single_threaded(saved_engine: Path) -> None:
    report = probe(REQUESTS, str(saved_engine))
    assert set(report["modules"]) & {"numba", "onnxruntime", "polars"} == set()
    assert started_threads(report) == 0
    assert report["known"][0] not in report["observed"]
