"""How long does an exact top-k take, beside the best that other libraries do on this CPU?

    python benchmarks/search.py --n-items 1000000 --dim 64 --n-queries 256 --k 10 --threads 1

The rounds are interleaved: each engine answers once per round, in turn. Every answer of every
engine is compared with float64: recengine's ids and score bits must be the canonical ones, a
peer's ids may differ only by float32 rounding. Peers run with OPENBLAS_CORETYPE and
OPENBLAS_L2_SIZE unset, which slow NumPy where they are set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SLOWS_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS_OF_PEERS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
PEERS = ("onnxruntime", "implicit", "faiss", "numpy")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--n-queries", type=int, default=256)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="dot")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, or none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers must be of {', '.join(PEERS)}, got {', '.join(sorted(unknown))}")
    for name in ("n_items", "dim", "n_queries", "k", "threads", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {getattr(options, name)}")
    if options.k > options.n_items:
        parser.error("--k must be at most --n-items: the peers do not pad")
    return options


def restart_with_fair_peers(threads: int) -> None:
    """Run this program again in an environment that lets BLAS and OpenMP do their best."""
    fair = {name: value for name, value in os.environ.items() if name not in SLOWS_NUMPY}
    fair |= dict.fromkeys(THREADS_OF_PEERS, str(threads))
    if fair != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], fair)


def truth(metric: str, queries: Any, items: Any, k: int) -> tuple[Any, Any, Any]:
    """Return (ids, float32 scores, float64 k-th scores) of the canonical answer.

    float64 products nominate; what lies near the k-th of them is scored canonically.
    """
    import numpy as np
    import oracles
    from search_peers import prepared

    q, x = (part.astype(np.float64) for part in (queries, items))
    if metric != "cosine":
        q, x = (part.astype(np.float64) for part in prepared(metric, queries, items))
    else:
        q /= np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    ids = np.empty((len(q), k), np.int64)
    scores = np.empty((len(q), k), np.float32)
    kth = np.empty(len(q))
    for i in range(len(q)):
        if i % 16 == 0:
            products = q[i : i + 16] @ x.T
        product = products[i % 16]
        floor = np.partition(product, len(x) - k)[len(x) - k]
        slack = 1e-5 * (np.abs(product).max() + 1)
        near = np.flatnonzero(product >= floor - slack)
        exact = oracles.canonical(metric, queries[i : i + 1], items[near])
        rows, best = oracles.best(oracles.round_score(exact), k)
        ids[i], scores[i] = near[rows[0]], best[0]
        kth[i] = np.sort(exact[0])[-k]
    return ids, scores, kth


def check_peer(name: str, found: Any, metric: str, queries: Any, items: Any, kth: Any) -> None:
    """Assert that every id of a peer scores, in float64, like the true answer."""
    import numpy as np
    import oracles

    for i, row in enumerate(found):
        assert len(set(row.tolist())) == len(row), f"{name} returned an id twice"
        exact = oracles.canonical(metric, queries[i : i + 1], items[row])[0]
        slack = 1e-4 * (1 + np.abs(exact).max())
        assert exact.min() >= kth[i] - slack, f"{name} is wrong for query {i}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import oracles
    from search_peers import peers

    import recengine as rec

    rng = np.random.default_rng(options.seed)
    items = rng.standard_normal((options.n_items, options.dim), dtype=np.float32)
    queries = rng.standard_normal((options.n_queries, options.dim), dtype=np.float32)
    items.flags.writeable = False
    ids, scores, kth = truth(options.metric, queries, items, options.k)
    started = time.perf_counter()
    index = rec.FlatIndex(items, metric=options.metric)
    build = time.perf_counter() - started
    shape = (options.metric, queries, items)
    engines = {
        "recengine": lambda: index.search(queries, options.k, num_threads=options.threads)
    } | dict(peers(options.peers, *shape, options.k, options.threads))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(-1, options.repeats):  # the first round warms up
        for name, search in engines.items():
            started = time.perf_counter()
            found = search()
            elapsed = time.perf_counter() - started
            if name == "recengine":
                oracles.assert_same_topk(found, (ids, scores))
            else:
                check_peer(name, found, *shape, kth)
            if repeat >= 0:
                times[name].append(1e3 * elapsed)
    return report(options, times, build, index.stats)


def report(
    options: argparse.Namespace, times: dict[str, list[float]], build: float, stats: dict[str, Any]
) -> dict[str, Any]:
    results = {
        name: {
            "median_ms": statistics.median(values),
            "min_ms": min(values),
            "max_ms": max(values),
            "rounds_ms": values,
        }
        for name, values in times.items()
    }
    ours = results["recengine"]["median_ms"]
    ratios = {name: row["median_ms"] / ours for name, row in results.items() if name != "recengine"}
    best = min(ratios, key=ratios.__getitem__, default=None)
    return {
        "benchmark": "search",
        "options": vars(options),
        "machine": machine(),
        "results": results,
        "ratios": ratios,
        "best_peer": best,
        "ratio_to_best_peer": ratios[best] if best else None,
        "gflops": 2e-6 * options.n_items * options.dim * options.n_queries / ours,
        "rescored_share": stats["rescored"] / max(1, stats["scanned"]),
        "build_s": build,
    }


def machine() -> dict[str, Any]:
    from recengine import _native

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    packages = ("recengine", "numpy", "onnxruntime", "onnxruntime-gpu", "implicit", "faiss-cpu")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": _native.num_cpus(),
        "simd": _native.simd_level(),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := installed(name))},
        "commit": commit.stdout.strip() or None,
    }


def installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(result: dict[str, Any]) -> None:
    options = result["options"]
    print(
        f"{options['n_items']:,} × {options['dim']}, {options['n_queries']} queries, "
        f"k={options['k']}, {options['metric']}, {options['threads']} thread(s), "
        f"{result['machine']['cpu']}, {result['machine']['simd']}"
    )
    for name, row in sorted(result["results"].items(), key=lambda pair: pair[1]["median_ms"]):
        ratio = result["ratios"].get(name, 1.0)
        print(
            f"{name:>12}  median {row['median_ms']:9.2f} ms  min {row['min_ms']:9.2f}  ×{ratio:.2f}"
        )
    print(f"{result['gflops']:.0f} GFLOP/s, index built in {result['build_s']:.2f} s")


def main() -> None:
    options = parse(sys.argv[1:])
    restart_with_fair_peers(options.threads)
    sys.path.append(str(ROOT / "tests"))  # for the float64 reference
    result = measure(options)
    if options.json == "-":
        print(json.dumps(result, indent=2))
        return
    show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
