"""benchmarks/search.py runs, reports what it promises, and notices a wrong answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = ["--n-items", "3000", "--dim", "9", "--n-queries", "7", "--k", "5", "--repeats", "2"]


def run(*arguments):
    slow = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "search.py"), *TINY, *arguments],
        env=os.environ | slow,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_it_reports_medians_and_ratios(metric):
    done = run("--metric", metric, "--peers", "numpy,onnxruntime,implicit", "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["results"]) == {"recengine", "numpy", "onnxruntime", "implicit"}
    assert result["best_peer"] in result["ratios"]
    assert result["ratio_to_best_peer"] == min(result["ratios"].values())
    assert all(len(row["rounds_ms"]) == 2 for row in result["results"].values())
    assert result["options"]["metric"] == metric
    assert {"cpu", "cpus", "simd", "versions", "commit"} <= set(result["machine"])


def test_it_writes_a_file_and_prints_a_table(tmp_path):
    done = run("--peers", "none", "--threads", "2", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert "3,000 × 9, 7 queries, k=5, dot, 2 thread(s)" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["best_peer"] is None


def test_it_refuses_unknown_peers_and_small_numbers():
    for arguments, message in (
        (["--peers", "numpy,annoy"], "--peers must be of"),
        (["--k", "0"], "--k must be >= 1, got 0"),
        (["--k", "3001"], "--k must be at most --n-items"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr


def test_it_notices_a_wrong_answer_of_a_peer(monkeypatch, rng):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import search as benchmark

    queries = rng.standard_normal((2, 6)).astype(np.float32)
    items = rng.standard_normal((50, 6)).astype(np.float32)
    ids, scores, kth = benchmark.truth("dot", queries, items, 4)
    oracles.assert_same_topk((ids, scores), oracles.search("dot", queries, items, 4))
    benchmark.check_peer("good", ids, "dot", queries, items, kth)
    worst = ids.copy()
    worst[1, 2] = (queries[1] @ items.T).argmin()
    with pytest.raises(AssertionError, match="bad is wrong for query 1"):
        benchmark.check_peer("bad", worst, "dot", queries, items, kth)
    twice = ids.copy()
    twice[0, 1] = twice[0, 0]
    with pytest.raises(AssertionError, match="bad returned an id twice"):
        benchmark.check_peer("bad", twice, "dot", queries, items, kth)
