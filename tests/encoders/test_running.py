"""Deadlines, buckets and warm-up of a text encoder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import save_text_model

from recengine import DeadlineError, TextEncoder
from recengine.encoders.batches import MAX_TOKENS, batches_of_like_length
from recengine.encoders.running import usual_shapes
from recengine.runtime import Buckets

BUCKETS = ((1, 4), (4, 8, 16))
TEXTS = ["a b c", "", "p o n m l k j i h g f", "a", "unheard words", "b a", "c b a"]


def made(folder: Path, **options: Any) -> TextEncoder:
    files = folder / "model.onnx", folder / "tokenizer.json"
    return TextEncoder(*files, num_threads=1, max_length=16, **options)


def shapes_run(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that fills with the shape of every batch that reaches onnxruntime."""
    calls, seen = encoder._graph.session._calls, []
    run = calls.run

    def watched(arrays: Any, timeout: Any) -> Any:
        seen.append(arrays["input_ids"].shape)
        return run(arrays, timeout)

    monkeypatch.setattr(calls, "run", watched)
    return seen


# --- buckets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_buckets_change_no_vector(folder: Path, pooling: str) -> None:
    plain, bucketed = (made(folder, pooling=pooling, buckets=each) for each in (None, BUCKETS))
    np.testing.assert_allclose(bucketed.encode(TEXTS), plain.encode(TEXTS), rtol=1e-5, atol=1e-6)
    for text in TEXTS:
        query = bucketed.encode_query(text)
        np.testing.assert_allclose(query, plain.encode_query(text), rtol=1e-5, atol=1e-6)


def test_only_buckets_are_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = made(folder, buckets=BUCKETS)
    seen = shapes_run(encoder, monkeypatch)
    encoder.warm_up()
    warmed = {*seen}
    assert seen == [(4, 16), (4, 8), (1, 16), (4, 4), (1, 8), (1, 4)]
    for batch_size in (1, 3, 64):
        encoder.encode(TEXTS * 5, batch_size=batch_size)
    for text in TEXTS:
        encoder.encode_query(text)
    assert {*seen} == warmed, "a shape that warm-up had not run"


def test_batches_fill_their_buckets() -> None:
    buckets = Buckets((1, 8, 32), (32, 64, 128, 256))
    lengths = np.random.default_rng(0).integers(1, 257, 3000)
    batches = list(batches_of_like_length(lengths, 64, buckets=buckets))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(3000))
    taken = [buckets.fit(len(batch), int(lengths[batch].max())) for batch in batches]
    assert max(rows * length for rows, length in taken) <= MAX_TOKENS
    assert sum(rows * length for rows, length in taken) < 1.5 * lengths.sum()


def test_graph_of_fixed_shape_is_run_by_its_bucket(folder: Path) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    for port in model.graph.input:
        port.type.tensor_type.shape.dim[0].dim_value = 2
        port.type.tensor_type.shape.dim[1].dim_value = 16
    expected = made(folder).encode(TEXTS)
    onnx.save(model, folder / "model.onnx")
    encoder = made(folder, buckets=((2,), (16,)))
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="cannot take shape"):
        made(folder).encode_query("a")


@pytest.mark.parametrize(
    ("buckets", "error", "message"),
    [
        (((1,), (4, 8)), ValueError, r"buckets\[1\] must end at max_length, 16, or beyond, got 8"),
        (((), (16,)), ValueError, r"buckets\[0\] must be ascending and not empty"),
        (16, TypeError, r"buckets must be a pair \(rows, lengths\), got int"),
    ],
)
def test_unfit_buckets_are_refused(
    folder: Path, buckets: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(folder, buckets=buckets)


def test_buckets_need_a_mask(folder: Path) -> None:
    save_text_model(folder / "model.onnx", mask=False)
    with pytest.raises(ValueError, match="buckets must go with a graph that takes attention_mask"):
        made(folder, buckets=BUCKETS)


def test_buckets_and_options_travel_by_pickle_but_not_by_reference(folder: Path) -> None:
    encoder = made(folder, buckets=BUCKETS, runtime={"arena": False})
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy._buckets == encoder._buckets is not None
    assert not copy._graph.session.options.arena
    assert encoder.digest == made(folder).digest
    assert TextEncoder.from_reference(encoder.reference())._buckets is None


def test_unknown_runtime_option_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="options must be of arena, shrink"):
        made(folder, runtime={"arenas": True})


# --- warm-up --------------------------------------------------------------------------------------


def test_encoder_is_ready_after_warm_up(folder: Path) -> None:
    encoder = made(folder)
    assert not encoder.ready
    encoder.warm_up()
    assert encoder.ready


def test_warm_up_replays_queries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = made(folder, query_prompt="query: ")
    seen = shapes_run(encoder, monkeypatch)
    encoder.warm_up(["a b", "", "a"])
    assert seen == [(1, 5), (1, 3), (1, 4)]
    assert encoder.ready


def test_warm_up_refuses_what_is_no_text(folder: Path) -> None:
    encoder = made(folder)
    with pytest.raises(TypeError, match="text must be a str, got int"):
        encoder.warm_up([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="requests must not be empty"):
        encoder.warm_up([])
    assert not encoder.ready


def test_usual_shapes_hold_every_batch() -> None:
    shapes = usual_shapes(256, None)
    assert shapes[0] == (8, 256)
    assert {length for rows, length in shapes if rows == 1} == {256, 128, 64, 32, 16, 8}
    assert usual_shapes(5, None) == [(64, 5), (1, 5)]


# --- deadlines ------------------------------------------------------------------------------------


def test_query_in_time_is_the_same(encoder: TextEncoder) -> None:
    np.testing.assert_array_equal(
        encoder.encode_query("a b", timeout=60.0), encoder.encode_query("a b")
    )


def test_query_out_of_time_is_ended(encoder: TextEncoder) -> None:
    with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out before the graph ran"):
        encoder.encode_query("a b", timeout=1e-9)
    assert encoder.encode_query("a b").shape == (encoder.dim,)


def test_batches_out_of_time_are_ended(encoder: TextEncoder) -> None:
    np.testing.assert_array_equal(encoder.encode(TEXTS, timeout=60.0), encoder.encode(TEXTS))
    with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out before the graph ran"):
        encoder.encode(TEXTS, timeout=1e-9)
    with pytest.raises(ValueError, match="timeout must be > 0, got 0"):
        encoder.encode(TEXTS, timeout=0)


def test_deadline_is_of_all_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is given what is left, and the message names the whole."""
    encoder = made(folder)
    run, given = encoder._session.run, []

    def noted(feeds: Any, timeout: float) -> Any:
        given.append(timeout)
        if len(given) == 3:
            raise DeadlineError("timeout of 7 s ran out while the graph ran")
        return run(feeds, timeout)

    monkeypatch.setattr(encoder._session, "run", noted)
    with pytest.raises(DeadlineError, match="timeout of 60 s ran out while the graph ran"):
        encoder.encode(TEXTS, batch_size=2, timeout=60.0)
    assert 60 > given[0] > given[1] > given[2] > 0


def test_bad_timeout_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="timeout must be > 0, got 0"):
        encoder.encode_query("a", timeout=0.0)


def test_long_text_is_ended_by_a_deadline(minilm_folder: Path) -> None:
    minilm = TextEncoder.open(minilm_folder, num_threads=1)
    with pytest.raises(DeadlineError, match=r"ran out (while|before) the graph ran"):
        minilm.encode_query("sea " * 300, timeout=0.02)
    assert np.isclose(np.linalg.norm(minilm.encode_query("sea")), 1.0)
