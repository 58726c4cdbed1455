"""The search table as a picture: time against the number of items, and against selectivity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NAMES = ("recengine", "onnxruntime", "implicit", "faiss-blas", "faiss", "numpy")
COLOURS = ("#c0392b", "#2c3e50", "#2980b9", "#27ae60", "#8bc34a", "#8e44ad")


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture to `path`; the same figures give the same bytes."""
    cases = report["cases"]
    by_size = [case for case in cases if case["group"] == "size"]
    batches = sorted({case["options"]["n_queries"] for case in by_size})
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(batches) + 1, squeeze=False)[0]
    for axis, n_queries in zip(axes, batches, strict=False):
        chosen = [case for case in by_size if case["options"]["n_queries"] == n_queries]
        _lines(axis, [case["vectors"]["n_items"] for case in chosen], chosen)
        axis.set_title(f"{n_queries} {'query' if n_queries == 1 else 'queries'}, dim 64, k=10")
        axis.set_xlabel("items")
    _filters(axes[-1], [case for case in cases if case["group"] == "filter"])
    axes[0].set_ylabel("ms (median)")
    axes[0].legend(frameon=False, fontsize=8)
    machine = report["machine"]
    figure.suptitle(f"Exact top-k, one thread, {machine['cpu']}, {machine['simd']}", fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": f"matplotlib {mpl.__version__}"})


def _lines(axis: Axes, places: list[float], cases: list[dict[str, Any]]) -> None:
    for name, colour in zip(NAMES, COLOURS, strict=True):
        points = [
            (place, case["results"][name]["median_ms"])
            for place, case in zip(places, cases, strict=True)
            if name in case["results"]
        ]
        if points:
            width = 2.5 if name == "recengine" else 1.2
            axis.plot(*zip(*points, strict=True), "o-", ms=3, lw=width, color=colour, label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)


def _filters(axis: Axes, cases: list[dict[str, Any]]) -> None:
    """Draw time against the share of the items that a shared filter leaves."""
    left = [(share, case) for case in cases if (share := share_left(case["options"]["filter"]))]
    left.sort(key=lambda pair: pair[0])
    _lines(axis, [share for share, _ in left], [case for _, case in left])
    axis.set_xlabel("share of the items that may be returned")
    if left:
        shape, options = left[0][1]["vectors"], left[0][1]["options"]
        axis.set_title(f"{shape['n_items']:,} × {shape['dim']}, {options['n_queries']} queries")


def share_left(text: str) -> float | None:
    """Return the share of items that a filter leaves; None for what each query has seen."""
    kind, _, amount = text.partition(":")
    if kind == "seen":
        return None
    return {"none": 1.0, "allow": float(amount or 1), "deny": 1 - float(amount or 0)}[kind]
