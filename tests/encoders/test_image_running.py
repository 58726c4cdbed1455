"""References, deadlines, warm-up and options of the runtime of an image encoder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import port, save
from onnx import TensorProto, helper

from recengine import BundleError, DeadlineError, ImageEncoder

SIZE = 6


def save_means(path: Path, kind: int = TensorProto.FLOAT, rows: int | str = "n") -> Path:
    """Colours, averaged: image [rows, 3, 6, 6] -> vector [rows, 3]."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["vector"], axes=[2, 3], keepdims=0),
    ]
    ports = [
        port("image", kind, [rows, 3, SIZE, SIZE]),
        port("vector", TensorProto.FLOAT, [rows, 3]),
    ]
    return save(path, nodes, ports[:1], ports[1:])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_means(tmp_path / "model.onnx")


OPTIONS: dict[str, Any] = {"size": (7, 8), "resample": "box", "mean": (0.1, 0.2, 0.3)}


@pytest.fixture
def encoder(path: Path) -> ImageEncoder:
    return ImageEncoder(path, num_threads=1, normalize=False, **OPTIONS)


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (5, 9, 11, 3), dtype=np.uint8)


# --- references -----------------------------------------------------------------------------------


def test_reference_finds_the_encoder_again(encoder: ImageEncoder, images: np.ndarray) -> None:
    reference = json.loads(json.dumps(encoder.reference()))
    assert (reference["kind"], reference["source"]) == ("image", "")
    again = ImageEncoder.from_reference(reference, num_threads=1)
    assert (again.digest, again.options) == (encoder.digest, encoder.options)
    assert json.loads(json.dumps(again.reference())) == reference
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))


def test_reference_of_a_graph_of_bytes(tmp_path: Path, images: np.ndarray) -> None:
    encoder = ImageEncoder(save_means(tmp_path / "b.onnx", TensorProto.UINT8), num_threads=1)
    reference = encoder.reference()
    again = ImageEncoder.from_reference(reference, num_threads=1)
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))
    reference["options"] |= {"scale": 2.0}
    with pytest.raises(ValueError, match="scale must be omitted"):
        ImageEncoder.from_reference(reference)


def test_digest_does_not_depend_on_the_path(encoder: ImageEncoder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    copy = save_means(tmp_path / "other" / "copy.onnx")
    assert ImageEncoder(copy, num_threads=1, normalize=False, **OPTIONS).digest == encoder.digest
    others = {"size": 9}, {"mean": (0.1, 0.2, 0.4)}, {"normalize": True}, {"output": "vector"}
    made = [ImageEncoder(copy, **({"normalize": False} | OPTIONS | each)) for each in others]
    assert len({encoder.digest, *(each.digest for each in made)}) == 5


def test_reference_refuses_another_file(encoder: ImageEncoder, path: Path) -> None:
    save_means(path, rows=4)
    with pytest.raises(BundleError, match=r"model\.onnx is not the file it was"):
        ImageEncoder.from_reference(encoder.reference())
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        ImageEncoder.from_reference(encoder.reference())


@pytest.mark.parametrize(
    "change", [{"kind": "text"}, {"model": None}, {"options": {"crop": 1}}, {"x": 1}]
)
def test_damaged_reference_is_refused(encoder: ImageEncoder, change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"kind must be 'image'|no image encoder's"):
        ImageEncoder.from_reference({**encoder.reference(), **change})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("resize", "all", "size must be an integer or"),
        ("crop", [9, 9], r"crop must be \(6, 6\), what the graph takes"),
        ("std", [1, 0, 1], "std must be > 0"),
        ("output", "nothing", r"output must be a tensor that model\.onnx makes: vector"),
    ],
)
def test_options_of_a_reference_are_checked(
    encoder: ImageEncoder, name: str, value: Any, message: str
) -> None:
    reference = encoder.reference()
    reference["options"] |= {name: value}
    with pytest.raises(ValueError, match=message):
        ImageEncoder.from_reference(reference)


