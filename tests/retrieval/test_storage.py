"""Vectors in 2 bytes a number: every answer is that of a float32 index over the rounded ones."""

from __future__ import annotations

import tracemalloc

import native_calls as native
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine import _native
from recengine.retrieval import _coding, _live, _score, _search, _vectors

HALVES = ("float16", "bfloat16")
# Of each storage: bits of significand, exponent of the smallest normal number, the largest one.
FORMATS = {
    "float16": (11, -14, 65504.0),
    "bfloat16": (8, -126, float.fromhex("0x1.fep127")),
}

each_storage = pytest.mark.parametrize("storage", HALVES)
each_metric = pytest.mark.parametrize("metric", oracles.METRICS)


def nearest(values, storage):
    """Round float32 to what the storage holds, ties to even: the oracle, in float64."""
    digits, smallest, _ = FORMATS[storage]
    wide = np.asarray(values, np.float32).astype(np.float64)
    exponent = np.maximum(np.frexp(wide)[1] - 1, smallest)
    unit = np.ldexp(1.0, exponent - (digits - 1))
    return np.copysign(np.rint(wide / unit) * unit, wide).astype(np.float32)


def random_bits(rng, shape, storage):
    """Return finite float32 of any bit pattern that rounds to a finite number."""
    largest = FORMATS[storage][2]
    values = rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    return np.where(np.abs(values) <= largest, values, np.float32(0.0))


def halfway(storage):
    """Return float32 that lie exactly between two stored numbers, and their neighbours."""
    digits, smallest, _ = FORMATS[storage]
    odd = np.arange(1, 2 ** (digits + 1), 2, dtype=np.float64)
    middles = [np.ldexp(odd, e) for e in (smallest - digits, -digits, 3)]
    values = np.concatenate(middles).astype(np.float32)
    near = [np.nextafter(values, np.float32(0)), values, np.nextafter(values, np.float32(np.inf))]
    return np.concatenate([*near, *(-part for part in near)])


def stored(index):
    """Return the stored vectors of all items, widened, by ordinal."""
    return np.array([index[item] for item in index.ids.tolist()]).reshape(len(index), index.dim)


def twin(index):
    """Return a float32 index over the same items, in the same order."""
    return rec.FlatIndex(stored(index), ids=index.ids, metric=index.metric)


def assert_same_answers(got, want, queries, k, **request):
    a, b = got.search(queries, k, **request), want.search(queries, k, **request)
    oracles.assert_same_topk(a, b)


