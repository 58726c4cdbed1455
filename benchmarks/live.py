"""What do searches notice of a writer beside them?

    python benchmarks/live.py --n-items 200000 --dim 64 --rate 2000 --seconds 60

Two threads search without a pause, one query a call. In turn they are alone, beside a third thread
that only wakes as often as the writer (the control: on a machine of two CPUs it takes its wake-ups
from a searching thread, whatever the index does), beside the writer, and alone again. The writer
upserts and deletes, half of it among the items that the queries are about, and compactions take
place as they fall due.

Every answer is checked against the log of the writer: each of its entries must be an item in a
version that was in the index at some moment between the beginning and the end of the search, with
that version's score. Of --replayed searches the whole answer must be that of one moment. Exits with
1 where one is not, and where the writer did not keep its rate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

N_QUERIES = 256
MOST_SEARCHES = 10_000  # of a thread in a second; more are made, but not kept
DELETED = 0.25  # of the updates; the rest are upserts, which also bring deleted items back
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--searchers", type=int, default=2, help="threads that search")
    parser.add_argument("--rate", type=int, default=2000, help="updates a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="with the writer")
    parser.add_argument("--metric", choices=("cosine", "dot", "l2"), default="dot")
    parser.add_argument("--replayed", type=int, default=200, help="answers checked as a whole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    for name in ("n_items", "dim", "k", "searchers", "rate", "seconds"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be > 0, got {getattr(options, name)}")
    return options


class Case:
    """An index, the queries, and the updates to come."""

    def __init__(self, options: argparse.Namespace) -> None:
        import recengine as rec

        rng = np.random.default_rng(options.seed)
        shape = (options.n_items, options.dim)
        self.options = options
        self.vectors = rng.standard_normal(shape, dtype=np.float32)
        self.vectors.flags.writeable = False
        self.queries = rng.standard_normal((N_QUERIES, options.dim), dtype=np.float32)
        self.index = rec.FlatIndex(self.vectors, metric=options.metric)
        wanted = np.unique(self.index.search(self.queries, options.k).ids)
        n = int(options.rate * options.seconds)
        items = rng.integers(0, options.n_items, n)
        self.items = np.where(rng.random(n) < 0.5, rng.choice(wanted, n), items)
        self.fresh = rng.standard_normal((n, options.dim), dtype=np.float32)
        self.fresh[1::3] = self.vectors[self.items[1::3]]  # the item's first vector returns
        self.deletes = rng.random(n) < DELETED
        self.begun = self.done = 0  # updates; the writer alone counts
        self.compactions = 0


class Answers:
    """Room for the answers of one thread, taken beforehand: it must not look like growth.

    Parameters
    ----------
    case : Case
    seconds : float
    """

    def __init__(self, case: Case, seconds: float) -> None:
        room, k = int(MOST_SEARCHES * seconds) + 1, case.options.k
        self.ids, self.scores = np.full((room, k), -2), np.full((room, k), np.nan, np.float32)
        self.rows = np.full((room, 4), -1)  # query, updates before and after, nanoseconds
        self.n = 0

    def parts(self) -> dict[str, Any]:
        names = ("query", "before", "after", "ns")
        rows = {name: self.rows[: self.n, i] for i, name in enumerate(names)}
        return rows | {"ids": self.ids[: self.n], "scores": self.scores[: self.n]}


def search(case: Case, number: int, answers: Answers, stop: threading.Event) -> None:
    """Search until told to stop; keep every answer and how long it took."""
    index, queries, k = case.index, case.queries, case.options.k
    ids, scores, rows = answers.ids, answers.scores, answers.rows
    clock = time.perf_counter_ns
    while not stop.is_set():
        place = min(answers.n, len(rows) - 1)
        number = (number * 5 + 1) % N_QUERIES  # a period of 256
        before, start = case.done, clock()
        index.search(queries[number], k, out=(ids[place], scores[place]))
        end = clock()
        rows[place] = number, before, case.begun, end - start
        answers.n = place + 1


def wake(case: Case, act: Any, stop: threading.Event) -> None:
    """Call `act` at its rate, for the seconds that the updates last; late calls follow at once."""
    start, interval = time.perf_counter(), 1 / case.options.rate
    for number in range(len(case.items)):
        pause = start + number * interval - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        if stop.is_set():
            return
        act(number)


def update(case: Case, number: int) -> None:
    index, item = case.index, case.items[number : number + 1]
    base = index._live.generation.base
    case.begun = number + 1
    if case.deletes[number] and int(item[0]) in index:
        index.delete(item)
    else:
        case.deletes[number] = False
        index.upsert(item, case.fresh[number : number + 1])
    case.done = number + 1
    case.compactions += index._live.generation.base is not base


def phase(case: Case, seconds: float, act: Any = None) -> dict[str, Any]:
    """Run the searching threads, and `act` beside them; return answers, pace and memory."""
    stop, longest = threading.Event(), 1.5 * seconds + 2
    answers = [Answers(case, longest) for _ in range(case.options.searchers)]
    threads = [
        threading.Thread(target=search, args=(case, seed, part, stop))
        for seed, part in enumerate(answers)
    ]
    beside = threading.Thread(target=wake, args=(case, act, stop))
    load, memory = os.getloadavg()[0], []
    start, cpu, busy = time.perf_counter(), time.process_time(), busy_seconds()
    for thread in threads:
        thread.start()
    if act is not None:
        beside.start()
    while time.perf_counter() < start + seconds or beside.is_alive():
        time.sleep(0.5)
        memory.append(resident())
    took = time.perf_counter() - start
    stop.set()
    for thread in threads:
        thread.join()
    return {
        "answers": [part.parts() for part in answers],
        "seconds": took,
        "cpus": (own := time.process_time() - cpu) / took,
        "other_cpus": (busy_seconds() - busy - own) / took,
        "load_before": load,
        "memory": memory,
    }


def resident() -> int:
    """Return the resident memory of this process in bytes, 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def busy_seconds() -> float:
    """Return the CPU time of the whole machine, 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, *rest = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def timings(part: dict[str, Any]) -> dict[str, Any]:
    """Return a phase without its answers: only how long they took."""
    return part | {"answers": [{"ns": answers["ns"].copy()} for answers in part["answers"]]}


def latencies(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the searches of some phases took, in milliseconds, and under what load."""
    ns = np.concatenate([answers["ns"] for part in parts for answers in part["answers"]])
    values = np.quantile(ns, list(QUANTILES.values())) / 1e6
    seconds = sum(part["seconds"] for part in parts)
    return {
        "searches": len(ns),
        "per_second": round(len(ns) / seconds),
        **{f"{name}_ms": round(float(v), 3) for name, v in zip(QUANTILES, values, strict=True)},
        "max_ms": round(float(ns.max()) / 1e6, 3),
        "cpus": round(sum(part["cpus"] * part["seconds"] for part in parts) / seconds, 2),
        "other_cpus": round(sum(part["other_cpus"] for part in parts) / len(parts), 2),
        "load_before": [round(part["load_before"], 2) for part in parts],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all phases."""
    import live_check
    import machine

    case = Case(options)
    phase(case, min(2.0, options.seconds))  # warm
    first = timings(phase(case, options.seconds / 2))
    control = timings(phase(case, options.seconds, lambda number: None))
    start = time.perf_counter()
    beside = phase(case, options.seconds, lambda number: update(case, number))
    pace = case.done / min(time.perf_counter() - start, beside["seconds"])
    case.index._live.join()
    checked = live_check.violations(case, beside["answers"])
    case.index.compact()
    last = timings(phase(case, options.seconds / 2))
    found = {
        "alone": latencies([first, last]),
        "control": latencies([control]),
        "writer": latencies([beside]),
    }
    memory = beside["memory"]
    return {
        "benchmark": "live",
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "machine": machine.describe(),
        "phases": found,
        "p99_to_alone": round(found["writer"]["p99_ms"] / found["alone"]["p99_ms"], 2),
        "p99_of_control_to_alone": round(found["control"]["p99_ms"] / found["alone"]["p99_ms"], 2),
        "updates": case.done,
        "updates_per_second": round(pace),
        "deletes": int(case.deletes[: case.done].sum()),
        "compactions": case.compactions,
        "memory_mib": [round(value / 2**20, 1) for value in memory],
        "violations": checked,
    }


def show(result: dict[str, Any]) -> None:
    options = result["options"]
    print(
        f"{options['n_items']:,} × {options['dim']}, {options['searchers']} searching threads, "
        f"{options['metric']}, k={options['k']}, {result['machine']['cpu']}"
    )
    for name, row in result["phases"].items():
        print(
            f"{name:>8}  p50 {row['p50_ms']:6.3f} ms  p99 {row['p99_ms']:6.3f}  "
            f"p99.9 {row['p99.9_ms']:6.3f}  max {row['max_ms']:6.2f} {row['per_second']:,} a second"
            f", {row['cpus']:.2f} CPUs (others {row['other_cpus']:.2f}, load before "
            f"{', '.join(map(str, row['load_before']))})"
        )
    memory = result["memory_mib"] or [0]
    print(
        f"p99 ×{result['p99_to_alone']:.2f} of alone (control ×"
        f"{result['p99_of_control_to_alone']:.2f}); {result['updates_per_second']:,} updates a "
        f"second, {result['deletes']:,} of {result['updates']:,} deletes, "
        f"{result['compactions']} compactions; resident {memory[0]:.0f} MiB at first, "
        f"at most {max(memory):.0f}, {memory[-1]:.0f} at last"
    )
    print(
        "violations: {violations} of {entries:,} entries, {replayed} replayed".format_map(
            result["violations"]
        )
    )


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    result = measure(options)
    text = json.dumps(result, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    else:
        show(result)
        if options.json:
            Path(options.json).write_text(text)
    kept = result["updates_per_second"] >= 0.98 * options.rate
    return int(result["violations"]["violations"] > 0 or not kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
