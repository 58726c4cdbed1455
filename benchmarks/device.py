"""What a `DeviceIndex` takes: memory beside what it says, and time beside the index it searches.

    python benchmarks/device.py [--n-items 1000000] [--dim 64] [--device cpu|cuda] [--json FILE]

Each storage is measured in a process of its own. On the CPU memory is what the process grew by; on
a GPU it is what `nvidia-smi` tells of this process. Every answer is held against the index's.
Exits with 1 where a process on the CPU holds more than the index says.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

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
    own = [row.split(",")[1] for row in rows if row.split(",")[0] == str(os.getpid())]
    return sum(int(number) for number in own) * MIB


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one storage in this process."""
    import recengine as rec

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((arguments.n_items, arguments.dim), np.float32)
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


def show(figures: dict[str, Any]) -> None:
    says = {name: f"{size / MIB:.1f}" for name, size in figures["says"].items()}
    print(f"{figures['storage']}: says {says} MiB, holds {figures['holds'] / MIB:.1f} MiB")
    for n in BATCHES:
        ours, index = figures[f"device_ms_{n}"], figures[f"index_ms_{n}"]
        print(f"  {n:3d} queries: {ours:8.2f} ms, the index {index:8.2f} ms")
    print(f"  {figures['stats']}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="cosine")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--storage", default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(given: list[str]) -> int:
    arguments = parse(given)
    if arguments.storage:
        print(json.dumps(measure(arguments)))
        return 0
    cases = []
    for storage in ("float32", "float16"):
        command = [sys.executable, __file__, *given, "--storage", storage]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cases.append(json.loads(done.stdout))
        show(cases[-1])
    if arguments.json is not None:
        asked = {name: value for name, value in vars(arguments).items() if name != "json"}
        report = {"machine": describe(), "asked": asked, "cases": cases}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    more = [case for case in cases if case["holds"] > case["says"]["total"]]
    return int(bool(more) and arguments.device == "cpu")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
