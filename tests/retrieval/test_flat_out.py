"""Lent buffers, and what many searches leave behind: nothing."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import oracles
import pytest

import recengine as rec


def buffers(*shape):
    return np.full(shape, 7, np.int64), np.full(shape, 7, np.float32)


def test_out_receives_the_answer(rng):
    index = rec.FlatIndex(rng.standard_normal((50, 4)), ids=np.arange(50) + 100)
    for queries, shape in ((np.ones(4), (60,)), (np.ones((3, 4)), (3, 60))):
        out = buffers(*shape)
        got = index.search(queries, 60, out=out)
        assert got.ids is out[0]
        assert got.scores is out[1]
        want = index.search(queries, 60)
        oracles.assert_same_topk(got, want)
        np.testing.assert_array_equal(got.ordinals, want.ordinals)
    strided = np.zeros((3, 8), np.int64)[:, ::2], np.zeros((4, 3), np.float32).T
    oracles.assert_same_topk(
        index.search(np.ones((3, 4)), 4, out=strided), index.search(np.ones((3, 4)), 4)
    )


def read_only(array):
    array.flags.writeable = False
    return array


SHARED = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros(2), TypeError, r"out must be a tuple \(ids, scores\), got ndarray"),
        ((np.zeros(2),), TypeError, r"out must be a tuple"),
        (buffers(3), ValueError, r"out must hold ids as an ndarray int64\(2,\), got int64\(3,\)"),
        (buffers(1, 2), ValueError, r"got int64\(1, 2\)"),
        ((np.zeros(2, np.int32), np.zeros(2, np.float32)), ValueError, r"got int32\(2,\)"),
        ((np.zeros(2, np.int64), np.zeros(2)), ValueError, r"hold scores as .* got float64\(2,\)"),
        (([0, 0], np.zeros(2, np.float32)), ValueError, r"got <class 'list'>"),
        ((read_only(np.zeros(2, np.int64)), buffers(2)[1]), ValueError, "writeable ids"),
        ((buffers(2)[0], read_only(np.zeros(2, np.float32))), ValueError, "writeable scores"),
        ((SHARED[:2], SHARED.view(np.float32)[1:3]), ValueError, "share no memory"),
    ],
)
def test_wrong_buffers_are_errors_and_stay_untouched(out, error, message):
    index = rec.FlatIndex(np.eye(3))
    with pytest.raises(error, match=message):
        index.search(np.ones(3), 2, out=out)


def test_str_ids_take_no_buffers():
    with pytest.raises(TypeError, match="out must be None for str ids"):
        rec.FlatIndex(np.eye(2), ids=["a", "b"]).search([1, 1], 2, out=buffers(2))


@pytest.mark.parametrize("updated", [False, True], ids=["base", "base and delta"])
def test_ten_thousand_searches_leave_no_memory_behind(rng, updated):
    index = rec.FlatIndex(rng.standard_normal((300, 8)))
    if updated:
        index.upsert(np.arange(250, 350), rng.standard_normal((100, 8)))
        index.delete([3])
    queries, out = rng.standard_normal((4, 8)).astype(np.float32), buffers(4, 10)

    def searches(count):
        for _ in range(count):
            index.search(queries, 10, out=out)

    tracemalloc.start()
    try:
        searches(200)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        searches(10_000)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Counters grow into larger ints and the interpreter keeps free lists: hundreds of bytes. One
    # byte left behind by each search would be 10,000.
    assert after - before < 4_000
    assert peak - before < 200_000