def catalogue(rng, kind, n, dim):
    """Return vectors that are hard in one way each; they all fit float16."""
    table = rng.standard_normal((n, dim))
    if kind == "cone":
        table = 1e-2 * table + 3
    elif kind == "ties":
        table = rng.integers(-2, 3, (n, dim)).astype(float)
        table[n // 2 :] = table[: n - n // 2]
    elif kind == "denormal":
        table *= 1e-7
    elif kind == "huge":
        table = np.sign(table) * rng.choice([65504.0, 65503.0, 1e-8, 0.0], (n, dim))
    elif kind == "skewed":
        table *= rng.pareto(1.5, (n, 1)).clip(0, 1e3)
    table[0] = 0
    return table.astype(np.float32)


KINDS = ("gaussian", "cone", "ties", "denormal", "huge", "skewed")


@each_storage
def test_every_stored_number_widens_exactly(storage):
    digits, smallest, largest = FORMATS[storage]
    exponent = 0x7C00 if storage == "float16" else 0x7F80
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[bits & exponent != exponent]  # finite
    if storage == "float16":
        halves = bits.view(np.float16)
        exact = halves.astype(np.float64)
    else:
        halves = bits
        exact = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    halves = halves[:, None]
    assert (np.abs(exact).max(), np.abs(exact)[exact != 0].min()) == (
        largest,
        2.0 ** (smallest - digits + 1),
    )
    for level in native.LEVELS:
        api = _native.api(level)
        norms = _score.squared_norms(api, halves)
        np.testing.assert_array_equal(norms, exact * exact)
        pairs = np.arange(len(exact))
        scores = _score.rank(
            api, 1, np.ones((1, 1), np.float32), halves, norms, np.array([0, len(pairs)]), pairs
        )
        oracles.assert_same_bits(scores, oracles.round_score(exact))


@each_storage
def test_numbers_are_rounded_to_nearest_even(rng, storage):
    values = np.concatenate([halfway(storage), random_bits(rng, 20_000, storage), [-0.0, 0.0]])
    values = values[np.abs(values) <= FORMATS[storage][2]].astype(np.float32)
    index = rec.FlatIndex(values[:, None], metric="l2", storage=storage)
    oracles.assert_same_bits(stored(index)[:, 0], nearest(values, storage))
    empty = rec.FlatIndex(np.empty((0, 1)), metric="l2", storage=storage)
    empty.upsert(np.arange(len(values)), values[:, None])
    oracles.assert_same_bits(stored(empty)[:, 0], nearest(values, storage))


@each_storage
@each_metric
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_float32_at_every_level(rng, storage, metric, kind):
    vectors, queries = catalogue(rng, kind, 300, 21), catalogue(rng, kind, 17, 21)
    wide = nearest(vectors, storage)
    halves = _vectors.owned("vectors", vectors, storage)
    number, bias = oracles.METRICS.index(metric), None
    if metric != "l2":
        bias = rng.standard_normal(300).astype(np.float32)
    allowed = rng.random(300) < 0.5
    for level in native.LEVELS:
        api = _native.api(level)
        norms = _score.squared_norms(api, halves)
        reach = _score.reach(number, norms)
        codes = _coding.encode(halves, norms, reach, number)
        for batch in (queries[:1], queries):
            want = oracles.search(metric, batch, wide, 12)
            boosted = oracles.search(metric, batch, wide, 12, allowed=allowed, bias=bias)
            for read in (codes, None):
                call = (api, number, batch, halves, norms, reach, 12)
                oracles.assert_same_topk(_search.search(*call, codes=read)[:2], want)
                mask = native.words(allowed)
                got = _search.search(*call, codes=read, mask=mask, bias=bias, num_threads=3)
                oracles.assert_same_topk(got[:2], boosted)
                rows = np.flatnonzero(allowed)
                got = _search.search(*call, codes=read, rows=rows, bias=bias)
                oracles.assert_same_topk(got[:2], boosted)


@each_storage
@each_metric
def test_codes_are_those_of_the_widened_rows(rng, storage, metric):
    """In the order of norms too, which the index measures on samples of its rows."""
    vectors = catalogue(rng, "skewed", 6000, 24)
    got = rec.FlatIndex(vectors, metric=metric, storage=storage)
    want = twin(got)
    codes, wanted = (index._live.generation.base.codes for index in (got, want))
    assert ("block_reach" in codes) == (metric == "dot")
    assert codes.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(codes[name], value)
    queries = catalogue(rng, "gaussian", 9, 24)
    assert_same_answers(got, want, queries, 20)
    assert got.stats["scanned"] == want.stats["scanned"]
    assert got.stats["rescored"] == want.stats["rescored"]


@each_storage
@each_metric
@pytest.mark.parametrize("dim", [1, 3, 8, 33, 67])
def test_requests_of_every_kind_equal_float32(rng, storage, metric, dim):
    vectors = catalogue(rng, "ties", 500, dim)
    vectors[::3] += catalogue(rng, "gaussian", 167, dim)
    columns = {"size": rng.integers(0, 9, 500)}
    options = {"ids": rng.permutation(500) * 3, "metric": metric, "columns": columns}
    if metric != "l2":
        options["bias"] = rng.standard_normal(500)
    got = rec.FlatIndex(vectors, **options, storage=storage)
    want = rec.FlatIndex(nearest(vectors, storage), **options)
    assert (got.storage, want.storage) == (storage, "float32")
    queries = catalogue(rng, "ties", 40, dim)
    some = got.ids[rng.random(500) < 0.4]
    requests = [
        {},
        {"allow": some[:9]},
        {"deny": some, "num_threads": 2},
        {"where": rec.where(size__lt=3), "min_score": 0.25},
        {"exclude": [some[: 5 * i] for i in range(40)]},
    ]
    if metric != "l2":
        requests.append({"bias": rng.standard_normal(500)})
    for request in requests:
        assert_same_answers(got, want, queries, 15, **request)
    for size in (5, 100):  # rows of their own, and a mask
        filters = [index.filter(allow=got.ids[:size]) for index in (got, want)]
        for _ in range(3):
            answers = [
                index.search(queries, 30, filter=kept)
                for index, kept in zip((got, want), filters, strict=True)
            ]
            oracles.assert_same_topk(*answers)
    lists = [some[i : i + 7] for i in range(40)]
    oracles.assert_same_topk(
        got.rank(queries, lists, num_threads=2), want.rank(queries, lists, num_threads=2)
    )


@each_storage
@each_metric
def test_updates_are_rounded_and_answers_stay_those_of_float32(rng, tmp_path, storage, metric):
    index = rec.FlatIndex(catalogue(rng, "gaussian", 200, 9), metric=metric, storage=storage)
    plain = twin(index)
    queries = catalogue(rng, "gaussian", 8, 9)

    def check():
        np.testing.assert_array_equal(index.ids, plain.ids)
        oracles.assert_same_bits(stored(index), stored(plain))
        assert_same_answers(index, plain, queries, 300)
        lists = [rng.integers(0, 300, 20)] * 8
        oracles.assert_same_topk(index.rank(queries, lists), plain.rank(queries, lists))

    for turn in range(6):
        ids = rng.choice(300, 40, replace=False)
        vectors = catalogue(rng, KINDS[turn], 40, 9)
        index.upsert(ids, vectors)
        plain.upsert(ids, nearest(vectors, storage))
        check()
        gone = rng.choice(index.ids, 15, replace=False)
        for one in (index, plain):
            one.delete(gone)
        check()
        if turn % 2:
            index.compact()
            check()
        if turn == 3:
            index.save(tmp_path / "index.rec")
            index = rec.FlatIndex.open(tmp_path / "index.rec", verify=False)
            assert index.storage == storage
            check()
    assert index._live.generation.base.vectors.dtype.itemsize == 2


@each_storage
def test_a_forced_compaction_keeps_the_storage(rng, monkeypatch, storage):
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 8)
    index = rec.FlatIndex(np.empty((0, 4)), storage=storage)
    vectors = catalogue(rng, "gaussian", 400, 4)
    for first in range(0, 400, 10):
        index.upsert(np.arange(first, first + 10), vectors[first : first + 10])
    index.compact()
    base = index._live.generation.base
    assert (base.n_rows, base.vectors.dtype.itemsize) == (400, 2)
    oracles.assert_same_bits(stored(index), nearest(vectors, storage))


