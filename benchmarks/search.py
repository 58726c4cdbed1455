"""How long does an exact top-k take, beside the best that other libraries do on this CPU?

    python benchmarks/search.py --n-items 1000000 --dim 64 --n-queries 256 --k 10 --threads 1

The rounds are interleaved: each engine answers once per round, in turn. Every answer of every
engine is compared with float64: recengine's ids and score bits must be the canonical ones, a
peer's ids may differ only by float32 rounding. Peers run with OPENBLAS_CORETYPE and
OPENBLAS_L2_SIZE unset, which slow NumPy where they are set.

A ratio is a peer's median over ours: above 1 we are faster. `--level avx2` also times recengine in
a process that is held to that SIMD level, beside the same peers in the same rounds.

What a search did comes from `index.stats`. GOP/s (`gops`) counts 2 × dim for each pair of item and
query that a scan looked at, of which there are `scanned_share` of all. GB/s (`gbs`, of one query
only: a batch shares what it reads) counts the codes and the vectors it read; `time_over_bytes` is
its time over that of reading as much at the measured peak. The peaks are those that peak.cpp
reaches on this machine before and after the rounds, reading from memory: codes that fit the
last-level cache may be read faster. `--compare OLD.json` exits with 1 when a ratio fell by more
than the noise of both runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

SLOWS_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS_OF_PEERS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


def parse(arguments: list[str]) -> argparse.Namespace:
    from search_peers import PEERS
    from search_vectors import GIVEN, MADE, is_made, parse_filter

    from recengine import _native

    kinds = "|".join((*MADE, *GIVEN, "catalogue", "FILE.npy"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", default="gaussian", metavar=kinds)
    parser.add_argument("--n-items", type=int, help="of made vectors; 1000000, catalogue 200000")
    parser.add_argument("--dim", type=int, help="of made vectors; 64")
    parser.add_argument("--n-queries", type=int, default=256)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="dot")
    parser.add_argument("--filter", default="none", metavar="none|seen:50|allow:0.01|deny:0.5")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--peers",
        default=",".join(name for name in PEERS if name != "usearch"),
        help=f"comma-separated, of {','.join(PEERS)}; or none. usearch is left out: 16 s a round",
    )
    parser.add_argument("--level", metavar="SIMD", help="also time recengine at this SIMD level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    parser.add_argument("--compare", metavar="OLD.json", help="exit with 1 if a ratio fell")
    options = parser.parse_args(arguments)
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers must be of {', '.join(PEERS)}, got {', '.join(sorted(unknown))}")
    if options.level is not None and options.level not in (levels := _native.simd_levels()):
        parser.error(f"--level must be of {', '.join(levels)} here, got {options.level}")
    for name in ("n_items", "dim", "n_queries", "k", "threads", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {value}")
    if not is_made(options.vectors):
        if options.n_items or options.dim:
            parser.error("--n-items and --dim are for vectors that are made, these have theirs")
        if options.vectors not in GIVEN and not Path(options.vectors).exists():
            parser.error(f"--vectors must be {kinds}, got {options.vectors}")
    try:
        parse_filter(options.filter)
    except ValueError as error:
        parser.error(str(error))
    return options


def restart_with_fair_peers(threads: int) -> None:
    """Run this program again in an environment that lets BLAS and OpenMP do their best."""
    fair = {name: value for name, value in os.environ.items() if name not in SLOWS_NUMPY}
    fair |= dict.fromkeys(THREADS_OF_PEERS, str(threads))
    if fair != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], fair)


def threads_asked(arguments: list[str]) -> int:
    """Return --threads as far as it can be read before NumPy is loaded."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--threads", type=int, default=1)
    return int(parser.parse_known_args(arguments)[0].threads)


def show(result: dict[str, Any]) -> None:
    options, shape = result["options"], result["vectors"]
    print(
        f"{options['vectors']}, {shape['n_items']:,} × {shape['dim']}, "
        f"{options['n_queries']} queries, k={options['k']}, {options['metric']}, "
        f"filter {options['filter']}, {options['threads']} thread(s), "
        f"{result['machine']['cpu']}, {result['machine']['simd']}"
    )
    base = result["results"]["recengine"]["median_ms"]
    for name, row in sorted(result["results"].items(), key=lambda pair: pair[1]["median_ms"]):
        print(
            f"{name:>15}  median {row['median_ms']:9.2f} ms  min {row['min_ms']:9.2f}  "
            f"spread {row['spread']:4.0%}  ×{row['median_ms'] / base:.2f}"
        )
    if (at_level := result["at_level"]) is not None and at_level["best_peer"] is not None:
        print(
            f"at {options['level']} the best peer, {at_level['best_peer']}, takes "
            f"×{at_level['ratio_to_best_peer']:.2f} as long"
        )
    print(f"{did(result)}, {result['rescored_share']:.3%} of them scored exactly")
    if "kept_by_norms" in shape:
        print(
            "norms alone keep {median:.1%} of the items (p99 {p99:.1%})".format_map(
                shape["kept_by_norms"]
            )
        )
    if result["filter"] is not None:
        print(
            "the filter names {n_ids:,} ids, prepared in {prepare_ms:.1f} ms, {timed}".format_map(
                result["filter"]
            )
        )
    print(f"index built in {result['build_s']:.2f} s")


def did(result: dict[str, Any]) -> str:
    """Say what a search did, and at what share of the peaks."""
    shares = [(f"{result['gops']:.0f} GOP/s", result["share_of_int8_peak"])]
    if result["gbs"] is not None:
        shares.append((f"{result['gbs']:.1f} GB/s", result["share_of_read_peak"]))
    rates = ", ".join(f"{text} ({_percent(of_peak)} of the peak)" for text, of_peak in shares)
    text = f"{rates}; {result['scanned_share']:.1%} of the pairs looked at"
    if result["time_over_bytes"] is not None:
        text += f", ×{result['time_over_bytes']:.2f} the time of reading what it read"
    return text


def _percent(share: float | None) -> str:
    return "no figure" if share is None else f"{share:.0%}"


def main(arguments: list[str]) -> int:
    restart_with_fair_peers(threads_asked(arguments))
    options = parse(arguments)
    from search_compare import compare
    from search_rounds import measure

    old = json.loads(Path(options.compare).read_text()) if options.compare else None
    try:
        result = measure(options)
    except ValueError as error:  # the sizes do not fit the vectors
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(result, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        show(result)
        if options.json:
            Path(options.json).write_text(text)
    return 0 if old is None else compare(old, result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
