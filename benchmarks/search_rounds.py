"""One case of the search benchmark: the rounds, and the JSON object they give."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
import peak
from search_peers import Engine, clocked, peers
from search_truth import Truth, check_ours, check_peer, kept_by_norms, truth
from search_vectors import Filter, Vectors, make, make_filter

import recengine as rec


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the case that `options` (search.py's) describe and return its report."""
    vectors = make(options.vectors, options.n_items, options.dim, options.n_queries, options.seed)
    chosen = make_filter(options.filter, vectors, options.seed)
    rows, seen = chosen.rows, chosen.seen
    n_left = len(vectors.items) if rows is None else len(rows)
    wanted = options.k + (0 if seen is None else seen.shape[1])
    if wanted > n_left:
        raise ValueError(
            f"--k must be at most the {n_left} items that are left (peers do not pad), got "
            f"{options.k}" + ("" if seen is None else f" beside {seen.shape[1]} seen")
        )
    want = truth(options.metric, *vectors, options.k, rows=rows, seen=seen)
    ceiling = peak.measure(options.threads)
    started = time.perf_counter()
    index = rec.FlatIndex(vectors.items, metric=options.metric)
    build = time.perf_counter() - started
    search, about_filter = ours(index, vectors, chosen, options)
    others = (options.peers, options.metric, *vectors, options.k, options.threads)
    with peers(*others, rows=rows, seen=seen) as engines:
        times = run_rounds({"recengine": clocked(search)} | engines, options, vectors, want, seen)
    report = compose(times, vectors, options.n_queries)
    ceiling = peak.better(ceiling, peak.measure(options.threads))
    about: dict[str, Any] = {"n_items": len(vectors.items), "dim": vectors.items.shape[1]}
    if options.metric == "dot" and rows is None and seen is None:
        about["kept_by_norms"] = kept_by_norms(*vectors, want)
    stats = index.stats
    return {
        "benchmark": "search",
        "options": {name: value for name, value in vars(options).items() if name not in OUTPUT},
        "machine": machine.describe(),
        "vectors": about,
        "filter": about_filter,
        **report,
        "peak": ceiling,
        "share_of_int8_peak": share(report["gops"], ceiling, "int8_gops"),
        "share_of_read_peak": share(report["gbs"], ceiling, "read_gbs"),
        "rescored_share": stats["rescored"] / max(1, stats["scanned"]),
        "build_s": build,
    }


REST_SECONDS = 0.25
OUTPUT = ("json", "compare")  # options that say where the report goes


def ours(
    index: rec.FlatIndex, vectors: Vectors, chosen: Filter, options: argparse.Namespace
) -> tuple[Callable[[], Any], dict[str, Any] | None]:
    """Return the search to be timed, and what is said of its filter."""
    arguments: dict[str, Any] = {"k": options.k, "num_threads": options.threads}
    about: dict[str, Any] | None = None
    if chosen.kind == "seen":
        indptr = np.arange(len(chosen.seen) + 1) * chosen.seen.shape[1]
        arguments["exclude"] = (indptr, chosen.seen.ravel())
        about = {"n_ids": chosen.seen.size, "prepare_ms": 0.0, "timed": "given by ordinal"}
    elif chosen.kind != "none":
        how = {chosen.kind: chosen.given}
        about = {"n_ids": len(chosen.given)}
        if hasattr(index, "filter"):
            prepare_ms, arguments["filter"] = clocked(lambda: index.filter(**how))()
            about |= {"prepare_ms": prepare_ms, "timed": "before the rounds"}
        else:
            arguments |= how
            about |= {"prepare_ms": 0.0, "timed": "in every search"}
    return lambda: index.search(vectors.queries, **arguments), about


def run_rounds(
    engines: dict[str, Engine],
    options: argparse.Namespace,
    vectors: Vectors,
    want: Truth,
    seen: Any,
) -> dict[str, list[float]]:
    """Return the milliseconds of each engine in each round, every answer checked.

    Threads of a pool look for work for a while after the last of it: with several threads each
    engine waits until those of the one before are at rest.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(-1, options.repeats):  # the first round warms up
        for name, engine in engines.items():
            if options.threads > 1:
                time.sleep(REST_SECONDS)
            elapsed, found = engine()
            if name == "recengine":
                check_ours(found, want)
            else:
                check_peer(name, found, options.metric, *vectors, want, seen)
            if repeat >= 0:
                times[name].append(elapsed)
    return times


def compose(times: dict[str, list[float]], vectors: Vectors, n_queries: int) -> dict[str, Any]:
    """Return medians, spreads, ratios and rates."""
    results = {name: summary(values) for name, values in times.items()}
    mine = results["recengine"]
    others = {name: row for name, row in results.items() if name != "recengine"}
    ratios = {name: row["median_ms"] / mine["median_ms"] for name, row in others.items()}
    best = min(ratios, key=ratios.__getitem__, default=None)
    n_items, dim = vectors.items.shape
    code_bytes = n_items * 4 * -(-dim // 4)
    return {
        "results": results,
        "ratios": ratios,
        "best_peer": best,
        "ratio_to_best_peer": None if best is None else ratios[best],
        "ratio_of_minima": None
        if best is None
        else min(row["min_ms"] for row in others.values()) / mine["min_ms"],
        "gops": 2e-6 * n_items * dim * n_queries / mine["median_ms"],
        "gbs": 1e-6 * code_bytes / mine["median_ms"],
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Return median, smallest, largest and spread: the quartiles' distance over the median."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median_ms": round(float(median), 4),
        "min_ms": round(min(values), 4),
        "max_ms": round(max(values), 4),
        "spread": round(float((high - low) / median), 4),
        "rounds_ms": [round(value, 4) for value in values],
    }


def share(figure: float, ceiling: dict[str, Any] | None, name: str) -> float | None:
    """Return the share of a measured peak, None where there is none."""
    if ceiling is None or not ceiling[name]:
        return None
    return float(figure / ceiling[name])
