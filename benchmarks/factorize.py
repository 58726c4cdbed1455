"""How long does training factors take, beside the best peers, and to what loss?

    python benchmarks/factorize.py --dataset ml-100k --factors 64 --objective ials
    python benchmarks/factorize.py --dataset synthetic:138000,27000,9400000 --factors 128

All engines start from the same factors and run one epoch a round, in turn; every loss is
recengine's function of the factors, whoever made them. Seconds of an epoch are the median without
the first, which takes in preparations (copies, the transposed matrix); totals have it. implicit
runs with BLAS on one thread and with the OpenBLAS kernels that are faster in a trial, each peer
with the threads asked for and with its own parameters mapped exactly (factorize_peers.py).

Memory is the rise of the peak over a warmed tiny fit, in a process of its own, the matrix and
initial factors not counted; ours must stay within the factors, one transposed copy of the
interactions and 200 MB. Exits with 1 where exact solvers differ by more than 1e-5 of the loss, ours
rises from one epoch to the next, ends worse than the worst peer by 0.1 %, differs between thread
counts, or needs more memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from search import restart_with_fair_peers, threads_asked

PEERS = ("implicit", "irspack")
PEER_SOLVERS = ("cg", "cholesky", "ialspp")
DEFAULTS = {"implicit": 10.0, "ials": 0.003}  # regularization


def parse(arguments: list[str]) -> argparse.Namespace:
    from factorize_data import KINDS, parse

    from recengine.factorization.als import SOLVERS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-100k", metavar=KINDS)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--solver", default="all", help=f"comma-separated, of {','.join(SOLVERS)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one-thread-epochs", type=int, default=4, help="beside several threads")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, or none")
    parser.add_argument(
        "--peer-solvers", default="all", help=f"comma-separated, of {','.join(PEER_SOLVERS)}"
    )
    parser.add_argument("--objective", choices=tuple(DEFAULTS), default="implicit")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--regularization", type=float, help="implicit 10, ials 0.003")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--unobserved-weight", type=float, default=0.1, help="of ials")
    parser.add_argument("--frequency-exponent", type=float, default=1.0, help="of ials")
    parser.add_argument("--memory", choices=("none", "ours", "all"), default="ours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where ml-100k lies; fetched when omitted")
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    names = (("peers", PEERS), ("solver", SOLVERS), ("peer_solvers", PEER_SOLVERS))
    for name, known in names:
        text = getattr(options, name)
        chosen = {"none": [], "all": list(known)}.get(text, text.split(","))
        setattr(options, name, chosen)
        if set(chosen) - set(known) or not (chosen or name == "peers"):
            parser.error(f"--{name.replace('_', '-')} must be of {', '.join(known)}, got {text}")
    for name, least in (("epochs", 2), ("one_thread_epochs", 2), ("threads", 1), ("factors", 1)):
        if getattr(options, name) < least:
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} must be >= {least}, got {getattr(options, name)}")
    try:
        parse(options.dataset)
    except ValueError as error:
        parser.error(str(error))
    if options.regularization is None:
        options.regularization = DEFAULTS[options.objective]
    return options


def main(arguments: list[str]) -> int:
    from factorize_page import draw
    from factorize_rounds import measure
    from rich.console import Console

    options = parse(arguments)
    result: dict[str, Any] = measure(options)
    text = json.dumps(result, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        draw(result, Console(width=None if sys.stdout.isatty() else 160))
        if options.json:
            Path(options.json).write_text(text)
    failed = [name for name, held in result["holds"].items() if held is False]
    for name in failed:
        print(f"does not hold: {name}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    restart_with_fair_peers(threads_asked(sys.argv[1:]))
    sys.exit(main(sys.argv[1:]))
