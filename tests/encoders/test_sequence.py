"""Histories to vectors: recurrent nets and attention alike, against float64 oracles."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import port, save
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sequence_graphs import (
    DIM,
    KINDS,
    MAX_LENGTH,
    N_ITEMS,
    TOLD,
    gru_oracle,
    save_attention,
    save_gru,
    save_sum,
    sum_oracle,
    tell,
    two_axes,
)

from recengine import BundleError, DeadlineError, IdMap, SequenceEncoder, UnknownItemError

HISTORIES = [[3, 1, 4], [], [1, 5, 9, 2, 6, 5, 3, 5, 8], [7], [9, 7, 9, 3, 2, 3], [8, 4], [6] * 5]
FILMS = IdMap([f"film {i}" for i in range(N_ITEMS)])


def made(path: Path, **options: Any) -> SequenceEncoder:
    return SequenceEncoder(path, num_threads=1, **({**TOLD, **options}))


def window(history: list[int]) -> list[int]:
    return [item + 1 for item in history[-MAX_LENGTH:]]


def expected(histories: list[list[int]], oracle: Any) -> np.ndarray:
    rows = [oracle(window(history)) if history else np.zeros(DIM) for history in histories]
    return np.array(rows)


def shapes_run(encoder: SequenceEncoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that fills with the shape of every batch that reaches onnxruntime."""
    calls, seen = encoder._graph.session._calls, []
    run = calls.run

    def watched(arrays: Any, timeout: Any) -> Any:
        seen.append(arrays["items"].shape)
        return run(arrays, timeout)

    monkeypatch.setattr(calls, "run", watched)
    return seen


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("pad_to", ["max_length", "longest"])
@pytest.mark.parametrize("kind", KINDS)
def test_encode_equals_float64_oracle(
    tmp_path: Path, kind: str, pad_to: str, batch_size: int
) -> None:
    save_model, oracle = KINDS[kind]
    encoder = made(save_model(tmp_path / "m.onnx"), pad_to=pad_to)
    vectors = encoder.encode(HISTORIES, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(vectors, expected(HISTORIES, oracle), rtol=1e-5, atol=1e-6)
    for history, vector in zip(HISTORIES, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode_query(history), vector, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_last_place_of_all_is_taken(tmp_path: Path, kind: str) -> None:
    save_model, oracle = KINDS[kind]
    encoder = made(save_model(tmp_path / "m.onnx", all_places=True), pad_to="longest")
    vectors = encoder.encode(HISTORIES)
    np.testing.assert_allclose(vectors, expected(HISTORIES, oracle), rtol=1e-5, atol=1e-6)


FEATURES = [
    ("mask",),
    ("mask", "positions"),
    ("mask", "recency"),
    ("mask", "positions", "recency", "lengths"),
]


@pytest.mark.parametrize("buckets", [None, ((1, 4), (3, 8))])
@pytest.mark.parametrize("features", FEATURES)
def test_features_are_fed_where_wanted(
    tmp_path: Path, features: tuple[str, ...], buckets: Any
) -> None:
    path = save_sum(tmp_path / "m.onnx", features)
    encoder = made(path, pad_to="longest", buckets=buckets)
    wanted = expected(HISTORIES, lambda window: sum_oracle(window, features))
    np.testing.assert_allclose(encoder.encode(HISTORIES), wanted, rtol=1e-5, atol=1e-5)


def test_padding_would_be_noticed(tmp_path: Path) -> None:
    encoder = made(save_sum(tmp_path / "m.onnx", ()))
    assert abs(encoder.encode_query([1] * MAX_LENGTH)).max() < 100
    assert abs(encoder.encode_query([1])).max() > 1e5


@given(
    histories=st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=MAX_LENGTH + 3), max_size=12)
)
def test_order_of_histories_is_kept(gru: SequenceEncoder, histories: list[list[int]]) -> None:
    vectors = gru.encode(histories, batch_size=4)
    assert vectors.shape == (len(histories), DIM)
    if histories:
        np.testing.assert_allclose(vectors, expected(histories, gru_oracle), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> SequenceEncoder:
    return made(save_gru(tmp_path_factory.mktemp("gru") / "m.onnx"), pad_to="longest")


def test_vectors_are_scaled_if_asked(tmp_path: Path) -> None:
    vectors = made(save_gru(tmp_path / "m.onnx"), normalize=True).encode(HISTORIES)
    norms = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(norms, [1.0 if history else 0.0 for history in HISTORIES], rtol=1e-6)


@pytest.mark.parametrize(("padding", "first_item"), [(N_ITEMS, 0), (0, 1), (-1, 0), (3, 4)])
def test_numbers_of_the_graph_are_its_own(tmp_path: Path, padding: int, first_item: int) -> None:
    node = helper.make_node("Cast", ["items"], ["vector"], to=TensorProto.FLOAT)
    inputs = [port("items", TensorProto.INT32, ["n", 4])]
    outputs = [port("vector", TensorProto.FLOAT, ["n", 4])]
    path = save(tmp_path / "m.onnx", [node], inputs, outputs)
    encoder = SequenceEncoder(
        path, n_items=N_ITEMS, padding=padding, first_item=first_item, num_threads=1
    )
    assert encoder.options.max_length == 4, "it is told by the fixed axis"
    np.testing.assert_array_equal(
        encoder.encode_query([0, N_ITEMS - 1]),
        [padding, padding, first_item, first_item + N_ITEMS - 1],
    )


# --- ids and unknown items ------------------------------------------------------------------------


def test_histories_may_be_ids(tmp_path: Path) -> None:
    path = save_gru(tmp_path / "m.onnx")
    by_id = SequenceEncoder(path, FILMS, max_length=MAX_LENGTH, padding=0, num_threads=1)
    titles = [[f"film {item}" for item in history] for history in HISTORIES]
    np.testing.assert_array_equal(by_id.encode(titles), made(path).encode(HISTORIES))
    assert by_id.items is FILMS
    assert by_id.options.n_items == N_ITEMS


def test_histories_may_be_any_sequence(gru: SequenceEncoder) -> None:
    wanted = gru.encode([[1, 2], [3, 4]])
    rows = np.array([[1, 2], [3, 4]], np.uint8)
    for histories in (rows, iter([(1, 2), range(3, 5)]), [iter([1, 2]), rows[1].astype("u8")]):
        np.testing.assert_array_equal(gru.encode(histories), wanted)


@pytest.mark.parametrize("items", [None, FILMS])
def test_unknown_item_raises_or_is_left_out(tmp_path: Path, items: IdMap | None) -> None:
    path, grown = save_gru(tmp_path / "m.onnx"), FILMS.extended(["new film"])
    history: list[Any] = [3, N_ITEMS, 5, 2**63 - 1]
    if items is not None:
        history, items = ["film 3", "new film", "film 5", "never heard of"], grown
    with pytest.raises(UnknownItemError, match=r"history must hold items .*got .* at 1 \(2 of 4"):
        made(path, items=items).encode_query(history)
    with pytest.raises(UnknownItemError, match=r"histories\[1\] must hold items"):
        made(path, items=items).encode([history[:1], history])
    skipping = made(path, items=items, on_unknown="skip")
    wanted = made(path).encode_query([3, 5])
    np.testing.assert_array_equal(skipping.encode_query(history), wanted)
    assert not skipping.encode_query(history[1:2]).any(), "nothing known is the empty history"


def test_what_is_left_out_leaves_no_gap(tmp_path: Path) -> None:
    encoder = made(save_gru(tmp_path / "m.onnx"), on_unknown="skip")
    history = [3, 1, 4, 1, 5, 9, 2]
    gaps = [99, *np.ravel([[item, 99] for item in history])]
    np.testing.assert_array_equal(encoder.encode_query(gaps), encoder.encode_query(history))


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        (3, TypeError, "history must be a sequence of items, got int; encode_query takes one"),
        ("film", TypeError, "history must be a sequence of items, got str"),
        ({1, 2}, TypeError, "history must be in order, got a set"),
        ([1, -2], ValueError, "history must be >= 0, got -2"),
        ([1.0], TypeError, r"history must be 1-D integers, got float64 of shape \(1,\)"),
        ([[1]], TypeError, r"history must be 1-D integers, got int64 of shape \(1, 1\)"),
        ([True], TypeError, "history must be 1-D integers, got bool"),
        (np.ma.array([1, 2], mask=[0, 1]), ValueError, "history must not be masked"),
    ],
)
def test_what_is_no_history_is_refused(
    gru: SequenceEncoder, history: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gru.encode_query(history)
    with pytest.raises(error, match=message.replace("history", r"histories\[1\]", 1)):
        gru.encode([[1], history])


def test_ids_of_another_kind_are_refused(tmp_path: Path) -> None:
    encoder = made(save_gru(tmp_path / "m.onnx"), items=FILMS)
    with pytest.raises(TypeError, match=r"histories\[0\]: ids must be str as in the map, got int"):
        encoder.encode([[1]])
    with pytest.raises(TypeError, match="histories must be a sequence of histories, got int"):
        encoder.encode(3)  # type: ignore[arg-type]


def test_no_histories_give_no_rows(gru: SequenceEncoder) -> None:
    assert gru.encode([]).shape == (0, DIM)
    assert not gru.encode([[], []]).any()


# --- what the graph says --------------------------------------------------------------------------


def test_graph_tells_what_it_needs(tmp_path: Path) -> None:
    names = {"items": "item_seq", "mask": "there"}
    path = save_sum(tmp_path / "m.onnx", ("mask", "recency"), names)
    tell(path, **TOLD, inputs=names, pad_to="longest", output="vector", items=FILMS.digest)
    told = SequenceEncoder(path, FILMS, num_threads=1)
    assert (told.options.first_item, told.options.pad_to) == (1, "longest")
    wanted = sum_oracle([4, 2], ("mask", "recency"))
    np.testing.assert_allclose(told.encode_query(["film 3", "film 1"]), wanted, rtol=1e-5)
    assert SequenceEncoder(path, max_length=3, num_threads=1).options.max_length == 3


def test_other_items_are_refused(tmp_path: Path) -> None:
    path = tell(save_gru(tmp_path / "m.onnx"), **TOLD, items=FILMS.digest)
    with pytest.raises(BundleError, match=r"items must be the ids that m\.onnx was trained on"):
        SequenceEncoder(path, IdMap(FILMS.ids[::-1].copy()))
    with pytest.raises(ValueError, match="items must hold 12 ids or more, got 3"):
        SequenceEncoder(path, IdMap(["a", "b", "c"]))
    with pytest.raises(TypeError, match="items must be an IdMap"):
        SequenceEncoder(path, ["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["max_length", "padding", "n_items"])
def test_what_nobody_says_is_asked_for(tmp_path: Path, name: str) -> None:
    told = {key: value for key, value in TOLD.items() if key != name}
    path = tell(save_gru(tmp_path / "m.onnx"), **told)
    with pytest.raises(ValueError, match=f"{name} must be given .* metadata of m.onnx says no"):
        SequenceEncoder(path)


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ({"padded": 0}, BundleError, "says padded under recengine.sequence; known are max_length"),
        ({"pad_to": "left"}, ValueError, "pad_to must be one of 'max_length', 'longest', got"),
        ({"normalize": 1}, TypeError, "normalize must be a bool, got int"),
        ({"inputs": ["items"]}, TypeError, "inputs must be a Mapping, got list"),
    ],
)
def test_graph_that_says_nonsense_is_refused(
    tmp_path: Path, told: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SequenceEncoder(tell(save_gru(tmp_path / "m.onnx"), **TOLD, **told))


def test_metadata_that_is_no_object_is_refused(tmp_path: Path) -> None:
    import onnx

    path = save_gru(tmp_path / "m.onnx")
    for text, message in (("{", "in no JSON"), ("[1]", "as a JSON object, got")):
        model = onnx.load(path)
        helper.set_model_props(model, {"recengine.sequence": text})
        onnx.save(model, path)
        with pytest.raises(BundleError, match=message):
            SequenceEncoder(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_length": 0}, ValueError, "max_length must be >= 1, got 0"),
        ({"n_items": 2.5}, TypeError, "n_items must be an integer, got float"),
        ({"padding": 3}, ValueError, r"padding must be no item, whose numbers are 0 \.\.\. 11"),
        ({"padding": 3, "first_item": 1}, ValueError, r"padding must be no item.* 1 \.\.\. 12"),
        ({"on_unknown": "drop"}, ValueError, "on_unknown must be one of 'raise', 'skip'"),
        ({"output": "z"}, ValueError, "output must be one of vector, got 'z'"),
        ({"inputs": {"things": "items"}}, ValueError, "inputs must be of items, mask, pos"),
        ({"inputs": {"items": "x"}}, ValueError, r"inputs must name inputs .*items int64"),
        ({"device": "tpu"}, ValueError, "device must be 'cpu'"),
        ({"runtime": {"arenas": 1}}, ValueError, "options must be of arena, shrink"),
        ({"buckets": ((1,), (4,))}, ValueError, r"buckets\[1\] must end at max_length, 6"),
        ({"buckets": ((1,), (4, 6))}, ValueError, r"buckets\[1\] must be \(6,\) with pad_to='ma"),
    ],
)
def test_bad_option_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(save_gru(tmp_path / "m.onnx"), **options)


def test_graph_of_fixed_length_refuses_another(tmp_path: Path) -> None:
    path = save_attention(tmp_path / "m.onnx", length=MAX_LENGTH)
    np.testing.assert_allclose(
        made(path).encode(HISTORIES), expected(HISTORIES, KINDS["attention"][1]), rtol=1e-5
    )
    for wrong in ({"max_length": 5}, {"pad_to": "longest"}):
        with pytest.raises(ValueError, match=r"max_length must be 6 and pad_to 'max_length'"):
            made(path, **wrong)


def test_graph_that_is_no_sequence_model_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["items", "years"], ["vector"])
    ports = [two_axes(name) for name in ("items", "years", "vector")]
    path = save(tmp_path / "m.onnx", [node], ports[:2], ports[2:])
    with pytest.raises(ValueError, match=r"model must take items, mask.*takes items .*; years"):
        made(path)
    floats = [port(name, TensorProto.FLOAT, ["n", "l"]) for name in ("items", "vector")]
    save(path, [helper.make_node("Neg", ["items"], ["vector"])], floats[:1], floats[1:])
    with pytest.raises(ValueError, match=r"input items float32 .* must hold integers to hold ite"):
        made(path)
    ports = [port("items", TensorProto.INT8, ["n", "l"]), port("y", TensorProto.INT8, ["n", "l"])]
    save(path, [helper.make_node("Neg", ["items"], ["y"])], ports[:1], ports[1:])
    with pytest.raises(ValueError, match=r"must have an output \(n, dim\) or"):
        made(path)
    with pytest.raises(ValueError, match=r"input items int8 .* must hold items up to 1000 and 0"):
        made(path, n_items=1000)