def test_reference_by_name_is_found_where_its_path_is_gone(lite0_folder: Path) -> None:
    encoder = ImageEncoder.open("efficientnet-lite0", num_threads=1)
    reference = encoder.reference()
    assert reference["source"] == "efficientnet-lite0"
    again = ImageEncoder.from_reference(reference | {"model": "/nowhere/model.onnx"}, num_threads=1)
    assert again.digest == encoder.digest
    assert again.reference()["model"] == reference["model"]


# --- the machine ----------------------------------------------------------------------------------


def test_options_of_the_runtime_travel_by_pickle_but_not_by_reference(path: Path) -> None:
    encoder = ImageEncoder(path, num_threads=1, runtime={"arena": False})
    copy = pickle.loads(pickle.dumps(encoder))
    assert (copy._session.options.arena, copy._session.num_threads) == (False, 1)
    assert ImageEncoder.from_reference(encoder.reference())._session.options.arena
    with pytest.raises(ValueError, match="options must be of arena, shrink"):
        ImageEncoder(path, runtime={"arenas": True})


@pytest.mark.parametrize("rows", ["n", 4])
def test_encoder_is_ready_after_warm_up(
    tmp_path: Path, images: np.ndarray, rows: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ImageEncoder(save_means(tmp_path / "m.onnx", rows=rows), num_threads=1)
    calls, seen = encoder._session._calls, []
    run = calls.run
    monkeypatch.setattr(
        calls, "run", lambda arrays, t: seen.append(arrays["image"].shape[0]) or run(arrays, t)
    )
    assert not encoder.ready
    encoder.warm_up()
    assert encoder.ready
    assert seen == ([32, 1] if rows == "n" else [4])
    seen.clear()
    encoder.warm_up(images[:2])
    assert seen == ([1, 1] if rows == "n" else [4, 4])
    with pytest.raises(ValueError, match="requests must not be empty"):
        encoder.warm_up([])


def test_request_in_time_is_the_same(encoder: ImageEncoder, images: np.ndarray) -> None:
    expected = encoder.encode(images, batch_size=2)
    np.testing.assert_array_equal(encoder.encode(images, 2, timeout=60.0), expected)
    query = encoder.encode_query(images[0], timeout=60.0)
    np.testing.assert_array_equal(query, encoder.encode_query(images[0]))


def test_request_out_of_time_is_ended(encoder: ImageEncoder, images: np.ndarray) -> None:
    for run in (
        encoder.encode_query,
        lambda image, timeout: encoder.encode([image], timeout=timeout),
    ):
        with pytest.raises(DeadlineError, match="timeout of 1e-09 s ran out before the graph ran"):
            run(images[0], timeout=1e-9)
        with pytest.raises(ValueError, match="timeout must be > 0, got 0"):
            run(images[0], timeout=0)
    assert encoder.encode(images).shape == (5, 3)


def test_long_run_is_ended_by_a_deadline(lite0_folder: Path, rng: np.random.Generator) -> None:
    encoder = ImageEncoder.open("efficientnet-lite0", num_threads=1)
    images = rng.integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    with pytest.raises(DeadlineError, match=r"timeout of 0\.2 s ran out"):
        encoder.encode(images, timeout=0.2)
    assert encoder.encode_query(images[0]).shape == (1280,)


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_cuda_encodes_images_as_the_cpu_does(
    lite0_folder: Path, rng: np.random.Generator, cuda_graph: bool
) -> None:
    images = rng.integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    on_cpu = ImageEncoder.open("efficientnet-lite0", num_threads=1)
    on_gpu = ImageEncoder.open("efficientnet-lite0", "cuda", runtime={"cuda_graph": cuda_graph})
    on_gpu.warm_up()
    assert (on_gpu.device, on_gpu.ready, on_gpu.digest) == ("cuda:0", True, on_cpu.digest)
    expected = on_cpu.encode(images)
    np.testing.assert_allclose(on_gpu.encode(images), expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(on_gpu.encode_query(images[0]), expected[0], rtol=0, atol=1e-3)
    with pytest.raises(DeadlineError):
        on_gpu.encode(np.broadcast_to(images[:1], (4000, 224, 224, 3)), timeout=0.05)
