"""How soon does a recommendation know of an event?

    python benchmarks/online.py --n-items 100000 --factors 64 --events 10 50 200

Three questions, each beside implicit, call by call in turn:

- fold_in: one user solved from a history, against `recalculate_user`; and one more event of a user
  who is kept warm (`FoldedUser.observe`), which implicit has nothing like.
- next_list: an event, then the ten best items of that user: `observe` and `recommend`, against
  `partial_fit_users` and `recommend`. The event is the best item of the list before.
- publication: the items of all those events solved anew and published, against
  `partial_fit_items`; how long requests took meanwhile, in another thread.

Both hold the factors of one short training. Every answer is checked: solutions against a float64
oracle, lists against scores of all items, the chosen item gone and the list another one. Exits
with 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from online_peer import Peer
from scipy.sparse import csr_matrix

import recengine as rec

K = 10
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-items", type=int, default=100_000)
    parser.add_argument("--n-users", type=int, default=20_000)
    parser.add_argument("--per-user", type=int, default=50, help="events of the training, a user")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--events", type=int, nargs="+", default=[10, 50, 200], help="folded in")
    parser.add_argument("--repeats", type=int, default=2000, help="calls of each kind")
    parser.add_argument("--threads", type=int, default=1, help="of the publication")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    for name in ("n_items", "n_users", "per_user", "factors", "repeats", "threads"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be > 0, got {getattr(options, name)}")
    return options


class Case:
    """Events with popular items, a model of them, an engine, and implicit with the same factors."""

    def __init__(self, options: argparse.Namespace) -> None:
        rng = np.random.default_rng(options.seed)
        self.options, self.rng = options, rng
        n_events = options.n_users * options.per_user
        users = np.repeat(np.arange(options.n_users), options.per_user)
        items = (options.n_items * rng.random(n_events) ** 3).astype(np.int64)
        # One event more for each item, so that all of them are there.
        users = np.concatenate((users, rng.integers(0, options.n_users, options.n_items)))
        items = np.concatenate((items, np.arange(options.n_items)))
        inter = rec.Interactions.from_arrays(users, items)
        self.row_of = np.argsort(inter.items.ids)  # ids are 0 to n_items - 1 in another order
        self.als = rec.ALS(
            options.factors, 0.05, iterations=1, random_state=0, num_threads=options.threads
        ).fit(inter)
        self.engine = rec.Engine.build(inter, self.als)
        self.matrix = csr_matrix(inter.to_csr())
        self.peer = Peer(self.als, self.matrix, options.threads)
        self.gram = self.als.item_factors_.T.astype(np.float64) @ self.als.item_factors_

    def oracle(self, history: Any, weights: Any) -> Any:
        """Return the float64 solution of a user."""
        rows = self.als.item_factors_[history].astype(np.float64)
        system = self.gram + rows.T @ ((weights - 1.0)[:, None] * rows)
        system += self.als.regularization * np.eye(len(system))
        return np.linalg.solve(system, rows.T @ weights)


def timed(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return (what a call returned, nanoseconds)."""
    start = time.perf_counter_ns()
    answer = call()
    return answer, time.perf_counter_ns() - start


def quantiles(nanoseconds: list[int]) -> dict[str, float]:
    """Return the quantiles of latencies in microseconds."""
    values = np.quantile(nanoseconds, list(QUANTILES.values())) / 1e3
    return {name: round(float(value), 1) for name, value in zip(QUANTILES, values, strict=True)}


def fold_in(case: Case, n: int) -> dict[str, Any]:
    """Solve users of `n` events, and add one event to each."""
    als, n_items = case.als, case.options.n_items
    took: dict[str, list[int]] = {"recengine": [], "recengine, warm": [], "implicit": []}
    wrong = 0
    for _ in range(case.options.repeats):
        history = np.sort(case.rng.choice(n_items, n + 1, replace=False))
        weights = case.rng.integers(1, 5, n + 1).astype(np.float32)
        last = int(case.rng.integers(n + 1))
        some = np.arange(n + 1) != last
        warm = als.user(history[some], weights[some])
        row = csr_matrix((weights, history, [0, n + 1]), shape=(1, n_items))
        answers = {}
        item, weight = int(history[last]), float(weights[last])
        calls: dict[str, Callable[[], Any]] = {
            "recengine": partial(als.fold_in, history, weights),
            "implicit": partial(case.peer.recalculate_user, row),
            "recengine, warm": partial(warm.observe, item, weight),
        }
        for name, call in calls.items():
            answers[name], nanoseconds = timed(call)
            took[name].append(nanoseconds)
        want = case.oracle(history, weights)
        wrong += not all(np.allclose(answer, want, **CLOSE) for answer in answers.values())
    rows = {name: quantiles(values) for name, values in took.items()}
    return {"case": "fold_in", "events": n + 1, "us": rows, "wrong": wrong}


