from __future__ import annotations

import gc
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import port, save, save_sum, save_tower
from onnx import TensorProto, helper

from recengine import BundleError, _native
from recengine.runtime import Session, file_digest, open_session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_sum(tmp_path / "sum.onnx")


@pytest.fixture
def session(path: Path) -> Session:
    return open_session(path, num_threads=1)


def test_run_equals_numpy(session: Session, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 4, 3)).astype(np.float32)
    (c,) = session.run({"b": b, "a": a})
    np.testing.assert_array_equal(c, a + b)
    assert c.dtype == np.float32


def test_session_tells_what_it_is(session: Session, path: Path) -> None:
    assert (session.device, session.reason) == ("cpu", "asked for")
    assert session.path == path
    assert session.digest == file_digest(path)
    assert [str(each) for each in session.inputs] == ["a float32 [n, 3]", "b float32 [n, 3]"]
    assert session.outputs[0].dtype == np.float32
    assert repr(session) == f"Session({str(path)!r}, device='cpu')"


def test_session_tells_the_metadata_of_its_model(session: Session) -> None:
    assert session.metadata == {}
    model = onnx.load(session.path)
    helper.set_model_props(model, {"maker": "mälzel", "sizes": "[1, 2]"})
    onnx.save(model, session.path)
    assert open_session(session.path).metadata == {"maker": "mälzel", "sizes": "[1, 2]"}
    model.metadata_props[0].value = "blotted"
    damaged = model.SerializeToString().replace(b"blotted", b"bl\xfftted")
    session.path.write_bytes(damaged)
    with pytest.raises(BundleError, match=r"sum\.onnx"):
        open_session(session.path)


def test_relative_path_survives_a_change_of_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    session = open_session(path.name, num_threads=1)
    monkeypatch.chdir("/")
    assert session.path == path
    assert pickle.loads(pickle.dumps(session)).digest == session.digest


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (np.ones((2, 3), np.float64), True),
        (np.ones((2, 3), np.int16), True),
        (np.ones((2, 3), bool), True),
        ([[1.0, 2.0, 3.0]] * 2, True),
        (np.asfortranarray(np.ones((2, 3), np.float32)), True),
        (np.ones((4, 3), np.float32)[::2], True),
        (np.ones((2, 3), np.int64), False),
        (np.ones((2, 3), np.complex64), False),
        (np.array([["x"] * 3] * 2), False),
        (np.array([[None] * 3] * 2), False),
    ],
)
def test_dtype_is_converted_only_without_loss(
    session: Session, value: object, accepted: bool
) -> None:
    feeds = {"a": value, "b": np.zeros((2, 3), np.float32)}
    if accepted:
        np.testing.assert_array_equal(session.run(feeds)[0], np.asarray(value, np.float32))
    else:
        with pytest.raises(TypeError, match="input a must be float32, got"):
            session.run(feeds)


