"""What a `DeviceIndex` says it needs is what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GROWTH = """
import json, resource, sys
from pathlib import Path
import numpy as np
import recengine as rec

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

rng = np.random.default_rng(0)
small = rec.FlatIndex(np.eye(64))
rec.DeviceIndex(small, storage=sys.argv[1], num_threads=1).search(np.ones((9, 64)))
index = rec.FlatIndex(rng.standard_normal((200_000, 64), np.float32))
queries = rng.standard_normal((256, 64), np.float32)
index.search(queries)
device = rec.DeviceIndex(index, storage=sys.argv[1], num_threads=1)
before = resident()
device.search(queries)
once = resident() - before
for n in (1, 256, 30, 200):
    device.search(queries[:n], 20)
print(json.dumps([device.bytes_needed(256), once, resident() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_index_takes_the_memory_it_says(storage: str) -> None:
    command = [sys.executable, "-c", GROWTH, storage]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    says, once, at_last = json.loads(done.stdout)
    assert says["items"] == 200_000 * 64 * np.dtype(storage).itemsize
    assert says["items"] + says["added"] < once < says["total"]
    assert at_last - once < 0.1 * says["total"], "and no more with other batches"