@each_storage
@pytest.mark.parametrize("verify", [True, False])
def test_saved_vectors_stay_in_the_mapped_file(rng, tmp_path, storage, verify):
    vectors = catalogue(rng, "gaussian", 50, 6)
    index = rec.FlatIndex(vectors, storage=storage)
    index.save(tmp_path / "index.rec")
    opened = rec.FlatIndex.open(tmp_path / "index.rec", verify=verify)
    held = opened._live.generation.base.vectors
    assert (held.dtype.itemsize, held.flags.owndata, held.flags.writeable) == (2, False, False)
    assert opened.storage == storage
    assert_same_answers(opened, index, vectors, 50)
    opened.upsert([3], vectors[:1])
    oracles.assert_same_bits(opened[3], index[0])


def test_read_only_float16_is_borrowed_and_anything_else_is_not(rng, tmp_path):
    vectors = rng.standard_normal((40, 5)).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index = rec.FlatIndex(mapped, storage="float16")
    assert np.shares_memory(index._live.generation.base.vectors, mapped)
    for given_ in (vectors, np.asfortranarray(mapped), mapped[:, ::2], vectors.astype(float)):
        copied = rec.FlatIndex(given_, storage="float16")
        base = copied._live.generation.base.vectors
        assert not np.shares_memory(base, given_)
        assert (base.flags.writeable, base.flags.c_contiguous) == (False, True)
        np.testing.assert_array_equal(stored(copied), np.asarray(given_, np.float32))
    assert rec.FlatIndex(vectors)[0].dtype == np.float32
    assert rec.FlatIndex(mapped, storage="bfloat16").storage == "bfloat16"


@each_storage
@pytest.mark.parametrize(("metric", "given_as"), [("dot", "f4"), ("cosine", "f2"), ("l2", "f8")])
def test_no_float32_copy_is_made(rng, storage, metric, given_as):
    """Not while the index is built, nor by a search or a compaction."""
    n, dim = 60_000, 128
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    vectors *= rng.pareto(1.5, (n, 1)).clip(0, 100).astype(np.float32)
    vectors = vectors.astype(given_as)
    halves, beside = 2 * n * dim, (dim + 60) * n + (16 << 20)
    assert beside + 2 * halves < halves + 4 * n * dim + beside  # else this test could not fail

    def peak(call):
        tracemalloc.start()
        try:
            result = call()
            return result, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    index, built = peak(lambda: rec.FlatIndex(vectors, metric=metric, storage=storage))
    assert halves < built < halves + beside
    _, searched = peak(lambda: index.search(vectors[:300], 10, num_threads=2))
    assert searched < 16 << 20
    index.delete([0])
    _, folded = peak(index.compact)
    assert folded < halves + beside


