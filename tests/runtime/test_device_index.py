"""DeviceIndex gives the ids and the score bits of its FlatIndex, and says how it came to them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.retrieval import _device_answer, _device_graph, _planner

METRICS = oracles.METRICS
STORAGES = ("float32", "float16")
each_metric = pytest.mark.parametrize("metric", METRICS)
each_storage = pytest.mark.parametrize("storage", STORAGES)


def mixed(rng: np.random.Generator, n: int, dim: int) -> Any:
    """Gaussian rows, rows of small integers (ties), copies of rows, a zero row."""
    table = rng.standard_normal((n, dim)).astype(np.float32)
    table[n // 3 : 2 * n // 3] = rng.integers(-2, 3, (2 * n // 3 - n // 3, dim))
    table[n - 2] = table[0]
    table[n - 1] = 0
    return table


def on_cpu(index: rec.FlatIndex, storage: str = "float32", **options: Any) -> rec.DeviceIndex:
    return rec.DeviceIndex(index, "cpu", storage, num_threads=1, **options)


def assert_alike(device: rec.DeviceIndex, queries: Any, k: int = 10, **options: Any) -> rec.TopK:
    """Assert that the device answers as its index does, and return the answer."""
    got, want = device.search(queries, k, **options), device.index.search(queries, k, **options)
    oracles.assert_same_topk(got, want)
    np.testing.assert_array_equal(got.ordinals, want.ordinals)
    return got


# --- the same answers -----------------------------------------------------------------------------


@each_storage
@each_metric
def test_answers_are_those_of_the_index_and_of_the_oracle(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    for dim, n in ((1, 40), (7, 300), (33, 3000)):
        vectors, queries = mixed(rng, n, dim), mixed(rng, 12, dim)
        device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
        for k in (0, 1, 7, n, n + 3):
            got = assert_alike(device, queries, k)
            oracles.assert_same_topk(got, oracles.search(metric, queries, vectors, k))
            assert_alike(device, queries[0], k)
        assert_alike(device, queries[:0], 3)


@each_storage
@each_metric
def test_gaussian_queries_are_proved_by_the_device(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    vectors, queries = rng.standard_normal((20_000, 48)), rng.standard_normal((300, 48))
    device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
    assert_alike(device, queries, 10)
    assert device.stats == {
        "searches": 1,
        "queries": 300,
        "proved": 300,
        "grown": device.stats["grown"],
        "by_index": 0,
    }
    assert device.stats["grown"] <= (0 if storage == "float32" else 30)


@each_metric
def test_top_k_is_a_prefix_of_top_k_plus_one(rng: np.random.Generator, metric: str) -> None:
    vectors = rng.integers(-1, 2, (2000, 6)).astype(np.float32)
    queries = rng.integers(-1, 2, (9, 6)).astype(np.float32)
    device = on_cpu(rec.FlatIndex(vectors, metric=metric))
    whole = device.search(queries, 40)
    for k in (0, 1, 2, 13, 39):
        oracles.assert_same_topk(device.search(queries, k), (whole.ids[:, :k], whole.scores[:, :k]))


@each_storage
@each_metric
def test_tiles_are_one_catalogue(rng: np.random.Generator, metric: str, storage: str) -> None:
    """Two full tiles, a last one of 4 rows, and a fourth that is there for later."""
    vectors, queries = mixed(rng, 2 * 2048 + 4, 9), rng.standard_normal((5, 9))
    device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage, tile_rows=2048)
    assert_alike(device, queries, 30)
    best = device.index.search(vectors[-3], 1)
    oracles.assert_same_topk(device.search(vectors[-3], 1), best)


def test_more_queries_than_a_run_takes_are_cut_into_runs(rng: np.random.Generator) -> None:
    vectors, queries = rng.standard_normal((900, 5)), rng.standard_normal((600, 5))
    device = on_cpu(rec.FlatIndex(vectors, ids=[f"i{n}" for n in range(900)], metric="dot"))
    lists = [[f"i{n}" for n in rng.integers(0, 900, 20)] for _ in range(600)]
    assert_alike(device, queries, 4, exclude=lists)
    assert device.stats["proved"] == 600


@each_storage
@each_metric
def test_filters_and_biases_are_those_of_the_index(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    n, genre = 3000, np.array(["a", "b"])
    vectors, queries = mixed(rng, n, 12), rng.standard_normal((6, 12))
    own = None if metric == "l2" else rng.standard_normal(n)
    columns = {"genre": genre[rng.integers(0, 2, n)]}
    index = rec.FlatIndex(vectors, metric=metric, columns=columns, bias=own)
    device = on_cpu(index, storage)
    half = rng.permutation(n)[: n // 2]
    lists = [rng.integers(0, n, size).tolist() for size in (0, 3, 50, 200, 1, 9)]
    prepared = index.filter(where=rec.where(genre="a"))
    for options in (
        {"deny": half},
        {"allow": half},
        {"allow": [3, 4, 5], "deny": [4]},
        {"allow": []},
        {"where": rec.where(genre="b")},
        {"filter": prepared},
        {"filter": prepared, "deny": half, "exclude": lists},
        {"exclude": lists},
        {"exclude": lists, "deny": half, "min_score": 0.4},
        {"min_score": 1e9},
    ):
        assert_alike(device, queries, 11, **options)
    if metric != "l2":
        assert_alike(device, queries, 11, bias={int(half[0]): 9.0, 7: -3.0}, exclude=lists)
        assert_alike(device, queries, 11, bias=rng.standard_normal(n) * 1e4)
    assert device.stats["proved"] > 0


@each_storage
@each_metric
def test_updates_are_known_to_the_next_search(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    vectors, queries = rng.standard_normal((3000, 8)), rng.standard_normal((7, 8))
    index = rec.FlatIndex(vectors, metric=metric)
    device = on_cpu(index, storage, tile_rows=2048)
    found = assert_alike(device, queries, 20)
    sessions = dict(device._scorer._sessions)
    index.delete(found.ids[0, :5])
    assert_alike(device, queries, 20)
    index.upsert([10_000, int(found.ids[1, 0])], rng.standard_normal((2, 8)) * 3)
    again = assert_alike(device, queries, 20)
    assert not np.isin(found.ids[0, :5], again.ids).any()
    index.upsert(np.arange(20_000, 21_000), rng.standard_normal((1000, 8)))
    index.compact()
    assert_alike(device, queries, 20, deny=found.ids[2])
    assert device._scorer._sessions == sessions, "new items need no new graph"
    assert device.stats["by_index"] == 0


@each_storage
@pytest.mark.parametrize("kept", ["float16", "bfloat16"])
def test_an_index_of_two_byte_numbers_or_in_a_file_is_searched_alike(
    rng: np.random.Generator, tmp_path: Any, kept: Any, storage: str
) -> None:
    index = rec.FlatIndex(rng.standard_normal((3000, 12)), metric="dot", storage=kept)
    index.save(tmp_path / "i.rec")
    queries = rng.standard_normal((5, 12))
    for each in (index, rec.FlatIndex.open(tmp_path / "i.rec")):
        device = on_cpu(each, storage)
        assert_alike(device, queries)
        assert device.stats["by_index"] == 0


def test_a_catalogue_that_doubled_has_a_new_graph(rng: np.random.Generator) -> None:
    index = rec.FlatIndex(rng.standard_normal((100, 4)), metric="dot")
    device = on_cpu(index, tile_rows=2048)
    assert_alike(device, np.ones(4))
    index.upsert(np.arange(100, 5000), rng.standard_normal((4900, 4)))
    index.compact()
    assert_alike(device, np.ones(4))
    assert {tiles for tiles, _ in device._scorer._sessions} == {4}


@each_metric
def test_an_empty_index_answers_with_padding(metric: str) -> None:
    index = rec.FlatIndex(np.empty((0, 3)), metric=metric)
    device = on_cpu(index)
    assert assert_alike(device, np.ones((2, 3)), 2).ids.tolist() == [[-1, -1]] * 2
    index.upsert([5], np.ones((1, 3)))
    assert assert_alike(device, np.ones(3), 2).ids.tolist() == [5, -1]


# --- hostile numbers ------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1.1754942e-38, 1e-30, -3e-20, 1e15, 1e30, -1e30]
SPECIAL += [oracles.FLT_MAX, -oracles.FLT_MAX, 1.0000001, 0.99999994, 3.0]
numbers = st.sampled_from(SPECIAL) | st.floats(-2, 2, width=32)


@st.composite
def tables(draw: Any, dim: int, most: int) -> Any:
    """Rows of special values, some of them repeated or negated."""
    pool = draw(st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=1, max_size=5))
    picks = draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=most))
    signs = draw(st.lists(st.sampled_from([1, -1]), min_size=len(picks), max_size=len(picks)))
    return (np.array(pool, np.float32)[picks] * np.array(signs)[:, None]).astype(np.float32)


@each_storage
@each_metric
@settings(max_examples=40)
@given(data=st.data())
def test_extreme_values_change_nothing(metric: str, storage: str, data: Any) -> None:
    dim = data.draw(st.sampled_from([1, 2, 3, 9]))
    vectors, queries = data.draw(tables(dim, 40)), data.draw(tables(dim, 4))
    n = len(vectors)
    bias = None
    if metric != "l2" and data.draw(st.booleans()):
        bias = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)), np.float32)
    device = on_cpu(rec.FlatIndex(vectors, metric=metric, bias=bias), storage)
    for k in (1, 5, n + 1):
        got = assert_alike(device, queries, k)
        oracles.assert_same_topk(got, oracles.search(metric, queries, vectors, k, bias=bias))


@each_storage
@each_metric
def test_what_float32_cannot_tell_apart_is_told_apart(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    """Cones, one giant coordinate, tiny and huge norms, near-ties: more than it can keep."""
    base = rng.standard_normal((5000, 16))
    giant = base.copy()
    giant[:, 3] *= 1e20
    near = np.ones((5000, 16)) + rng.integers(-1, 2, (5000, 16)) * 2.0**-23
    cases = {
        "giant": giant,
        "norms": base * 10.0 ** rng.integers(-30, 30, (5000, 1)),
        "near": near,
        "cone": np.ones((5000, 16)) + 1e-6 * base,
        "equal": np.tile(base[:1], (5000, 1)),
    }
    for vectors in cases.values():
        device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
        assert_alike(device, np.concatenate([vectors[:3], base[:3]]).astype(np.float32), 13)
    assert device.stats["by_index"] > 0, "equal items prove nothing"


@each_storage
@each_metric
def test_no_item_outside_is_above_the_bound(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    """The bound is right for every item, and says something: it lies close to the last given."""
    for scale in (1.0, 1e-12, 1e15):
        vectors = (rng.standard_normal((3000, 24)) * scale).astype(np.float32)
        like = scale if metric == "l2" else 1.0
        queries = (rng.standard_normal((20, 24)) * like).astype(np.float32)
        bias = None if metric == "l2" else rng.standard_normal(3000) * scale
        index = rec.FlatIndex(vectors, metric=metric, bias=bias)
        device = on_cpu(index, storage)
        now = index._live.generation
        asked = _device_answer.Asked(5, _planner.Selection(None, None), None, None, -np.inf, 1, 0)
        laid = device._laid_out(now, asked)
        found = device._scorer.run(laid, queries, 32, None)
        bound = _device_answer.highest_outside(
            laid, found.queries, found.scaled, found.scale, found.values[:, -1]
        )
        scores = oracles.scores(metric, queries, vectors, bias)
        inside = np.zeros(scores.shape, bool)
        np.put_along_axis(inside, found.rows, True, axis=1)
        best = np.where(inside, -np.inf, scores).max(axis=1)
        assert (best <= bound).all()
        spread = scores.max(axis=1) - scores.min(axis=1)
        room = 1e-5 if storage == "float32" else 5e-3
        last = np.take_along_axis(scores, found.rows[:, -1:], axis=1)[:, 0]
        assert (np.abs(bound - last) <= room * spread).all()


@each_storage
def test_bound_holds_for_large_addends_and_inexact_queries(
    rng: np.random.Generator, storage: str
) -> None:
    """A bias far above the products, and a graph that scaled the queries badly."""
    vectors = rng.standard_normal((3000, 24)).astype(np.float32)
    queries = rng.standard_normal((20, 24)).astype(np.float32)
    for offset, blur in ((1e6, 0.0), (0.0, 1e-2)):
        bias = rng.standard_normal(3000) + offset
        index = rec.FlatIndex(vectors, metric="dot", bias=bias)
        device = on_cpu(index, storage)
        asked = _device_answer.Asked(5, _planner.Selection(None, None), None, None, -np.inf, 1, 0)
        laid = device._laid_out(index._live.generation, asked)
        asked_for = queries * (1 + blur * rng.standard_normal((20, 24))).astype(np.float32)
        found = device._scorer.run(laid, asked_for, 32, None)
        bound = _device_answer.highest_outside(
            laid, queries, found.scaled, found.scale, found.values[:, -1]
        )
        scores = oracles.scores("dot", queries, vectors, bias)
        np.put_along_axis(scores, found.rows, -np.inf, axis=1)
        assert (scores.max(axis=1) <= bound).all()


# --- an encoder before it -------------------------------------------------------------------------


@pytest.fixture
def tower(tmp_path: Any, rng: np.random.Generator) -> Any:
    from graphs import save_tower

    return save_tower(tmp_path / "tower.onnx", rng.standard_normal((4, 6)).astype(np.float32))


@each_storage
@each_metric
def test_encoder_and_scorer_are_one_graph(
    rng: np.random.Generator, tower: Any, metric: str, storage: str
) -> None:
    index = rec.FlatIndex(rng.standard_normal((3000, 6)), metric=metric)
    device = on_cpu(index, storage, encoder=tower, output="hidden")
    users = rng.standard_normal((300, 4)).astype(np.float32)
    hidden = rec.OnnxEncoder(tower, output="hidden", num_threads=1).encode({"x": users})
    for options in ({}, {"allow": [5, 6]}, {"deny": [1]}):
        for k in (0, 3, 200):
            got = device.search({"x": users}, k, **options)
            oracles.assert_same_topk(got, index.search(hidden, k, **options))
    assert [str(port) for port in device.inputs] == ["x float32 [n, 4]"]
    relu = on_cpu(index, storage, encoder=tower, output="vector")
    oracles.assert_same_topk(
        relu.search({"x": users[:2]}, 3), index.search(np.maximum(hidden[:2], 0), 3)
    )


def test_encoder_is_refused_by_what_is_wrong(
    rng: np.random.Generator, tower: Any, tmp_path: Any
) -> None:
    index = rec.FlatIndex(rng.standard_normal((50, 6)))
    device = on_cpu(index, encoder=tower)
    for wrong in ({"y": 1}, np.ones((2, 4)), {}):
        with pytest.raises(ValueError, match=r"must name the inputs of the encoder: x float32 \[n"):
            device.search(wrong)
    with pytest.raises(ValueError, match="requests must be given with an encoder"):
        device.warm_up()
    device.warm_up([{"x": np.ones((3, 4))}])
    with pytest.raises(ValueError, match="same number of rows"):
        device.search({"x": 1.0})
    with pytest.raises(ValueError, match="output must be one of hidden, vector, got 'z'"):
        on_cpu(index, encoder=tower, output="z")
    with pytest.raises(ValueError, match="output must go with an encoder"):
        on_cpu(index, output="z")
    with pytest.raises(FileNotFoundError, match="encoder must be an ONNX file"):
        on_cpu(index, encoder=tmp_path / "no.onnx")
    with pytest.raises(ValueError, match=r"must give queries float32 \[n, 5\], got hidden float32"):
        on_cpu(rec.FlatIndex(rng.standard_normal((50, 5))), encoder=tower)


@pytest.mark.parametrize("opset", [12, 13, 18, 21])
def test_encoder_of_another_opset_is_joined_or_refused(
    rng: np.random.Generator, tower: Any, tmp_path: Any, opset: int
) -> None:
    import onnx

    model = onnx.load(tower)
    model.opset_import[0].version = opset
    onnx.save(model, tmp_path / "other.onnx")
    index = rec.FlatIndex(rng.standard_normal((500, 6)))
    if opset < _device_graph.OLDEST_OPSET:
        with pytest.raises(ValueError, match="encoder must be of opset >= 13, got 12"):
            on_cpu(index, encoder=tmp_path / "other.onnx")
        return
    device = on_cpu(index, encoder=tmp_path / "other.onnx")
    users = rng.standard_normal((3, 4)).astype(np.float32)
    hidden = rec.OnnxEncoder(tower, num_threads=1).encode({"x": users})
    oracles.assert_same_topk(device.search({"x": users}), index.search(hidden))


# --- the contract about devices -------------------------------------------------------------------


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(),
    reason="an NVIDIA driver answers: nothing to refuse",
)
def test_cuda_is_given_or_refused() -> None:
    with pytest.raises(rec.DeviceError, match=r"cannot run the scoring graph: .*fix: "):
        rec.DeviceIndex(rec.FlatIndex(np.eye(3)), "cuda")


def test_options_that_break_the_promise_are_refused() -> None:
    index = rec.FlatIndex(np.eye(3))
    with pytest.raises(ValueError, match="cuda_graph'] must not be set"):
        rec.DeviceIndex(index, "auto", runtime={"cuda_graph": True})
    with pytest.raises(ValueError, match="tensorrt'] must not be set: it may round"):
        rec.DeviceIndex(index, "auto", runtime={"tensorrt": "engines"})
    with pytest.raises(ValueError, match="options must be of arena"):
        on_cpu(index, runtime={"arenas": True})
    with pytest.raises(ValueError, match="storage must be one of 'float32', 'float16', got 'int8'"):
        on_cpu(index, "int8")
    with pytest.raises(ValueError, match="tile_rows must be >= 2048, got 5"):
        on_cpu(index, tile_rows=5)
    with pytest.raises(TypeError, match="index must be a FlatIndex, got ndarray"):
        rec.DeviceIndex(np.eye(3))  # type: ignore[arg-type]


def test_arguments_are_those_of_the_index() -> None:
    device = on_cpu(rec.FlatIndex(np.eye(3)))
    for arguments, options in (
        ((np.ones(2),), {}),
        ((np.ones(3), -1), {}),
        ((np.ones(3),), {"exclude": [[1], [2]]}),
        ((np.ones(3),), {"bias": [1.0]}),
        ((np.ones(3),), {"min_score": np.nan}),
        ((np.ones(3),), {"num_threads": 0}),
        ((np.array([1, np.nan, 0]),), {}),
        ((np.ones(3),), {"filter": rec.FlatIndex(np.eye(3)).filter(allow=[1])}),
    ):
        with pytest.raises((ValueError, TypeError)) as ours:
            device.search(*arguments, **options)
        with pytest.raises(type(ours.value)) as theirs:
            device.index.search(*arguments, **options)
        assert str(ours.value) == str(theirs.value)


def test_a_deadline_ends_a_search(rng: np.random.Generator) -> None:
    device = on_cpu(rec.FlatIndex(rng.standard_normal((100_000, 64))))
    queries = rng.standard_normal((256, 64))
    with pytest.raises(rec.DeadlineError, match="timeout"):
        device.search(queries, timeout=1e-3)
    with pytest.raises(ValueError, match="timeout must be > 0"):
        device.search(queries, timeout=0)
    got = device.search(queries[:3], timeout=60)
    oracles.assert_same_topk(got, device.index.search(queries[:3]))


def test_warm_up_lays_the_items_out(rng: np.random.Generator) -> None:
    device = on_cpu(rec.FlatIndex(rng.standard_normal((500, 6))))
    device.warm_up()
    table = device._table
    assert table is not None
    assert_alike(device, np.ones(6))
    assert device._table is table
    assert device.stats["queries"] == 258
    assert repr(device).startswith("DeviceIndex(FlatIndex(n_items=500")
    assert (device.device, device.reason, len(device)) == ("cpu", "asked for", 500)


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads: that is the test
import numpy as np
import recengine as rec

index = rec.FlatIndex(np.random.default_rng(0).standard_normal((3000, 6)))
device = rec.DeviceIndex(index, num_threads=4)
want = device.search(np.ones(6)).ids.tolist()
with device._laying:  # as another thread might hold it
    pid = os.fork()
    if pid == 0:
        assert device.search(np.ones(6)).ids.tolist() == want
        index.upsert([7000], np.ones((1, 6)))
        index.compact()
        assert device.search(np.ones(6), 1).ids.tolist() == [7000]
        sys.exit(0)  # a whole shutdown of the interpreter, not os._exit
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert device.search(np.ones(6)).ids.tolist() == want
print("child", status)
"""


