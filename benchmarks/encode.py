"""How fast are texts encoded, beside the same model through plain onnxruntime?

    python benchmarks/encode.py                       # 15 minutes; prints, and draws nothing
    python benchmarks/encode.py --out benchmarks/results   # also encode.json, encode.md, encode.png
    python benchmarks/encode.py --quick --json -      # seconds, to see that it works
    python benchmarks/encode.py --device cuda --json - # the same on a GPU, refused without one

The model is all-MiniLM-L6-v2 with int8 weights, fetched by name. Four kinds of cases, each of
which asserts its answer (cosine to each text run alone through plain onnxruntime):

- throughput: a catalogue of texts of mixed length, and one of titles; peers are encode_peers.py's;
- latency: one query of n tokens, tokenized and pooled, beside the bare call of an onnxruntime
  session on arrays made beforehand, the least that any encoder must pay;
- requests: queries of random lengths after `warm_up`: p99.9 over p50, growth of memory;
- deadline: how late the encoding of 64 texts of 256 tokens ends after its deadline.

The rounds are interleaved. A ratio is a peer's median over ours: above 1 we are faster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
MODEL = "minilm-l6-int8"
TIMEOUTS = (0.001, 0.1, 0.5)
SMALL = {"texts": 8, "repeats": 1, "query_repeats": 20, "requests": 40, "deadlines": 1}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="comma-separated; the first for latency")
    parser.add_argument("--texts", type=int, default=256, help="of mixed length; titles: 4 times")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of a catalogue")
    parser.add_argument("--query-repeats", type=int, default=600, help="rounds of a short query")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--deadlines", type=int, default=20, help="runs to be ended, a timeout")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda|cuda:N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write JSON, Markdown and plot")
    parser.add_argument("--no-plot", action="store_true", help="do without matplotlib")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(SMALL)
    try:
        options.threads = [int(count) for count in options.threads.split(",")]
    except ValueError:
        parser.error(f"--threads must be whole numbers, got {options.threads}")
    if min(options.threads) < 1:
        parser.error(f"--threads must be >= 1, got {min(options.threads)}")
    for name in SMALL:
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {getattr(options, name)}")
    if options.quick and options.out and options.out.resolve() == RESULTS:
        parser.error("tiny sizes do not replace the committed figures: choose another --out")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all cases and return their report."""
    import machine
    from encode_cases import QUERIES, Models, deadline, latency, requests, throughput

    from recengine.data import sources

    folder, found, load = sources.fetch(MODEL), [], os.getloadavg()[0]
    for threads in options.threads:
        models = Models(folder, threads, options)
        found += [throughput(models, kind) for kind in ("mixed", "short")]
        if threads == options.threads[0]:
            found += [latency(models, n) for n in (QUERIES[:2] if options.quick else QUERIES)]
            found += [
                deadline(models, timeout) for timeout in TIMEOUTS[: 1 if options.quick else 3]
            ]
            found.append(requests(models))
    told = {
        name: value
        for name, value in vars(options).items()
        if name not in ("json", "out", "no_plot")
    }
    return {
        "benchmark": "encode",
        "model": MODEL,
        "options": told,
        "device": models.ours.device,
        "left_out": models.left_out,
        "machine": machine.describe(),
        "load": [load, os.getloadavg()[0]],
        "cases": found,
    }


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    from encode_page import markdown

    from recengine import DeviceError

    try:
        report = measure(options)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(report, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        print(markdown(report))
        if options.json:
            Path(options.json).write_text(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "encode.json").write_text(text)
        (options.out / "encode.md").write_text(markdown(report))
        if not options.no_plot:
            from encode_plot import draw

            draw(report, options.out / "encode.png")
        if options.out.resolve() == RESULTS:
            import report as readme

            readme.main([])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
