"""README's figures, written from the committed JSON and from nothing else.

    python benchmarks/report.py            # rewrites the block of README.md; twice changes nothing
    python benchmarks/report.py --check    # exits with 1 when README.md is not what it would write

The JSON comes from `search_table.py` and `factorize_table.py`, from `encode.py --out
benchmarks/results` and from `quality.py`, `online.py`, `build.py` and `live.py`, each with `--json
benchmarks/results/NAME.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured:begin", "<!-- measured:end -->"


def quality(report: dict[str, Any]) -> list[str]:
    """Return the quality section, losses to popularity and to peers included."""
    from quality_page import command, section

    return [*section(report), "", *source(report["machine"], command(report["options"]))]


def search(report: dict[str, Any]) -> list[str]:
    """Return the search section: ours, the best peer of each row, the ratio; also at AVX2."""
    cases = [case for case in report["cases"] if case["group"] != "size"]
    has_level = any(case.get("at_level") for case in cases)
    lines = [
        "### Exact search beside the best peer of each row",
        "",
        "Medians in ms, interleaved in one run, every answer checked against float64. Peers: "
        "onnxruntime's MatMul + TopK, implicit, faiss Flat (with and without BLAS) and NumPy, each "
        "at its best settings; under allow and deny they search only the rows left, gathered "
        "beforehand. A ratio below 1 is a loss.",
        "",
        "| vectors | items × dim | metric | queries | k | filter | threads | recengine "
        "| best peer | ratio |" + (" at AVX2 | ratio |" if has_level else ""),
        "|---|---|---|--:|--:|---|--:|--:|---|--:|" + ("--:|--:|" if has_level else ""),
    ]
    for case in cases:
        options, shape, best = case["options"], case["vectors"], case["best_peer"]
        cells = [
            options["vectors"],
            f"{shape['n_items']:,} × {shape['dim']}",
            *(str(options[name]) for name in ("metric", "n_queries", "k", "filter", "threads")),
            f"{case['results']['recengine']['median_ms']:.2f}",
            f"{best} {case['results'][best]['median_ms']:.2f}",
            f"×{case['ratio_to_best_peer']:.1f}",
            *(_at_level(case) if has_level else ()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if has_level:
        lines += [
            "",
            "At AVX2: recengine in a process held to that SIMD level (`RECENGINE_SIMD=avx2`), in "
            "the same rounds, beside the same peers, which use all that the CPU has.",
        ]
    return [
        *lines,
        "",
        "All cases, spreads and shares of the machine's peaks: "
        "[search.md](benchmarks/results/search.md); time against the number of items and against "
        "selectivity: [search.png](benchmarks/results/search.png).",
        "",
        *source(report["machine"], "search_table.py"),
    ]


def _at_level(case: dict[str, Any]) -> tuple[str, str]:
    found = case["at_level"]
    if not found:
        return "", ""
    median = case["results"]["recengine-level"]["median_ms"]
    return f"{median:.2f}", f"×{found['ratio_to_best_peer']:.1f}"


def build(report: dict[str, Any]) -> list[str]:
    """Return what an index costs to build and to keep, and a filter to prepare."""
    options = report["options"]
    found = next(case["filter"] for case in report["cases"] if "filter" in case)
    lines = [
        "### Building an index",
        "",
        f"{options['n_items']:,} × {options['dim']}, {options['metric']}, default ids, one thread, "
        f"each in {options['repeats']} processes of their own. Memory is what the process holds "
        "beyond the caller's array, in multiples of the float32 vectors; a read-only array is kept "
        "as it is.",
        "",
        "| storage | array given | build, s of CPU | memory kept | at most, on the way |",
        "|---|---|--:|--:|--:|",
    ]
    for case in report["cases"]:
        lines.append(
            f"| {case['storage']} | {case['given']} | {case['cpu_s']:.2f} "
            f"| ×{case['kept']:.2f} | ×{case['peak']:.2f} |"
        )
    one, many = (found[f"search_{n}_ms"] for n in (1, 32))
    return [
        *lines,
        "",
        f"`index.filter(allow=...)` of {found['named']:,} ids is prepared in "
        f"{found['prepare_ms']['median']:.0f} ms. A search with it takes "
        f"{one['with']['median']:.2f} ms for one query ({one['without']['median']:.2f} without) "
        f"and {many['with']['median']:.1f} ms for 32 ({many['without']['median']:.1f}).",
        "",
        *source(report["machine"], "build.py"),
    ]


def live(report: dict[str, Any]) -> list[str]:
    """Return what searches notice of a writer."""
    options, checked = report["options"], report["violations"]
    memory = report["memory_mib"]
    lines = [
        "### Searches beside a writer",
        "",
        f"{options['n_items']:,} × {options['dim']}, {options['metric']}, k={options['k']}: "
        f"{options['searchers']} threads search one query after the other, for "
        f"{options['seconds']:.0f} s. The control is a third thread that wakes "
        f"{options['rate']:,} times a second and does nothing. CPUs of other programs are those "
        "that were busy meanwhile: where they are, so are the tails.",
        "",
        "| beside them | p50, ms | p99 | p99.9 | searches a second | CPUs, ours | of others |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    titles = {"alone": "nothing", "control": "the control", "writer": "the writer"}
    for name, title in titles.items():
        row = report["phases"][name]
        lines.append(
            f"| {title} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['p99.9_ms']:.2f} "
            f"| {row['per_second']:,} | {row['cpus']:.2f} | {max(0, row['other_cpus']):.2f} |"
        )
    return [
        *lines,
        "",
        f"The writer made {report['updates_per_second']:,} updates a second, "
        f"{report['deletes'] / report['updates']:.0%} of them deletes, with "
        f"{report['compactions']} compactions; p99 is ×{report['p99_to_alone']:.1f} of that "
        f"without it. {checked['entries']:,} entries of answers were checked against its log, "
        f"{checked['violations']} were wrong. Resident memory: {memory[0]:.0f} MiB at first, "
        f"{max(memory):.0f} at most, {memory[-1]:.0f} at last.",
        "",
        *source(report["machine"], "live.py"),
    ]


def encode(report: dict[str, Any]) -> list[str]:
    """Return texts a second beside other batchings, and a query beside the bare call."""
    from encode_page import latency, sentences, throughput

    return [
        "### Encoding texts",
        "",
        f"{report['model']} (MiniLM, 6 layers) on the CPU, medians interleaved in one run, every "
        "vector held against the text run alone. Peers are the same model through plain "
        "onnxruntime: the loop over 32 texts as they come, 32 by length as sentence-transformers "
        "batches, 256 as fastembed does. A ratio above 1 means that recengine is faster.",
        "",
        *throughput(report),
        "",
        "One query, tokenized and pooled, beside the bare call of an onnxruntime session on arrays "
        "made beforehand; one thread.",
        "",
        *latency(report),
        "",
        *sentences(report),
        "",
        "[encode.png](benchmarks/results/encode.png) shows both.",
        "",
        *source(report["machine"], _encode_command(report["options"])),
    ]


def _encode_command(options: dict[str, Any]) -> str:
    sizes = f"--texts {options['texts']} --query-repeats {options['query_repeats']}"
    return f"encode.py {sizes} --out benchmarks/results"


def factorize(report: dict[str, Any]) -> list[str]:
    """Return what training factors takes beside the peers, and who is where first."""
    from factorize_page import races, section

    return [
        "### Training factors beside the best peers",
        "",
        "ALS from the same initial factors, one epoch a round in turn; seconds of an epoch are the "
        "median without the first. Every loss is recengine's own function, of anybody's factors; "
        "exact solvers must agree to 1e-5 of it. implicit at the faster of two sets of OpenBLAS "
        "kernels, BLAS on one thread as it asks; irspack's parameters map exactly onto either "
        "objective. A case is objective, interactions, factors. *of one thread*: how many times "
        "faster than on one. Memory: the rise of the peak over a warmed tiny fit.",
        "",
        *section(report),
        "",
        "What a peer's last loss takes: of our solvers the one that is there first, preparations "
        "included. A ratio below 1 is a loss.",
        "",
        *races(report),
        "",
        "Loss against seconds: [factorize.png](benchmarks/results/factorize.png).",
        "",
        *source(report["machine"], "factorize_table.py"),
    ]


def online(report: dict[str, Any]) -> list[str]:
    """Return how soon a recommendation knows of an event."""
    from online_page import section, sentences

    options = report["options"]
    return [
        "### From an event to the next list",
        "",
        f"ALS, {options['n_items']:,} items × {options['factors']}, {options['n_users']:,} users, "
        f"{options['threads']} thread, call by call in turn with implicit, from Python. A user is "
        "solved from the history (`fold_in`, `recalculate_user`); an event is the best item of the "
        "list before (`observe`, `partial_fit_users`), gone from the next one. Every solution is "
        "held against a float64 oracle, every list against the scores of all items.",
        "",
        *section(report),
        "",
        sentences(report),
        "",
        *source(report["machine"], "online.py"),
    ]


def source(machine: dict[str, Any], command: str) -> list[str]:
    """Return where the figures come from, in one line."""
    names = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    head, _, changes = (machine["commit"] or "unknown").partition("+")
    commit = head[:10] + (" with changes" if changes else "")
    return [
        f"`python benchmarks/{command}` on {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{machine['simd']}; Python {machine['python']}, {names}; commit {commit}."
    ]


SECTIONS = {
    "quality": quality,
    "factorize": factorize,
    "online": online,
    "search": search,
    "build": build,
    "live": live,
    "encode": encode,
}


def block(results: Path = RESULTS) -> str:
    """Return what stands between the two marks of README."""
    lines = [""]
    for name, section in SECTIONS.items():
        report = json.loads((results / f"{name}.json").read_text())
        lines += [*section(report), ""]
    return "\n".join(lines)


def written(readme: str, text: str) -> str:
    """Return `readme` with `text` between its marks."""
    before, mark, rest = readme.partition(BEGIN)
    opening, _, tail = rest.partition("\n")
    _, end, after = tail.partition(END)
    if not mark or not end:
        raise ValueError(f"README must hold {BEGIN} ... --> and {END}, each on a line of its own")
    return f"{before}{mark}{opening}\n{text}\n{end}{after}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    options = parser.parse_args(arguments)
    now = README.read_text()
    then = written(now, block())
    if not options.check and then != now:
        README.write_text(then)
    return int(options.check and then != now)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
