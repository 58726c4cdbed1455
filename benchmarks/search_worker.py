"""The process of an engine that search_remote.py asks.

It answers each line on stdin with the milliseconds that one search took, the ids (and scores) in
found.npz.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def open_numpy(folder: Path, given: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from search_peers import numpy_peer

    search = numpy_peer(np.load(folder / "queries.npy"), np.load(folder / "items.npy"), given["k"])
    return lambda: {"ids": search()}


def open_recengine(folder: Path, given: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from search_rounds import ours
    from search_vectors import make, make_filter

    import recengine as rec

    options = argparse.Namespace(**given)
    vectors = make(options.vectors, options.n_items, options.dim, options.n_queries, options.seed)
    index = rec.FlatIndex(vectors.items, metric=options.metric)
    chosen = make_filter(options.filter, vectors, options.seed)
    search, _ = ours(index, vectors, chosen, options)

    def answer() -> dict[str, Any]:
        ids, scores = search()
        return {"ids": ids, "scores": scores, "level": index.stats["level"]}

    return answer


def main(kind: str, folder: Path) -> None:
    given = json.loads((folder / "given.json").read_text())
    search = {"numpy": open_numpy, "recengine": open_recengine}[kind](folder, given)
    for _ in sys.stdin:
        started = time.perf_counter()
        found = search()
        elapsed = 1e3 * (time.perf_counter() - started)
        np.savez(folder / "found.npz", **found)
        print(elapsed, flush=True)


if sys.argv[:1] == [__file__]:  # `make bench` runs what has the usual line
    main(sys.argv[1], Path(sys.argv[2]))