ROW = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": ROW, "x": ROW}, r"unknown \['x'\]; it has: a float32 \[n, 3\]; b float32 \[n, 3\]"),
        ({"a": ROW}, r"missing \['b'\]; it has: a float32"),
        ({}, r"missing \['a', 'b'\]"),
        ({"a": ROW, "b": ROW, "c": ROW}, r"unknown \['c'\]"),
        ({"a": ROW[0], "b": ROW}, r"input a float32 \[n, 3\] cannot take shape \(3,\)"),
        ({"a": ROW[:, :2], "b": ROW}, r"input a float32 \[n, 3\] cannot take shape \(1, 2\)"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((4, 3))}, r"cannot run on a \(2, 3\), b \(4, 3\)"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(
    session: Session, feeds: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        session.run(feeds)


def test_input_that_numpy_cannot_hold_is_refused(tmp_path: Path) -> None:
    ports = [port(name, TensorProto.STRING, ["n"]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    session = open_session(save(tmp_path / "s.onnx", [node], ports[:1], ports[1:]), num_threads=1)
    with pytest.raises(TypeError, match=r"input x is tensor\(string\), which recengine cannot"):
        session.run({"x": np.array(["a"])})


def test_scalar_input_stays_a_scalar(tmp_path: Path) -> None:
    ports = [port(name, TensorProto.FLOAT, []) for name in "xy"]
    path = save(tmp_path / "s.onnx", [helper.make_node("Neg", ["x"], ["y"])], ports[:1], ports[1:])
    (y,) = open_session(path, num_threads=1).run({"x": 2.0})
    assert y.shape == ()
    assert y == -2.0


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["absent.onnx", ""])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="path must be an ONNX file, there is none at"):
        open_session(tmp_path / name)


def opened(path: Path) -> Session | BundleError:
    try:
        return open_session(path, num_threads=1)
    except BundleError as error:
        return error


def test_truncated_model_is_refused_or_the_same(tmp_path: Path) -> None:
    whole = save_tower(tmp_path / "whole.onnx", np.eye(3, dtype=np.float32)).read_bytes()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    cut = tmp_path / "cut.onnx"
    n_refused = 0
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        found = opened(cut)
        if isinstance(found, Session):
            np.testing.assert_array_equal(found.run({"x": x})[1], x)
        else:
            assert f"{cut} cannot be opened as an ONNX model: " in str(found)
            n_refused += 1
    assert n_refused >= len(whole) - 10


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    whole = save_sum(tmp_path / "sum.onnx").read_bytes()
    bad = tmp_path / "bad.onnx"
    n_refused = 0
    for place in range(len(whole)):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        n_refused += isinstance(opened(bad), BundleError)
    assert n_refused > len(whole) // 2


# --- threads --------------------------------------------------------------------------------------


def n_native_threads() -> int:
    """Count the threads once those of sessions that are gone have ended."""
    gc.collect()
    counts: list[int] = []
    while len(counts) < 5 or len(set(counts[-5:])) != 1:
        time.sleep(0.02)
        counts.append(len(list(Path("/proc/self/task").iterdir())))
    return counts[-1]


@pytest.mark.parametrize(("num_threads", "started"), [(1, 0), (3, 2)])
def test_session_starts_the_threads_asked_for(path: Path, num_threads: int, started: int) -> None:
    kept = [open_session(path, num_threads=1)]  # onnxruntime's own first steps
    before = n_native_threads()
    kept.append(open_session(path, num_threads=num_threads))
    assert n_native_threads() - before == started


def test_default_threads_are_what_the_process_may_use(path: Path) -> None:
    session = open_session(path)
    options = session._native.get_session_options()
    assert session.num_threads == options.intra_op_num_threads == _native.num_cpus()
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("num_threads", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)]
)
def test_bad_thread_count_is_refused(path: Path, num_threads: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="num_threads must be"):
        open_session(path, num_threads=num_threads)


def test_threads_at_once_equal_serial(path: Path, rng: np.random.Generator) -> None:
    session = open_session(path, num_threads=2)
    inputs = rng.standard_normal((8, 50, 3)).astype(np.float32)
    barrier = threading.Barrier(len(inputs))

    def work(x: np.ndarray) -> list[np.ndarray]:
        barrier.wait()
        return [session.run({"a": x, "b": x * i})[0] for i in range(20)]

    with ThreadPoolExecutor(len(inputs)) as pool:
        results = list(pool.map(work, inputs))
    for x, found in zip(inputs, results, strict=True):
        for i, c in enumerate(found):
            np.testing.assert_array_equal(c, x + x * np.float32(i))


# --- pickle ---------------------------------------------------------------------------------------


def test_pickle_holds_a_path_and_no_weights(tmp_path: Path) -> None:
    weight = np.ones((300, 300), np.float32)
    session = open_session(save_tower(tmp_path / "big.onnx", weight), num_threads=1)
    content = pickle.dumps(session)
    assert len(content) < 1000
    copy = pickle.loads(content)
    assert (copy.path, copy.digest, copy.num_threads) == (session.path, session.digest, 1)
    x = np.ones((1, 300), np.float32)
    np.testing.assert_array_equal(copy.run({"x": x})[0], session.run({"x": x})[0])


def test_unpickle_refuses_another_file(session: Session) -> None:
    content = pickle.dumps(session)
    save_sum(session.path, rows=4)
    with pytest.raises(BundleError, match=f"is not the file it was.*{session.digest}"):
        pickle.loads(content)


def test_unpickle_names_a_file_that_is_gone(session: Session) -> None:
    content = pickle.dumps(session)
    session.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"sum\.onnx"):
        pickle.loads(content)