@pytest.mark.parametrize(
    ("storage", "value", "message"),
    [
        (
            "float16",
            65520.0,
            r"vectors must fit float16 \(at most 65504\), got 65520.0 at \(3, 1\)",
        ),
        ("float16", -1e9, r"vectors must fit float16 .*, got -1e\+09 at \(3, 1\)"),
        ("bfloat16", 3.4e38, r"vectors must fit bfloat16 .*, got 3.4e\+38 at \(3, 1\)"),
        ("float16", np.nan, r"vectors must be finite, got nan at \(3, 1\)"),
        ("bfloat16", -np.inf, r"vectors must be finite, got -inf at \(3, 1\)"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_by_place(rng, monkeypatch, storage, value, message):
    monkeypatch.setattr(_vectors, "CHUNK", 4)  # two rows
    vectors = rng.standard_normal((5, 2)).astype(np.float32)
    index = rec.FlatIndex(vectors, storage=storage)
    wrong = vectors.copy()
    wrong[3, 1] = value
    with pytest.raises(ValueError, match=message):
        rec.FlatIndex(wrong, storage=storage)
    before = stored(index)
    with pytest.raises(ValueError, match=message):
        index.upsert(np.arange(5), wrong)
    oracles.assert_same_bits(stored(index), before)
    wrong[3, 1] = FORMATS[storage][2]
    assert rec.FlatIndex(wrong, storage=storage)[3][1] == FORMATS[storage][2]


@pytest.mark.parametrize("storage", ["float64", "", None, 16, np.float16])
def test_an_unknown_storage_is_refused(storage):
    with pytest.raises(ValueError, match="storage must be one of 'float32', 'float16', 'bfloat16'"):
        rec.FlatIndex(np.ones((2, 2)), storage=storage)


@each_storage
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones(3), ValueError),
        (np.ones((2, 0)), ValueError),
        (np.ones((2, 2), complex), TypeError),
        (np.ones((2, 2), bool), TypeError),
        ([["a"]], TypeError),
        (np.ma.masked_equal(np.ones((2, 2)), 1), ValueError),
    ],
)
def test_the_same_inputs_are_refused_as_for_float32(storage, value, error):
    with pytest.raises(error) as plain:
        rec.FlatIndex(value)
    with pytest.raises(error) as narrow:
        rec.FlatIndex(value, storage=storage)
    assert str(narrow.value) == str(plain.value)


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((3, 2), np.int16),
        np.ones((3, 2), ">f2"),
        np.ones((3, 4), np.float16)[:, ::2],
        np.asfortranarray(np.ones((3, 2), np.uint16)),
        np.ones(3, np.float16),
        [[1.0, 2.0]],
    ],
)
def test_native_doors_refuse_other_rows(vectors):
    norms = np.ones(3)
    for call in (
        lambda: _score.squared_norms(_native.api(), vectors),
        lambda: _native.encode(vectors, norms, 1),
        lambda: _search.search(
            _native.api(), 1, np.ones((1, 2), np.float32), vectors, norms, norms.astype("f4"), 1
        ),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()


SPECIAL = [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 6e-8, 3e-8, -6.1e-5, 1e-45, 1.00048828125]


@each_storage
@each_metric
@settings(max_examples=60)
@given(data=st.data())
def test_any_program_equals_float32(storage, metric, data):
    dim = data.draw(st.sampled_from([1, 2, 7, 8, 9, 17]))
    values = st.sampled_from(SPECIAL) | st.floats(-65504, 65504, width=32)
    rows = st.lists(values, min_size=dim, max_size=dim)
    pool = np.array(data.draw(st.lists(rows, min_size=1, max_size=6)), np.float32)

    def matrix(n):
        picks = st.lists(st.integers(0, len(pool) - 1), min_size=n, max_size=n)
        return pool[data.draw(picks)]

    vectors = matrix(data.draw(st.integers(1, 40)))
    got = rec.FlatIndex(vectors, metric=metric, storage=storage)
    want = rec.FlatIndex(nearest(vectors, storage), metric=metric)
    queries, k = matrix(data.draw(st.integers(1, 5))), data.draw(st.integers(0, 45))
    for _ in range(data.draw(st.integers(0, 3))):
        ids = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True))
        late = matrix(len(ids))
        got.upsert(ids, late)
        want.upsert(ids, nearest(late, storage))
        if data.draw(st.booleans()):
            got.compact()
    oracles.assert_same_bits(stored(got), stored(want))
    assert_same_answers(got, want, queries, k)
