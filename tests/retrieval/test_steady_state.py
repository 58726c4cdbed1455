"""Searches in the steady state: memory that was taken once is enough for all that follow.

A case runs in a process of its own whose malloc keeps no freed chunks aside, which mallinfo2 would
count as used, and Python's cache of attribute names, up to 4,096 of them, is emptied for a look.
What is left to vary is glibc's: a chunk too short to split is longer than what was asked for.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import recengine as rec
from recengine import _native

SEARCHES = 10_000
CHUNKS = 8192  # bytes: not one a search
COUNTERS = 1024  # likewise: the totals of `stats`, whose int get longer, and the clock's
LARGEST_KEPT = 2 * 32 << 20  # of a thread

PROGRAM = """
import ctypes, gc, json, sys, threading, time, tracemalloc
import numpy as np
import recengine as rec
from recengine import _native

searches, n_threads, leaking = map(int, sys.argv[1:])
n, dim, rng = 6000, 32, np.random.default_rng(0)
coded = rec.FlatIndex(
    rng.standard_normal((n, dim)), metric="dot", columns={"price": rng.integers(0, 9, n)}
)
# So few different numbers that the codes cannot tell items apart: read as float32.
crowded = rec.FlatIndex(rng.integers(-1, 2, (3000, 8)), metric="dot")
biased = rec.FlatIndex(
    rng.standard_normal((3000, 24)), ids=[str(i) for i in range(3000)],
    bias=rng.standard_normal(3000), storage="bfloat16",
)
changed = rec.FlatIndex(rng.standard_normal((3000, 16)))
changed.upsert(np.arange(2990, 3030), rng.standard_normal((40, 16)))
changed.delete([3, 3001])
price, short = coded.filter(where=rec.where(price__lt=4)), coded.filter(allow=np.arange(0, n, 40))
queries = rng.standard_normal((40, dim)).astype(np.float32)
ids, first, later = [np.arange(q, q + 50) for q in range(16)], np.arange(100), np.arange(2000)


def calls():
    out = np.empty((16, 10), np.int64), np.empty((16, 10), np.float32)
    return [
        lambda: coded.search(queries[0], 10),
        lambda: coded.search(queries[:3], 100),
        lambda: coded.search(queries, 10, min_score=1),
        lambda: coded.search(queries[:16], 10, out=out),
        lambda: coded.search(queries[:16], 10, exclude=ids),
        lambda: coded.search(queries[:16], 10, filter=price),
        lambda: coded.search(queries[0], 10, filter=short, out=(out[0][0], out[1][0])),
        lambda: coded.search(queries[:3], 10, allow=first),
        lambda: coded.search(queries[:3], 10, deny=later),
        lambda: coded.search(queries[:3], 10, where=rec.where(price=3)),
        lambda: crowded.search(queries[:20, :8], 10),
        lambda: biased.search(queries[:3, :24], 10, bias={"7": 1.0}),
        lambda: changed.search(queries[:3, :16], 10),
        lambda: coded.search(queries, 10, num_threads=2),
    ]


class Info(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        .split()
    ]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p


def held():
    sys._clear_type_cache()
    gc.collect()
    info = libc.mallinfo2()
    traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    return [info.uordblks + info.hblkhd, traced, _native.scratch_bytes()]


def some(mine, count):
    for number in range(count):
        mine[number % len(mine)]()
        if leaking:
            libc.malloc(1)
            lost.append([])


meet, lost = threading.Barrier(n_threads + 1), []


def work():
    mine = calls()
    for count in (50 * len(mine), searches, 20 * len(mine), searches):
        meet.wait()
        some(mine, count // n_threads)
        meet.wait()
    meet.wait()


def phase():
    meet.wait()
    meet.wait()
    return held()


*alone, shared = calls()
some(alone, 100)
own, deadline = _native.scratch_bytes(), time.monotonic() + 60
while _native.scratch_bytes() == own and time.monotonic() < deadline:
    shared()  # until the worker of the pool came in time to take a task
threads = [threading.Thread(target=work) for _ in range(n_threads)]
for thread in threads:
    thread.start()
found = [phase(), phase()]
tracemalloc.start()
found += [phase(), phase()]
meet.wait()
for thread in threads:
    thread.join()
print(json.dumps({
    "native": [row[0] for row in found[:2]],
    "traced": [row[1] for row in found[2:]],
    "scratch": [row[2] for row in found],
}))
"""


def grown(n_threads, *, leaking=False):
    """Return by how many bytes native memory, Python's and the scratch grew over the searches."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library has no mallinfo2 to ask (glibc >= 2.33 has)")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SEARCHES), str(n_threads), str(int(leaking))],
        env=os.environ | {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert min(found["scratch"]) > 0
    return {name: max(values[1:]) - values[0] for name, values in found.items()}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ten_thousand_searches_leave_no_growth(n_threads):
    growth = grown(n_threads)
    assert growth["native"] <= CHUNKS
    assert growth["traced"] <= COUNTERS
    assert growth["scratch"] == 0


def test_a_byte_lost_a_search_is_seen():
    growth = grown(1, leaking=True)
    assert growth["native"] > 2 * CHUNKS
    assert growth["traced"] > 2 * COUNTERS


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_exceptional_search_gives_its_memory_back(rng, n_threads):
    index = rec.FlatIndex(rng.standard_normal((6000, 4)), metric="dot")
    queries = rng.standard_normal((2000, 4))
    before, largest, stop = _native.scratch_bytes(), 0, threading.Event()

    def watch():
        nonlocal largest
        while not stop.is_set():
            largest = max(largest, _native.scratch_bytes())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    index.search(queries, 5000, num_threads=n_threads)
    kept = _native.scratch_bytes()
    stop.set()
    watcher.join()
    assert largest - before > 2 * LARGEST_KEPT
    assert kept <= before + LARGEST_KEPT * n_threads


def test_a_thread_that_ends_gives_its_memory_back(rng):
    index = rec.FlatIndex(rng.standard_normal((500, 4)))
    before, during = _native.scratch_bytes(), []

    def search():
        index.search(np.ones(4))
        during.append(_native.scratch_bytes())

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert during[0] > before
    end = time.monotonic() + 10  # join returns before the system's thread has ended
    while _native.scratch_bytes() > before and time.monotonic() < end:
        time.sleep(0.001)
    assert _native.scratch_bytes() == before
