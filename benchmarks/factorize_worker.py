"""One engine of the factorization benchmark in a process of its own (see factorize_peers.Remote).

    python factorize_worker.py GIVEN FOLDER    # a JSON object

With `"memory": true` it prints how much the peak of its memory rises over that of a warmed tiny
fit: bytes, or `null` where the system does not say. Otherwise it answers to lines: `reset`,
`epoch` (seconds) and `factors`, which it writes to FOLDER.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from factorize_data import load
from factorize_engines import Problem
from factorize_peers import make

STATUS = Path("/proc/self/status")
EPOCHS = 2


def kilobytes(field: str) -> int:
    """Return a figure of the memory of this process."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0])


def memory(given: dict[str, Any], problem: Problem, matrix: Any) -> int | None:
    """Return the rise of the peak in bytes; the matrix and the initial factors are the caller's."""
    if not STATUS.exists():
        return None
    for part in (matrix[:60, :50], matrix):
        start = problem.start(part.shape, given["seed"])
        engine = make(given["library"], problem, part, given["solver"], given["threads"])
        engine.reset(*start, EPOCHS)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = kilobytes("VmRSS")
        for _ in range(EPOCHS):
            engine.epoch()
        rise = kilobytes("VmHWM") - before
        engine.close()
    return 1024 * rise


def main(text: str, folder: str) -> int:
    given = json.loads(text)
    problem = Problem(**given["problem"])
    matrix = load(given["dataset"], given["seed"], given["folder"])
    if given["memory"]:
        print(json.dumps(memory(given, problem, matrix)))
        return 0
    engine = make(given["library"], problem, matrix, given["solver"], given["threads"])
    for line in sys.stdin:
        if line == "reset\n":
            engine.reset(*problem.start(matrix.shape, given["seed"]), given["epochs"])
            print(0.0, flush=True)
        elif line == "epoch\n":
            print(engine.epoch(), flush=True)
        else:
            np.savez(Path(folder, "factors.npz"), users=engine.users, items=engine.items)
            print(0.0, flush=True)
    return 0


if sys.argv[:1] == [__file__]:  # `make bench` runs what has the usual line
    sys.exit(main(*sys.argv[1:]))
