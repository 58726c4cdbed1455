"""Arrays that stay where a session runs, and graphs that this process made."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from graphs import save_sum

from recengine.runtime import Built, open_session


def test_placed_arrays_serve_runs_from_where_they_lie(tmp_path: Path) -> None:
    session = open_session(save_sum(tmp_path / "sum.onnx"), num_threads=1)
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    placed = session.place(a)
    assert (placed.shape, placed.dtype, placed.nbytes) == ((2, 3), np.float32, 24)
    assert repr(placed) == "Placed(float32[2, 3], 'cpu')"
    np.testing.assert_array_equal(session.run({"a": placed, "b": b})[0], a + b)
    a[:] = 5  # not copied: the next run reads what is there now
    np.testing.assert_array_equal(session.run({"a": placed, "b": b}, timeout=60)[0], 7)
    other = open_session(session.path, num_threads=1)
    np.testing.assert_array_equal(other.run({"a": placed, "b": placed})[0], 10)


def test_placed_arrays_must_fit(tmp_path: Path) -> None:
    session = open_session(save_sum(tmp_path / "sum.onnx"), num_threads=1)
    row = np.ones((1, 3), np.float32)
    with pytest.raises(TypeError, match=r"input a float32 \[n, 3\] cannot take .* of float64"):
        session.run({"a": session.place(np.ones((1, 3))), "b": row})
    with pytest.raises(ValueError, match=r"input a float32 \[n, 3\] cannot take shape \(3, 1\)"):
        session.run({"a": session.place(np.ones((3, 1), np.float32)), "b": row})
    with pytest.raises(ValueError, match=r"feeds must name the inputs of sum\.onnx, missing"):
        session.run({"a": session.place(row)})
    two, three = np.ones((2, 3), np.float32), np.ones((3, 3), np.float32)
    with pytest.raises(ValueError, match=r"sum\.onnx cannot run on a \(3, 3\), b \(2, 3\)"):
        session.run({"a": session.place(three), "b": two})
    with pytest.raises(ValueError, match="array must be C-contiguous"):
        session.place(np.ones((3, 3), np.float32)[:, :2])


def test_a_graph_of_this_process_is_a_session_too(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "sum.onnx")
    session = open_session(Built("the sum", path.read_bytes()), num_threads=1)
    row = np.ones((1, 3), np.float32)
    assert session.digest == open_session(path, num_threads=1).digest
    path.unlink()
    for each in (session, pickle.loads(pickle.dumps(session))):
        np.testing.assert_array_equal(each.run({"a": row, "b": row})[0], 2)
        with pytest.raises(ValueError, match="inputs of the sum, unknown"):
            each.run({"c": row})