# --- running --------------------------------------------------------------------------------------


def test_only_buckets_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_gru(tmp_path / "m.onnx")
    encoder = made(path, pad_to="longest", buckets=((1, 4), (3, 6)))
    seen = shapes_run(encoder, monkeypatch)
    assert not encoder.ready
    encoder.warm_up()
    assert encoder.ready
    assert seen == [(4, 6), (4, 3), (1, 6), (1, 3)]
    warmed = {*seen}
    for batch_size in (1, 3, 64):
        encoder.encode(HISTORIES * 3, batch_size=batch_size)
    for history in HISTORIES:
        encoder.encode_query(history)
    assert {*seen} == warmed, "a shape that warm-up had not run"


@pytest.mark.parametrize(
    ("pad_to", "shapes"),
    [("max_length", [(64, 6), (1, 6)]), ("longest", [(64, 6), (1, 6)])],
)
def test_warm_up_runs_usual_shapes_or_histories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pad_to: str, shapes: list[tuple[int, int]]
) -> None:
    encoder = made(save_gru(tmp_path / "m.onnx"), pad_to=pad_to)
    seen = shapes_run(encoder, monkeypatch)
    encoder.warm_up()
    assert seen == shapes
    seen.clear()
    encoder.warm_up([[1, 2], [], [3]])
    assert seen == ([(1, 6), (1, 6)] if pad_to == "max_length" else [(1, 2), (1, 1)])


