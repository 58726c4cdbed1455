"""Deadlines, warm-up and options of the runtime of an audio encoder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import save_ear, save_front_end

from recengine import AudioEncoder, DeadlineError

SOUND = (np.sin(np.arange(90.0)), 1000)


def made(folder: Path, rows: int | str = "n", **options: Any) -> AudioEncoder:
    rng = np.random.default_rng(4)
    model = save_ear(folder / "m.onnx", rng.standard_normal((15, 6)).astype(np.float32), rows)
    front_end = save_front_end(folder / "f.onnx", rng.standard_normal((3, 4)).astype(np.float32))
    return AudioEncoder(
        model, front_end, window=12, hop=4, sample_rate=1000, num_threads=1, **options
    )


def test_options_of_the_runtime_travel_by_pickle_but_not_by_reference(tmp_path: Path) -> None:
    encoder = made(tmp_path, runtime={"arena": False})
    copy = pickle.loads(pickle.dumps(encoder))
    sessions = copy._graph.model, copy._graph.front_end
    assert [session.options.arena for session in sessions] == [False, False]
    assert AudioEncoder.from_reference(encoder.reference())._session.options.arena
    with pytest.raises(ValueError, match="options must be of arena, shrink"):
        made(tmp_path, runtime={"arenas": True})


@pytest.mark.parametrize("rows", ["n", 3])
def test_encoder_is_ready_after_warm_up(tmp_path: Path, rows: int | str) -> None:
    encoder = made(tmp_path, rows)
    before = encoder.encode_query(SOUND)
    assert not encoder.ready
    encoder.warm_up()
    assert encoder.ready
    assert encoder._graph.front_end.ready
    np.testing.assert_array_equal(encoder.encode_query(SOUND), before)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_request_out_of_time_is_ended(tmp_path: Path, on_error: Any) -> None:
    """Also under "skip": time is no fault of a sound."""
    encoder = made(tmp_path)
    with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out before the graph ran"):
        encoder.encode([SOUND], on_error=on_error, timeout=1e-9)
    with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out"):
        encoder.encode_query(SOUND, timeout=1e-9)
    with pytest.raises(ValueError, match="timeout must be > 0, got 0"):
        encoder.encode_query(SOUND, timeout=0)
    query = encoder.encode_query(SOUND)
    np.testing.assert_array_equal(encoder.encode_query(SOUND, timeout=60.0), query)
    np.testing.assert_array_equal(encoder.encode([SOUND], timeout=60.0)[0], query)


@pytest.mark.gpu
def test_cuda_encodes_sounds_as_the_cpu_does(speech_folder: Path, rng: np.random.Generator) -> None:
    sounds = [(rng.uniform(-0.3, 0.3, n).astype(np.float32), 16_000) for n in (16_000, 40_000)]
    on_cpu, on_gpu = (
        AudioEncoder.open("speech-embedding", device, num_threads=1) for device in ("cpu", "cuda")
    )
    on_gpu.warm_up()
    sessions = on_gpu._graph.model, on_gpu._graph.front_end
    assert [session.device for session in sessions if session is not None] == ["cuda:0"] * 2
    assert (on_gpu.ready, on_gpu.digest) == (True, on_cpu.digest)
    expected = on_cpu.encode(sounds)
    np.testing.assert_allclose(on_gpu.encode(sounds), expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(on_gpu.encode_query(sounds[0]), expected[0], rtol=0, atol=1e-3)
    with pytest.raises(DeadlineError):
        on_gpu.encode(sounds * 2000, timeout=0.05)
