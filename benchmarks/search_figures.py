"""What the rounds of a case come to: medians, ratios, and what the search did in that time."""

from __future__ import annotations

from typing import Any

import numpy as np

import recengine as rec

PANEL_ROWS = 32
AT_LEVEL = "recengine-level"  # recengine at --level
OURS = ("recengine", AT_LEVEL)


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


def beside(mine: dict[str, Any], peers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios of one summary to those of the peers; None for no peer."""
    ratios = {name: row["median_ms"] / mine["median_ms"] for name, row in peers.items()}
    best = min(ratios, key=ratios.__getitem__, default=None)
    least = min((row["min_ms"] for row in peers.values()), default=None)
    return {
        "ratios": ratios,
        "best_peer": best,
        "ratio_to_best_peer": None if best is None else ratios[best],
        "ratio_of_minima": None if least is None else least / mine["min_ms"],
    }


def work(stats: dict[str, Any], rows: dict[str, float], dim: int) -> dict[str, float]:
    """Return what one search did, of an index whose searches were all the same.

    Parameters
    ----------
    stats : dict
        `FlatIndex.stats`.
    rows : dict
        Bytes of a row, see `row_bytes`.
    dim : int

    Returns
    -------
    dict
        pairs : of query and item that a scan looked at; ops : 2 dim a pair; bytes : of codes and
        vectors that were read, each query by itself.
    """
    searches = max(1, stats["searches"])
    vectors = stats["float32"] + stats["float64"] + stats["rescored"]
    read = (
        stats["coarse"] * rows["coarse"] + stats["fine"] * rows["fine"] + vectors * rows["vector"]
    )
    pairs = stats["scanned"] / searches
    return {"pairs": pairs, "ops": 2.0 * dim * pairs, "bytes": read / searches}


def row_bytes(index: rec.FlatIndex) -> dict[str, float]:
    """Return the bytes of a row: of its vector, and of its codes with what stands beside them."""
    base = index._live.generation.base
    found = {"coarse": 0.0, "fine": 0.0, "vector": float(base.vectors[:1].nbytes)}
    if base.codes is not None:
        order = base.codes.get("order")
        slots = base.n_rows if order is None else len(order)
        rows = PANEL_ROWS * -(-slots // PANEL_ROWS)
        found["coarse"] = base.codes["high"].nbytes / rows
        found["fine"] = found["coarse"] + base.codes["low"].nbytes / rows
    return found


def rates(
    done: dict[str, float], median_ms: float, n_queries: int, ceiling: dict[str, Any] | None
) -> dict[str, Any]:
    """Return GOP/s and GB/s, their shares of the peaks, and the time over that of reading.

    Queries of a batch share what they read, so only one query by itself has GB/s.
    """
    gops = 1e-6 * done["ops"] / median_ms
    gbs = 1e-6 * done["bytes"] / median_ms if n_queries == 1 else None
    of_read = share(gbs, ceiling, "read_gbs")
    return {
        "gops": gops,
        "gbs": gbs,
        "peak": ceiling,
        "share_of_int8_peak": share(gops, ceiling, "int8_gops"),
        "share_of_read_peak": of_read,
        "time_over_bytes": 1 / of_read if of_read else None,
    }


def share(figure: float | None, ceiling: dict[str, Any] | None, name: str) -> float | None:
    """Return the share of a measured peak, None where either is missing."""
    if figure is None or ceiling is None or not ceiling[name]:
        return None
    return float(figure / ceiling[name])
