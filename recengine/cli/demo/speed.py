"""Screen 8: exact search beside NumPy and onnxruntime, answers compared before times."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from recengine.cli.demo import peers
from recengine.cli.demo.stage import Stage
from recengine.cli.screen import duration, span

if TYPE_CHECKING:
    from rich.text import Text

    from recengine._types import Float32Array

DIM, K, BATCH, REPEATS, SEED = 64, 10, 32, 7, 0
NAMES = ("FlatIndex", "NumPy", "onnxruntime")
Times = dict[str, list[float]]


def show(stage: Stage, n_items: int) -> None:
    """Search n_items random vectors for one query and for a batch, three ways."""
    import numpy as np

    from recengine._native import num_cpus

    threads = num_cpus()
    stage.lesson(
        f"The exact best {K} of {n_items:,} × {DIM} float32 vectors by inner product: FlatIndex, "
        "NumPy (matmul + argpartition), onnxruntime (MatMul + TopK). All three must find the same."
    )
    rng = np.random.default_rng(SEED)
    vectors = rng.standard_normal((n_items, DIM), dtype=np.float32)
    vectors.flags.writeable = False  # so that FlatIndex borrows them
    queries = rng.standard_normal((BATCH, DIM), dtype=np.float32)
    with ExitStack() as stack:
        with stage.step("make the vectors known to all three"):
            graph = peers.by_onnxruntime(vectors, K, threads)
            searches = dict(
                zip(
                    NAMES,
                    (
                        peers.flat_index(vectors, K, threads),
                        peers.by_numpy(vectors, K),
                        stack.enter_context(graph),
                    ),
                    strict=True,
                )
            )
        with stage.step(f"compare the answers to {BATCH} queries with float64"):
            equal = _compared(searches, vectors, queries)
        with stage.step(f"{REPEATS} interleaved runs of 1 query and of {BATCH}"):
            single, batch = (
                _timed(searches, [queries[i : i + 1] for i in range(REPEATS)]),
                _timed(searches, [queries] * REPEATS),
            )
    stage.console.print()
    _show_times(stage, single, batch, equal)
    stage.note(
        f"Medians of {REPEATS} interleaved runs [fastest–slowest]; ratio: times FlatIndex's. "
        f"FlatIndex and onnxruntime used {threads} threads; NumPy ran with the environment's BLAS "
        f"settings. Random vectors, seed {SEED}. Ids: places of {BATCH * K} that "
        "hold the same item as float64 arithmetic; a float32 peer may swap items that differ by "
        "less than its rounding, nothing more."
    )


def _compared(
    searches: dict[str, peers.Search], vectors: Float32Array, queries: Float32Array
) -> dict[str, int]:
    import numpy as np

    truth, scores = peers.true_ids(vectors, queries, K)
    # A float32 dot product of d terms is off by at most d·2⁻²⁴·Σ|qᵢxᵢ|, and Σ|qᵢxᵢ| ≤ |q||x|.
    longest = float(np.linalg.norm(queries, axis=1).max() * np.linalg.norm(vectors, axis=1).max())
    bound = DIM * 2.0**-24 * longest
    return {
        name: peers.n_equal(search(queries), truth, scores, 0.0 if name == "FlatIndex" else bound)
        for name, search in searches.items()
    }


def _timed(searches: dict[str, peers.Search], runs: list[Float32Array]) -> Times:
    """Return the seconds of each run; the three take turns, and turns at being first."""
    times: Times = {name: [] for name in searches}
    for search in searches.values():
        search(runs[0])
    for number, queries in enumerate(runs):
        names = list(searches)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            searches[name](queries)
            times[name].append(time.perf_counter() - start)
    return times


def _show_times(stage: Stage, single: Times, batch: Times, equal: dict[str, int]) -> None:
    rows = [
        (
            name,
            *_cells(single, name),
            *_cells(batch, name),
            f"{equal[name]} of {BATCH * K}",
        )
        for name in NAMES
    ]
    stage.table("", ">1 query", ">ratio", f">{BATCH} queries", ">ratio", ">same ids", rows=rows)


def _cells(times: Times, name: str) -> tuple[Text, Text]:
    from statistics import median

    from rich.text import Text

    medians = {each: median(values) for each, values in times.items()}
    fastest = min(medians.values())
    style = "bold green" if medians[name] == fastest else ""
    low, high = min(times[name]), max(times[name])
    return (
        Text.assemble((duration(medians[name]), style), (f"  [{span(low, high)}]", "dim")),
        Text(f"{medians[name] / medians['FlatIndex']:.2f}×", style),
    )
