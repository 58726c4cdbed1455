"""One case of the search benchmark: the rounds, and the JSON object they give."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
import peak
from search_figures import AT_LEVEL, OURS, beside, rates, row_bytes, summary, work
from search_peers import Engine, clocked, peers
from search_remote import RemoteLevel
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
    with contextlib.ExitStack() as stack:
        engines: dict[str, Engine] = {"recengine": clocked(search)}
        if options.level is not None:
            engines[AT_LEVEL] = remote = RemoteLevel(options.level, options)
            stack.callback(remote.close)
        engines |= stack.enter_context(peers(*others, rows=rows, seen=seen))
        times = run_rounds(engines, options, vectors, want, seen)
    ceiling = peak.better(ceiling, peak.measure(options.threads))
    about: dict[str, Any] = {"n_items": len(vectors.items), "dim": vectors.items.shape[1]}
    if options.metric == "dot" and rows is None and seen is None:
        about["kept_by_norms"] = kept_by_norms(*vectors, want)
    return {
        "benchmark": "search",
        "options": {name: value for name, value in vars(options).items() if name not in OUTPUT},
        "machine": machine.describe(),
        "vectors": about,
        "filter": about_filter,
        **compose(times, index, options.n_queries, ceiling),
        "build_s": build,
    }


def compose(
    times: dict[str, list[float]],
    index: rec.FlatIndex,
    n_queries: int,
    ceiling: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return medians, spreads, ratios, and what `index` did in its time."""
    results = {name: summary(values) for name, values in times.items()}
    others = {name: row for name, row in results.items() if name not in OURS}
    stats = index.stats
    done = work(stats, row_bytes(index), index.dim)
    return {
        "results": results,
        **beside(results["recengine"], others),
        "at_level": beside(results[AT_LEVEL], others) if AT_LEVEL in results else None,
        **rates(done, results["recengine"]["median_ms"], n_queries, ceiling),
        "scanned_share": done["pairs"] / (len(index) * n_queries),
        "rescored_share": stats["rescored"] / max(1, stats["scanned"]),
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
            if name in OURS:
                check_ours(found, want)
            else:
                check_peer(name, found, options.metric, *vectors, want, seen)
            if repeat >= 0:
                times[name].append(elapsed)
    return times