def test_query_out_of_time_is_ended(gru: SequenceEncoder) -> None:
    wanted = gru.encode_query([1, 2])
    with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out before the graph ran"):
        gru.encode_query([1, 2], timeout=1e-9)
    np.testing.assert_array_equal(gru.encode_query([1, 2], timeout=60.0), wanted)


def test_threads_at_once_equal_serial(gru: SequenceEncoder) -> None:
    lists = [HISTORIES[i:] + HISTORIES[:i] for i in range(6)]
    serial = [gru.encode(histories, batch_size=3) for histories in lists]
    barrier = threading.Barrier(len(lists))

    def work(histories: list[list[int]]) -> list[np.ndarray]:
        barrier.wait()
        return [gru.encode(histories, batch_size=3) for _ in range(10)]

    with ThreadPoolExecutor(len(lists)) as pool:
        for wanted, found in zip(serial, pool.map(work, lists), strict=True):
            for vectors in found:
                np.testing.assert_array_equal(vectors, wanted)


def test_progress_bar_counts_histories(
    gru: SequenceEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    gru.encode(HISTORIES, batch_size=3, progress=True)
    assert f"{len(HISTORIES)}/{len(HISTORIES)}" in capsys.readouterr().err


# --- travelling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [None, FILMS])
def test_encoder_travels_by_pickle_and_reference(tmp_path: Path, items: IdMap | None) -> None:
    path = save_gru(tmp_path / "m.onnx")
    encoder = made(path, items=items, normalize=True, runtime={"arena": False})
    history: list[Any] = [1, 2] if items is None else ["film 1", "film 2"]
    grown = None if items is None else items.extended(["new film"])
    copies = [
        pickle.loads(pickle.dumps(encoder)),
        SequenceEncoder.from_reference(encoder.reference(), grown, num_threads=1),
    ]
    assert not copies[0]._graph.session.options.arena
    for copy in copies:
        assert copy.digest == encoder.digest
        np.testing.assert_array_equal(copy.encode_query(history), encoder.encode_query(history))


def test_reference_refuses_what_changed(tmp_path: Path) -> None:
    path = save_gru(tmp_path / "m.onnx")
    reference = made(path, items=FILMS).reference()
    for items in (None, IdMap(FILMS.ids[::-1].copy())):
        with pytest.raises(BundleError, match="items must be the IdMap that the encoder was made"):
            SequenceEncoder.from_reference(reference, items)
    with pytest.raises(BundleError, match="kind must be 'sequence', got 'text'"):
        SequenceEncoder.from_reference(reference | {"kind": "text"}, FILMS)
    save_attention(path)
    with pytest.raises(BundleError, match="is not the file it was"):
        SequenceEncoder.from_reference(reference, FILMS)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        SequenceEncoder.from_reference(reference, FILMS)


def test_digest_tells_what_makes_the_vectors(tmp_path: Path) -> None:
    path = save_gru(tmp_path / "m.onnx")
    digests = {
        made(path, **options).digest
        for options in ({}, {"max_length": 5}, {"items": FILMS}, {"normalize": True})
    }
    assert len(digests) == 4
    assert made(path, pad_to="max_length").digest == made(path).digest
