"""What does an index cost to build and to keep, and what does a filter cost to prepare?

    python benchmarks/build.py --n-items 1000000 --dim 128 --metric cosine --named 500000

Each case runs in a process of its own, on one thread. Memory is what the process holds beyond the
caller's own array, in multiples of the vectors as float32 (which is what they are whatever the
storage): `kept` when the index is there, `peak` at most on the way. A read-only array is kept as it
is, a writeable one copied. Both are resident memory; `kept` after freed memory went back to the
system. The filter names ids at random. Exits with 1 where float32 takes longer than --most-seconds
or keeps more than --most-memory.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

CASES = [
    (storage, given)
    for storage in ("float32", "float16", "bfloat16")
    for given in ("writeable", "read-only")
]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="cosine")
    parser.add_argument("--named", type=int, default=500_000, help="ids of the filter")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-seconds", type=float, default=3.0)
    parser.add_argument("--most-memory", type=float, default=1.35)
    parser.add_argument("--case", help=argparse.SUPPRESS)  # storage:given, in this process
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    for name in ("n_items", "dim", "named", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {getattr(options, name)}")
    if options.named > options.n_items:
        parser.error(f"--named must be at most --n-items, got {options.named}")
    return options


def memory() -> dict[str, int]:
    """Return what is resident, and the most that was, in bytes; empty where Linux is not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {name: int(lines[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM")}


def settle() -> dict[str, int]:
    """Give freed memory back, forget the peak so far, and return what is resident."""
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    return memory()


def run_case(options: argparse.Namespace) -> dict[str, Any]:
    """Build one index, and time a filter over it."""
    import recengine as rec

    storage, given = options.case.split(":")
    rng = np.random.default_rng(options.seed)
    vectors = rng.standard_normal((options.n_items, options.dim), dtype=np.float32)
    if storage == "float16" and given == "read-only":
        vectors = vectors.astype(np.float16)
    vectors.flags.writeable = given == "writeable"
    rec.FlatIndex(vectors[:100].copy(), metric=options.metric).search(vectors[0])
    before = settle()
    if before:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    cpu, wall = time.process_time(), time.perf_counter()
    index = rec.FlatIndex(vectors, metric=options.metric, storage=storage)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = memory()
    kept = settle()
    size = 4 * options.n_items * options.dim
    figures = {"storage": storage, "given": given, "cpu_s": round(cpu, 3), "wall_s": round(wall, 3)}
    if before:
        figures["kept"] = round((kept["VmRSS"] - before["VmRSS"]) / size, 3)
        figures["peak"] = round((peak["VmHWM"] - before["VmRSS"]) / size, 3)
    if storage == "float32" and given == "writeable":
        figures["filter"] = time_filter(index, rng, options)
    return figures


def time_filter(index: Any, rng: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return what naming so many ids costs, and what searches cost with them and without."""
    ids = rng.choice(options.n_items, options.named, replace=False)
    prepared = [timed(lambda: index.filter(allow=ids)) for _ in range(options.repeats)]
    filter = index.filter(allow=ids)
    figures = {"named": options.named, "prepare_ms": best_and_median(prepared)}
    for n_queries in (1, 32):
        queries = rng.standard_normal((n_queries, options.dim), dtype=np.float32)
        found = index.search(queries, filter=filter)
        assert np.isin(found.ids, ids).all(), (
            "a search returned what the filter does not let through"
        )
        given = index.search(queries, allow=ids)
        np.testing.assert_array_equal(found.ids, given.ids)
        np.testing.assert_array_equal(found.scores, given.scores)
        times: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(10 * options.repeats):
            times["without"].append(timed(lambda queries=queries: index.search(queries)))
            times["with"].append(
                timed(lambda queries=queries: index.search(queries, filter=filter))
            )
        figures[f"search_{n_queries}_ms"] = {
            name: best_and_median(values) for name, values in times.items()
        }
    return figures


def timed(act: Any) -> float:
    start = time.perf_counter()
    act()
    return 1e3 * (time.perf_counter() - start)


def best_and_median(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(float(np.median(values)), 3)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run each case in processes of its own and keep the medians of its figures."""
    import machine

    cases = []
    for storage, given in CASES:
        runs = []
        for _ in range(options.repeats):
            arguments = [
                *(f"--{name.replace('_', '-')}={getattr(options, name)}" for name in SHARED),
                f"--case={storage}:{given}",
            ]
            done = subprocess.run(
                [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(done.stderr)
            runs.append(json.loads(done.stdout))
        case = dict(runs[0])
        for name in ("cpu_s", "wall_s", "kept", "peak"):
            if name in case:
                case[name] = round(float(np.median([run[name] for run in runs])), 3)
        if "filter" in case:  # of the quietest process
            case["filter"] = min(
                (run["filter"] for run in runs), key=lambda found: found["prepare_ms"]["median"]
            )
        cases.append(case)
    return {
        "benchmark": "build",
        "options": {name: getattr(options, name) for name in (*SHARED, *LIMITS)},
        "machine": machine.describe() | {"load": round(os.getloadavg()[0], 2)},
        "cases": cases,
        "holds": all(
            case["cpu_s"] <= options.most_seconds and case.get("kept", 0) <= options.most_memory
            for case in cases
            if case["storage"] == "float32"
        ),
    }


SHARED = ("n_items", "dim", "metric", "named", "repeats", "seed")
LIMITS = ("most_seconds", "most_memory")


def show(result: dict[str, Any]) -> None:
    options = result["options"]
    print(
        f"{options['n_items']:,} × {options['dim']}, {options['metric']}, one thread, "
        f"{result['machine']['cpu']}, load {result['machine']['load']}"
    )
    for case in result["cases"]:
        print(
            f"{case['storage']:>9} {case['given']:>10}  {case['cpu_s']:6.2f} s (elapsed "
            f"{case['wall_s']:.2f})  kept ×{case.get('kept', 0):.3f}  "
            f"peak ×{case.get('peak', 0):.3f}"
        )
        if "filter" in case:
            found, pad = case["filter"], " " * 10
            took = found["prepare_ms"]["median"]
            print(f"{pad}filter of {found['named']:,} ids prepared in {took:.1f} ms")
            for n_queries in (1, 32):
                times = found[f"search_{n_queries}_ms"]
                print(
                    f"{pad}search of {n_queries}: {times['with']['median']:.2f} ms with it, "
                    f"{times['without']['median']:.2f} without"
                )


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.case:
        print(json.dumps(run_case(options)))
        return 0
    result = measure(options)
    text = json.dumps(result, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        show(result)
        if options.json:
            Path(options.json).write_text(text)
    return int(not result["holds"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
