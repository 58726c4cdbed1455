"""Warm-up, and runs over bound buffers, whose machinery works on the CPU as on a GPU."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import port, save, save_sum, save_tower
from onnx import TensorProto, helper

from recengine import DeadlineError
from recengine.runtime import Session, open_session
from recengine.runtime._bound import MOST_IDLE, BoundCalls
from recengine.runtime._wheel import load_onnxruntime


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return open_session(save_sum(tmp_path / "sum.onnx"), num_threads=1)


def feeds(n_rows: int, start: float = 0.0) -> dict[str, Any]:
    a = np.arange(n_rows * 3, dtype=np.float32).reshape(n_rows, 3) + np.float32(start)
    return {"a": a, "b": a * 2}


def test_session_is_ready_after_warm_up(session: Session) -> None:
    assert not session.ready
    session.warm_up(feeds(n) for n in (8, 1))
    assert session.ready
    np.testing.assert_array_equal(session.run(feeds(2))[0], feeds(2)["a"] * 3)


def test_forked_child_is_not_ready(session: Session) -> None:
    session.warm_up([feeds(1)])
    pid = os.fork()
    if pid == 0:
        before = session.ready
        session.run(feeds(1))
        between = session.ready
        session.warm_up([feeds(1)])
        os._exit(0 if (before, between, session.ready) == (False, False, True) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert session.ready


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests must not be empty"),
        ([{"a": np.zeros((1, 3))}], r"missing \['b'\]"),
        ([{"a": np.zeros((2, 3)), "b": np.zeros((4, 3))}], r"sum\.onnx cannot run on a \(2, 3\)"),
    ],
)
def test_request_that_does_not_fit_leaves_it_not_ready(
    session: Session, requests: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        session.warm_up(requests)
    assert not session.ready


# --- bound buffers --------------------------------------------------------------------------------


def bound(session: Session, **options: Any) -> BoundCalls:
    """Return calls as on a GPU, with buffers on the CPU."""
    return BoundCalls(
        load_onnxruntime(),
        session._native,
        inputs=session.inputs,
        outputs=session.outputs,
        where=("cpu", 0),
        **options,
    )


def test_results_outlive_the_next_run(session: Session) -> None:
    calls = bound(session)
    first = calls.run(feeds(2), None)[0]
    second = calls.run(feeds(2, start=100.0), None)[0]
    np.testing.assert_array_equal(first, feeds(2)["a"] * 3)
    np.testing.assert_array_equal(second, feeds(2, start=100.0)["a"] * 3)


def test_buffers_are_used_again(session: Session) -> None:
    calls = bound(session)
    for start in range(5):
        calls.run(feeds(2, start), None)
        calls.run(feeds(3, start), None)
    assert [len(waiting) for waiting in calls._idle.values()] == [1, 1]


def test_buffers_waiting_are_bounded(session: Session) -> None:
    calls = bound(session)
    for n_rows in range(1, MOST_IDLE + 11):
        calls.run(feeds(n_rows), None)
    assert len(calls._idle) == MOST_IDLE
    assert ((1, 3), (1, 3)) not in calls._idle, "those used longest ago go first"


def test_calls_in_flight_have_buffers_of_their_own(session: Session) -> None:
    calls, barrier = bound(session), threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(50):
            fed = feeds(500, start=float(number * 100 + turn))
            np.testing.assert_array_equal(calls.run(fed, None)[0], fed["a"] + fed["b"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert 1 <= sum(map(len, calls._idle.values())) <= 8


def test_batch_without_rows_is_run(session: Session) -> None:
    assert bound(session).run(feeds(0), None)[0].shape == (0, 3)


def test_outputs_whose_shape_depends_on_values_are_right(tmp_path: Path) -> None:
    ports = [port("x", TensorProto.FLOAT, ["n"]), port("y", TensorProto.INT64, [1, "found"])]
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = save(tmp_path / "n.onnx", [node], ports[:1], ports[1:])
    calls = bound(open_session(path, num_threads=1))
    for x in ([0, 1, 1], [0, 0, 1], [0, 0, 0]):
        (found,) = calls.run({"x": np.array(x, np.float32)}, None)
        np.testing.assert_array_equal(found, np.nonzero(x))


def test_graph_that_misnames_its_output_is_right(tmp_path: Path) -> None:
    """Its output says [n, 3] for n rows of input, and has twice as many."""
    ports = [port(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    path = save(tmp_path / "lie.onnx", [node], ports[:1], ports[1:])
    calls = bound(open_session(path, num_threads=1))
    x = feeds(2)["a"]
    for _ in range(2):
        np.testing.assert_array_equal(calls.run({"x": x}, None)[0], np.concatenate([x, x]))


def test_deadline_holds_over_bound_buffers(tmp_path: Path) -> None:
    weight = np.eye(1500, dtype=np.float32)
    calls = bound(open_session(save_tower(tmp_path / "t.onnx", weight), num_threads=1))
    x = np.ones((3000, 1500), np.float32)
    with pytest.raises(DeadlineError, match="timeout of 1e-05 s ran out"):
        calls.run({"x": x}, 1e-5)
    np.testing.assert_array_equal(calls.run({"x": x}, 60.0)[1], x)


# --- CUDA graphs: the bookkeeping here, the recording on a GPU ------------------------------------


def test_only_warmed_shapes_have_a_graph(session: Session) -> None:
    calls = bound(session, graphs=True)
    calls.warm(feeds(8))
    calls.warm(feeds(1))
    calls.warm(feeds(8))
    assert [number for number, _ in calls._graphs.values()] == ["1", "2"]
    for n_rows in (8, 1, 5, 8):
        fed = feeds(n_rows, start=3.0)
        np.testing.assert_array_equal(calls.run(fed, None)[0], fed["a"] + fed["b"])
    assert len(calls._graphs) == 2


def test_graph_of_unknown_output_shape_is_refused(tmp_path: Path) -> None:
    ports = [port("x", TensorProto.FLOAT, ["n"]), port("y", TensorProto.INT64, [1, "found"])]
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = save(tmp_path / "n.onnx", [node], ports[:1], ports[1:])
    calls = bound(open_session(path, num_threads=1), graphs=True)
    with pytest.raises(ValueError, match=r"must go with outputs whose shapes follow.*y int64"):
        calls.warm({"x": np.ones(3, np.float32)})


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_cuda_equals_the_cpu(tmp_path: Path, cuda_graph: bool) -> None:
    path = save_sum(tmp_path / "sum.onnx")
    session = open_session(path, "cuda", options={"cuda_graph": cuda_graph})
    session.warm_up(feeds(n) for n in (32, 8, 1))
    for n_rows in (1, 8, 5, 32, 8):
        fed = feeds(n_rows, start=n_rows)
        np.testing.assert_array_equal(session.run(fed)[0], fed["a"] + fed["b"])