def test_a_forked_child_goes_on() -> None:
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "child 0", "")


def test_threads_search_beside_a_writer(rng: np.random.Generator) -> None:
    index = rec.FlatIndex(rng.standard_normal((3000, 6)), metric="dot")
    device, failures = on_cpu(index), []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                found = device.search(np.ones((3, 6)), 5)
                if (found.ids < 0).any() or not (np.diff(found.scores, axis=1) <= 0).all():
                    raise AssertionError(found)
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(30):
        index.upsert([number, 5000 + number], rng.standard_normal((2, 6)))
        index.delete([1000 + number])
        if number % 10 == 0:
            index.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert_alike(device, np.ones(6))


@pytest.mark.gpu
@each_storage
@each_metric
def test_cuda_gives_the_same_bits(rng: np.random.Generator, metric: str, storage: str) -> None:
    vectors, queries = mixed(rng, 200_000, 64), rng.standard_normal((300, 64))
    index = rec.FlatIndex(vectors, metric=metric)
    device = rec.DeviceIndex(index, "cuda", storage)
    assert_alike(device, queries, 10)
    assert_alike(device, queries, 100, deny=np.arange(0, 200_000, 2))
    assert device.device == "cuda:0"
    assert device.stats["proved"] > 500


@pytest.mark.gpu
@each_storage
def test_cuda_joins_encoder_and_scorer(rng: np.random.Generator, tower: Any, storage: str) -> None:
    index = rec.FlatIndex(rng.standard_normal((100_000, 6)))
    device = rec.DeviceIndex(index, "cuda", storage, encoder=tower)
    users = rng.standard_normal((300, 4)).astype(np.float32)
    got = device.search({"x": users})
    found = device._scorer.encode(None, {"x": users}, 32, None).queries
    oracles.assert_same_topk(got, index.search(found))
