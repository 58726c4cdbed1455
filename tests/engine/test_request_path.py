"""What a request may not wake: compilers, sparse algebra, frames, runtimes, threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MODEL, make_pair

HEAVY = ("numba", "llvmlite", "scipy", "onnxruntime", "polars", "pandas", "pyarrow", "narwhals")

PROGRAM = """
import sys, threading
import recengine as rec
engine = rec.Engine.load(sys.argv[1])
items = engine.item_ids
user = int(engine.user_ids[0])
engine.recommend(user, 5)
engine.recommend([user, 10**9], 5, allow=items, deny=items[:1])
engine.recommend_for(items[:3], 5)
engine.rank(user, items[:5])
engine.similar_items(items[0], 5)
engine.observe(user, items[1])
engine.observe(10**9, items[1])
engine.add_items([12345], vectors=[[1.0] * 6])
engine.remove_items([items[2]])
engine.item_attributes(items[:1])
engine.recommend([user, 10**9], 5)
engine.save(sys.argv[2])
assert threading.active_count() == 1, threading.enumerate()
print(" ".join(sorted({name.split(".")[0] for name in sys.modules})))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    engine, _ = make_pair(np.random.default_rng(0), {MODEL: 1.0, CONTENT: 0.5})
    path = tmp_path_factory.mktemp("path") / "engine.rec"
    engine.save(path)
    return path


def test_loading_and_answering_import_nothing_heavy(bundle):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle), str(bundle.with_name("again.rec"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert "recengine" in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert 12345 in rec.Engine.load(bundle.with_name("again.rec"))
