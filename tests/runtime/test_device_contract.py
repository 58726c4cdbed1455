"""DeviceIndex under the device contract: encoders, options, deadlines, forks, threads, a GPU."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from device_indexes import assert_alike, each_metric, each_storage, mixed, on_cpu

import recengine as rec
from recengine.retrieval import _device_graph

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