def next_list(case: Case) -> dict[str, Any]:
    """Let users choose the best item of their list, and ask for the next one."""
    engine, peer = case.engine, case.peer
    names = ("recengine", "implicit", "recengine, observe alone")
    took: dict[str, list[int]] = {name: [] for name in names}
    wrong, users = 0, case.rng.integers(0, case.options.n_users, case.options.repeats)
    for user in users.tolist():
        before = engine.recommend(user, K).ids.tolist()
        row = int(case.row_of[before[0]])
        _, observing = timed(partial(engine.observe, user, before[0]))
        answer, asking = timed(partial(engine.recommend, user, K))
        took["recengine"].append(observing + asking)
        took["recengine, observe alone"].append(observing)
        wrong += not is_next(case, user, before, answer)
        answer, nanoseconds = timed(partial(peer.observe_and_recommend, user, row, K))
        took["implicit"].append(nanoseconds)
        wrong += row in answer
    rows = {name: quantiles(values) for name, values in took.items()}
    return {"case": "next_list", "k": K, "us": rows, "wrong": wrong}


def is_next(case: Case, user: int, before: list[int], answer: Any) -> bool:
    """Tell whether a list is the best of all items without what the user has had."""
    history, weights = case.engine.history(user)
    rows = case.row_of[history]
    scores = case.als.item_factors_ @ case.oracle(rows, weights).astype(np.float32)
    scores[rows] = -np.inf
    best = np.sort(scores)[-K:]
    found = scores[case.row_of[answer.ids]]
    moved = answer.ids.tolist() != before and before[0] not in answer.ids
    return bool(moved and (found >= best[0] - 1e-4 * np.abs(best[0])).all())


def publication(case: Case) -> dict[str, Any]:
    """Publish the items of all events so far; ask meanwhile."""
    engine, stop, asked = case.engine, threading.Event(), []
    touched = np.array(sorted(engine._pending.items))  # ordinals, which are rows of the model

    def ask() -> None:
        while not stop.is_set():
            asked.append(timed(lambda: engine.recommend(0, K))[1])

    before = engine._state.model.item_factors_
    reader = threading.Thread(target=ask)
    reader.start()
    n_items, nanoseconds = timed(engine.publish_items)
    stop.set()
    reader.join()
    n_alone, alone = len(asked), quantiles(asked)
    peer_took = case.peer.publish(touched)
    factors = engine._state.model.item_factors_
    others = np.setdiff1d(np.arange(len(factors)), touched)
    wrong = int(n_items != len(touched)) + int((factors[others] != before[others]).any())
    wrong += int(not np.allclose(factors[touched], case.peer.items(touched), rtol=1e-2, atol=1e-5))
    return {
        "case": "publication",
        "items": n_items,
        "seconds": {"recengine": round(nanoseconds / 1e9, 3), "implicit": round(peer_took, 3)},
        "requests_meanwhile": n_alone,
        "us": {"recengine, requests meanwhile": alone},
        "wrong": wrong,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all cases."""
    import machine

    case = Case(options)
    cases = [fold_in(case, n - 1) for n in options.events]
    cases += [next_list(case), publication(case)]
    return {
        "benchmark": "online",
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "machine": machine.describe(),
        "cases": cases,
    }


def show(result: dict[str, Any]) -> None:
    options = result["options"]
    print(
        f"{options['n_items']:,} items x {options['factors']}, {options['n_users']:,} users, "
        f"{result['machine']['cpu']}"
    )
    for case in result["cases"]:
        about = {
            "fold_in": lambda c: f"fold_in, {c['events']} events",
            "next_list": lambda c: f"event to list, k={c['k']}",
            "publication": lambda c: f"publication of {c['items']:,} items",
        }[case["case"]](case)
        print(about + (f": {case['wrong']} wrong answers" if case["wrong"] else ""))
        for name, row in case["us"].items():
            print(
                f"{name:>30}  p50 {row['p50']:9.1f} us  p99 {row['p99']:9.1f}  "
                f"p99.9 {row['p99.9']:9.1f}"
            )
        for name, seconds in case.get("seconds", {}).items():
            print(f"{name:>30}  {seconds:.3f} s")


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
    return int(any(case["wrong"] for case in result["cases"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
