"""The table of the search benchmark: every case in its own process, then JSON, Markdown and a plot.

    python benchmarks/search_table.py            # 12 minutes; rewrites benchmarks/results
    python benchmarks/search_table.py --quick --out FOLDER # tiny sizes, to see that it works
    python benchmarks/search_table.py --compare benchmarks/results/search.json --out FOLDER

A case is a command line of search.py, kept in the JSON beside what it gave, so that any row can
be run alone. Gaussian and catalogue vectors are also searched at AVX2, where that is not the best
level of the machine. `--compare` exits with 1 when a ratio fell by more than the noise. When the
table goes to benchmarks/results, README is rewritten from it (report.py).
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from search_compare import compare
from search_figures import AT_LEVEL

from recengine import _native

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
LEVEL = "avx2"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
ALLOWED = (0.001, 0.01, 0.1)
QUICK = ((1_000_000, 4_000), (300_000, 3_000), (200_000, 2_000), (100_000, 1_500), (30_000, 1_000))


def cases() -> list[tuple[str, str]]:
    """Return (group, command line) of every case of the full table."""
    gaussian, wide = "--n-items 1000000 --dim 128", "--n-items 200000 --dim 384"
    narrow, cone = "--n-items 1000000 --dim 64", "--n-items 200000 --dim 64"
    main = [
        *(f"{gaussian} --n-queries {n}" for n in (1, 32, 256)),
        f"{gaussian} --n-queries 256 --k 100",
        f"{gaussian} --n-queries 256 --threads 2",
        f"{wide} --n-queries 256",
        *(f"--vectors catalogue --metric {m} --n-queries {n}" for m in METRICS for n in (1, 256)),
    ]
    if LEVEL in _native.simd_levels()[:-1]:
        main = [f"{line} --level {LEVEL}" for line in main]
    table = [
        *main,
        *(f"--vectors cone {cone} --metric {m} --n-queries {n}" for m in METRICS for n in (1, 256)),
        f"--vectors clustered {cone} --n-queries 256 --metric l2",
        "--vectors ml-100k-als --n-queries 256",
        "--vectors minilm --n-queries 256 --metric cosine",
        "--n-items 100000 --dim 128 --n-queries 32 "
        "--peers onnxruntime,implicit,faiss,numpy,usearch",
    ]
    sizes = [f"--n-items {n} --dim 64 --n-queries {q}" for q in (1, 256) for n in SIZES]
    filters = ["none", "seen:50", "deny:0.5", *(f"allow:{share}" for share in ALLOWED)]
    chosen = [f"{narrow} --n-queries 32 --filter {text}" for text in filters]
    groups = (("table", table), ("size", sizes), ("filter", chosen))
    return [(group, line) for group, lines in groups for line in lines]


METRICS = ("dot", "cosine")


def quick(line: str) -> str:
    """Return a case of the same kind that takes a second, beside the peers of the extra `test`."""
    for full, small in QUICK:
        line = line.replace(f"--n-items {full} ", f"--n-items {small} ")
    line = line.replace("catalogue", "catalogue --n-items 2000").replace("seen:50", "seen:5")
    line = line.replace("0.001", "0.005")
    line = re.sub(r" --peers \S+", "", line).replace("--n-queries 256", "--n-queries 20")
    return f"{line} --peers onnxruntime,implicit,numpy --repeats 2"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; needs --out")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases that contain it")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of each case")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="exit 1 if a ratio fell")
    parser.add_argument("--no-plot", action="store_true", help="do without matplotlib")
    options = parser.parse_args(arguments)
    if (options.quick or options.only) and options.out.resolve() == RESULTS:
        parser.error("part of the table does not replace the committed one: choose --out FOLDER")
    return options


def run(line: str) -> dict[str, Any]:
    """Run one case in a process of its own and return its report."""
    command = [sys.executable, str(HERE / "search.py"), *shlex.split(line), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"python benchmarks/search.py {line}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def collect(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    chosen = [(group, line) for group, line in cases() if options.only in line]
    for i, (group, full) in enumerate(chosen):
        line = quick(full) if options.quick else f"{full} --repeats {options.repeats}"
        console.print(f"{i + 1}/{len(chosen)} {line}", highlight=False, soft_wrap=True)
        found.append({"group": group, "command": f"python benchmarks/search.py {line}"} | run(line))
        case = found[-1]
        console.print(
            f"      {case['results']['recengine']['median_ms']:.2f} ms, "
            f"×{case['ratio_to_best_peer']:.2f} {case['best_peer']}",
            highlight=False,
        )
    return {"benchmark": "search-table", "machine": found[0]["machine"], "cases": found}


def markdown(report: dict[str, Any]) -> str:
    """Return all cases as one Markdown table, the best peer and the ratio to it in each row."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Search benchmark",
        "",
        f"{machine['cpu']}, {machine['simd']}, {machine['cpus']} CPUs; {versions}; commit "
        f"{machine['commit']}. Medians in ms; a ratio above 1 means that recengine is faster.",
        "At AVX2: recengine held to that SIMD level, in the same rounds; the peers keep theirs.",
        "int8 peak: the share of it that the pairs looked at come to. Read peak: that of memory, "
        "the share of it that the bytes read by one query come to, which caches exceed; time / "
        "bytes is the inverse. Written by `python benchmarks/search_table.py`.",
        "",
        "| vectors | items × dim | metric | queries | k | filter | threads | recengine | spread "
        "| best peer | its ms | ratio | of minima | at AVX2 | ratio | int8 peak | read peak "
        "| time / bytes |",
        f"|---|---|---|--:|--:|---|--:|--:|--:|---|{'--:|' * 8}",
    ]
    for case in report["cases"]:
        options, shape, best = case["options"], case["vectors"], case["best_peer"]
        mine, peer = case["results"]["recengine"], case["results"][best]
        cells = [
            options["vectors"],
            f"{shape['n_items']:,} × {shape['dim']}",
            *(str(options[name]) for name in ("metric", "n_queries", "k", "filter", "threads")),
            f"{mine['median_ms']:.2f}",
            f"{mine['spread']:.0%}",
            best,
            f"{peer['median_ms']:.2f}",
            f"×{case['ratio_to_best_peer']:.2f}",
            f"×{case['ratio_of_minima']:.2f}",
            *at_level(case),
            _percent(case["share_of_int8_peak"]),
            _percent(case["share_of_read_peak"]),
            _times(case["time_over_bytes"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *notes(report["cases"])]
    return "\n".join(lines) + "\n"


def at_level(case: dict[str, Any]) -> tuple[str, str]:
    """Return recengine's median at the level of --level, and the ratio of the best peer to it."""
    if case["at_level"] is None:
        return "–", "–"
    median = case["results"][AT_LEVEL]["median_ms"]
    return f"{median:.2f}", _times(case["at_level"]["ratio_to_best_peer"])


def notes(found: list[dict[str, Any]]) -> list[str]:
    """Return what the table has no column for."""
    lines = []
    for case in found:
        kept = case["vectors"].get("kept_by_norms")
        if kept and case["options"]["vectors"] == "catalogue":
            lines.append(
                f"- Catalogue, dot, {case['options']['n_queries']} queries: norms alone keep "
                f"{kept['median']:.1%} of the items (median; p99 {kept['p99']:.1%})."
            )
        if case["filter"] and case["filter"]["n_ids"]:
            about = case["filter"]
            lines.append(
                f"- {case['options']['filter']}: {about['n_ids']:,} ids, prepared in "
                f"{about['prepare_ms']:.1f} ms, {about['timed']}."
            )
    return lines


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"×{ratio:.2f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    old = json.loads(options.compare.read_text()) if options.compare else None
    report = collect(options, Console(stderr=True))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "search.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "search.md").write_text(markdown(report))
    if not options.no_plot:
        from search_plot import draw

        draw(report, options.out / "search.png")
    if options.out.resolve() == RESULTS:
        import report as readme

        readme.main([])
    return 0 if old is None else compare(old, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
