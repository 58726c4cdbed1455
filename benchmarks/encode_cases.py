"""The cases of the encode benchmark; each asserts its answer and returns what it measured."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from encode_peers import MAX_LENGTH, ORDERS, Peer, sentences, texts_of, words_of
from search_figures import summary

from recengine import DeadlineError, TextEncoder

BUCKETS = ((1, 8, 32), (16, 32, 64, 128, 256))  # of a GPU, where a new shape costs
SENTENCES = "sentence-transformers"
QUERIES = (8, 16, 32, 64, 128, 256)  # tokens of one query
LEAST_COSINE = 0.9999  # of a float graph, whose batches differ by rounding
OF_FLOAT_WEIGHTS = 0.99  # of a model whose weights were rounded to int8, to itself before that


class Models:
    """The encoder and its peer, warm; and the texts that both are given."""

    def __init__(self, folder: Path, threads: int, options: argparse.Namespace) -> None:
        self.threads, self.options = threads, options
        buckets = None if options.device == "cpu" else BUCKETS
        self.ours = TextEncoder.open(folder, options.device, threads, buckets=buckets)
        self.ours.warm_up()
        self.peer = Peer(folder, threads, options.device)
        self.sentences, self.left_out = sentences(threads, options.device)
        self._words, self._rng = words_of(folder), np.random.default_rng(options.seed)

    def texts(self, lengths: Any) -> list[str]:
        return texts_of(self._words, np.asarray(lengths), self._rng)

    def mixed(self, count: int) -> list[str]:
        """Return texts of 4 to 256 tokens, as many of each doubling: titles to descriptions."""
        drawn = np.exp(self._rng.uniform(np.log(4), np.log(MAX_LENGTH + 1), count))
        return self.texts(drawn.astype(int))

    def short(self, count: int) -> list[str]:
        """Return texts of 4 to 20 tokens: titles."""
        return self.texts(self._rng.integers(4, 21, count))


def rounds(calls: dict[str, Callable[[], Any]], n_rounds: int) -> tuple[Any, Any]:
    """Return (ms of each round, last answer) of each call.

    The calls of a round come in an order drawn anew: a session that runs after another one finds
    the caches full of that one's weights.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    found = {name: call() for name, call in calls.items()}  # warm
    names, rng = list(calls), np.random.default_rng(n_rounds)
    for _ in range(n_rounds):
        for name in rng.permutation(names).tolist():
            start = time.perf_counter()
            found[name] = calls[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times, found


def cosines(found: Any, expected: Any) -> Any:
    """Return the cosine of each row to its reference."""
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return (found * expected).sum(axis=-1, dtype=np.float64) / norms


def checked(name: str, found: Any, expected: Any, limit: float = LEAST_COSINE) -> float:
    """Return the least cosine to the reference, which must be near."""
    least = float(cosines(found, expected).min())
    assert least >= limit, f"{name}: cosine {least} to the reference"
    return least


def throughput(models: Models, kind: str) -> dict[str, Any]:
    """Return texts a second of a catalogue, beside each order of the peer."""
    count = models.options.texts
    texts = models.mixed(count) if kind == "mixed" else models.short(4 * count)
    calls = {"recengine": lambda: models.ours.encode(texts)}
    calls |= {name: lambda name=name: models.peer.encode(texts, name) for name in ORDERS}
    if models.sentences is not None:
        calls[SENTENCES] = lambda: models.sentences.encode(texts)
    times, found = rounds(calls, models.options.repeats)
    expected = models.peer.alone(texts)
    results = {
        name: summary(times[name])
        | {
            "texts_per_second": 1e3 * len(texts) / float(np.median(times[name])),
            "least_cosine": checked(
                name,
                found[name],
                expected,
                OF_FLOAT_WEIGHTS if name == SENTENCES else LEAST_COSINE,
            ),
        }
        for name in calls
    }
    mine = results["recengine"]["median_ms"]
    ratios = {name: results[name]["median_ms"] / mine for name in calls if name != "recengine"}
    return {
        "case": "throughput",
        "texts": kind,
        "n_texts": len(texts),
        "threads": models.threads,
        "results": results,
        "ratios": ratios,
        "best_peer": min(ratios, key=ratios.__getitem__),
    }


def latency(models: Models, n_tokens: int) -> dict[str, Any]:
    """Return what a query takes, beside the bare call of the session on arrays made beforehand."""
    (text,) = models.texts([n_tokens])
    feeds = models.peer.feeds([text])
    assert feeds["input_ids"].shape == (1, n_tokens)
    bare = models.ours._session._native.run  # the same session: the same weights in the caches
    calls = {
        "bare call": lambda: bare(None, feeds),
        "recengine": lambda: models.ours.encode_query(text),
        "recengine, timeout": lambda: models.ours.encode_query(text, timeout=60.0),
        "onnxruntime and NumPy": lambda: models.peer.batch([text])[0],
    }
    n_rounds = max(20, models.options.query_repeats * 8 // n_tokens)
    times, found = rounds(calls, n_rounds)
    expected = models.peer.batch([text])[0]
    results = {}
    for name in calls:
        p50, p99 = np.percentile(times[name], [50, 99])
        results[name] = {"p50_ms": float(p50), "p99_ms": float(p99)}
        if name != "bare call":
            results[name]["cosine"] = checked(name, found[name], expected)
    base = results["bare call"]["p50_ms"]
    return {
        "case": "latency",
        "n_tokens": n_tokens,
        "threads": models.threads,
        "n_rounds": n_rounds,
        "results": results,
        "over_bare": {name: results[name]["p50_ms"] / base for name in calls},
    }


def requests(models: Models) -> dict[str, Any]:
    """Return what thousands of requests of any length take after warm-up, and what they leave."""
    lengths = np.random.default_rng(models.options.seed).integers(3, MAX_LENGTH + 1, REQUESTS)
    lengths = lengths[: models.options.requests]
    texts, times = models.texts(lengths), np.empty(len(lengths))
    assert models.ours.ready
    vectors = np.empty((len(lengths), models.ours.dim), np.float32)
    before = psutil.Process().memory_info().rss
    for number, text in enumerate(texts):
        start = time.perf_counter()
        vectors[number] = models.ours.encode_query(text, timeout=60.0)
        times[number] = 1e3 * (time.perf_counter() - start)
    grown = (psutil.Process().memory_info().rss - before - vectors.nbytes) / 1e6
    some = slice(None, None, max(1, len(texts) // 50))
    least = checked("requests", vectors[some], models.peer.alone(texts[some]))
    p50, p99, p999 = (float(each) for each in np.percentile(times, [50, 99, 99.9]))
    firsts = [int(np.flatnonzero(lengths == n)[0]) for n in np.unique(lengths)]
    near = [np.median(times[abs(lengths - lengths[first]) <= 4]) for first in firsts]
    return {
        "case": "requests",
        "threads": models.threads,
        "n_requests": len(texts),
        "p50_ms": p50,
        "p99_ms": p99,
        "p99.9_ms": p999,
        "p99.9_over_p50": p999 / p50,
        "worst_first_over_like": float(max(times[firsts] / near)),
        "grown_mb": grown,
        "least_cosine": least,
    }


REQUESTS = 1_000_000  # the most: the lengths of fewer are the first of these


def deadline(models: Models, timeout: float) -> dict[str, Any]:
    """Return how late the encoding of 64 texts of 256 tokens ends after its deadline."""
    texts = models.texts([MAX_LENGTH] * 64)
    late = []
    for _ in range(models.options.deadlines):
        start = time.perf_counter()
        try:
            models.ours.encode(texts, timeout=timeout)
        except DeadlineError:
            late.append(1e3 * (time.perf_counter() - start - timeout))
    assert len(late) == models.options.deadlines, "a deadline was not kept"
    return {
        "case": "deadline",
        "threads": models.threads,
        "timeout_ms": 1e3 * timeout,
        "late_ms": {"median": float(np.median(late)), "most": max(late)},
    }
