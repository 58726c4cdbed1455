"""Threads, writers beside readers, and fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracles
import pytest

import recengine as rec


@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_together_equal_serial(rng, num_threads):
    vectors = rng.standard_normal((3000, 24)).astype(np.float32)
    index = rec.FlatIndex(vectors)
    batches = [rng.standard_normal((n, 24)).astype(np.float32) for n in (1, 3, 17, 40, 64, 90)]
    serial = [index.search(batch, 10) for batch in batches]
    barrier = threading.Barrier(len(batches))

    def work(number):
        barrier.wait(30)
        for _ in range(5):
            got = index.search(batches[number], 10, num_threads=num_threads)
            oracles.assert_same_topk(got, serial[number])

    with ThreadPoolExecutor(len(batches)) as pool:
        list(pool.map(work, range(len(batches))))
    assert index.stats["searches"] == 6 * len(batches)
    assert index.stats["queries"] == 6 * sum(map(len, batches))


def test_upsert_during_search_is_never_torn():
    """Every version fills all vectors with one number: an answer of two numbers would be torn."""
    ids, ones = np.arange(500), np.ones((500, 4), np.float32)
    index = rec.FlatIndex(ones, ids=ids, metric="dot")
    stop, versions = threading.Event(), set()

    def read():
        while not stop.is_set():
            scores = index.search([1, 0, 0, 0], 500).scores
            assert len(set(scores.tolist())) == 1
            versions.add(float(scores[0]))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for version in range(2, 200):
            index.upsert(ids, version * ones)
            newest = index.search([1, 0, 0, 0], 1).scores[0]
            assert newest == version  # the writer's own next search sees its update
        stop.set()
        for reader in readers:
            reader.result(30)
    assert len(versions) > 1


def test_delete_during_search_is_never_torn():
    index = rec.FlatIndex(np.eye(6, 3), ids=[f"{i}" for i in range(6)], metric="dot")
    stop = threading.Event()
    pair = {"4", "5"}

    def read():
        while not stop.is_set():
            assert len(pair & set(index.search(np.ones(3), 6).ids)) in (0, 2)
            ranked = index.rank(np.ones(3), ["0", "4", "5"]).ids.tolist()
            assert ranked in (["0", "4", "5"], ["0", None, None])

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for _ in range(200):
            index.delete(["4", "5"])
            assert not pair & set(index.search(np.ones(3), 6).ids)
            index.upsert(["4", "5"], np.zeros((2, 3)))
            assert len(index) == 6
        stop.set()
        for reader in readers:
            reader.result(30)


def test_writers_together_lose_nothing():
    index = rec.FlatIndex(np.empty((0, 2)), metric="dot")
    barrier = threading.Barrier(4)

    def write(number):
        barrier.wait(30)
        for i in range(25):
            index.upsert([100 * number + i], np.full((1, 2), number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(index.ids.tolist()) == [100 * n + i for n in range(4) for i in range(25)]


FORK = """
    import os, threading
    import numpy as np
    import recengine as rec

    rng = np.random.default_rng(0)
    vectors, queries = rng.standard_normal((4000, 16)), rng.standard_normal((64, 16))
    index = rec.FlatIndex(vectors)
    want = index.search(queries, 5, num_threads=2)     # the parent's pool is running
    index._live._writing.acquire()                     # as if a writer were at work
    child = os.fork()
    if child == 0:
        got = index.search(queries, 5, num_threads=2)
        index.upsert([1], np.ones((1, 16)))
        index.delete([2])
        same = (got.ids == want.ids).all() and (got.scores == want.scores).all()
        again = index.search(queries, 5, num_threads=2)
        os._exit(0 if same and 2 not in again.ids else 1)
    index._live._writing.release()
    again = index.search(queries, 5, num_threads=2)
    assert (again.ids == want.ids).all()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_child_searches_and_updates():
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORK)],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
