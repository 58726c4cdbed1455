"""What a `DeviceIndex` takes: memory beside what it says, and time beside the index it searches.

    python benchmarks/device.py [--items 1000000] [--dim 64] [--device cpu|cuda] [--threads 1]

Each storage is measured in a process of its own. On the CPU memory is what the process grew by; on
a GPU it is what `nvidia-smi` tells of this process. Every answer is held against the index's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 32, 256)
MIB = 2**20


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def on_gpu() -> int:
    """Return the bytes of GPU memory that this process holds."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    own = [row.split(",")[1] for row in rows if row.split(",")[0] == str(resource.os.getpid())]
    return sum(int(number) for number in own) * MIB


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one storage in this process."""
    import recengine as rec

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((arguments.items, arguments.dim), np.float32)
    queries = rng.standard_normal((max(BATCHES), arguments.dim), np.float32)
    vectors.flags.writeable = False
    index = rec.FlatIndex(vectors, metric=arguments.metric)
    wanted = index.search(queries, 10)
    device = rec.DeviceIndex(
        index, arguments.device, arguments.storage, num_threads=arguments.threads
    )
    memory = on_gpu if arguments.device != "cpu" else resident
    before = memory()
    device.warm_up()
    grown = memory() - before
    figures: dict[str, Any] = {
        "storage": arguments.storage,
        "says": device.bytes_needed(max(BATCHES)),
        "holds": grown,
    }
    for n in BATCHES:
        found = device.search(queries[:n], 10)
        assert np.array_equal(found.ids, wanted.ids[:n])
        assert np.array_equal(found.scores.view(np.int32), wanted.scores[:n].view(np.int32))
        for name, asked in (("device", device), ("index", index)):
            figures[f"{name}_ms_{n}"] = timed(asked, queries[:n])
    return figures | {"stats": device.stats}


def timed(asked: Any, queries: Any) -> float:
    """Return the median milliseconds of a search."""
    spent = []
    for _ in range(7):
        start = time.perf_counter()
        asked.search(queries, 10)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--metric", default="dot")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--storage", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.storage:
        print(json.dumps(measure(arguments)))
        return
    for storage in ("float32", "float16"):
        command = [sys.executable, __file__, *sys.argv[1:], "--storage", storage]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
        says = {name: f"{size / MIB:.1f}" for name, size in figures["says"].items()}
        print(f"{storage}: says {says} MiB, holds {figures['holds'] / MIB:.1f} MiB")
        for n in BATCHES:
            ours, index = figures[f"device_ms_{n}"], figures[f"index_ms_{n}"]
            print(f"  {n:3d} queries: {ours:8.2f} ms, the index {index:8.2f} ms")
        print(f"  {figures['stats']}")


if __name__ == "__main__":
    main()
