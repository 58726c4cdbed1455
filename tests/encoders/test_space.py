"""Text finds images where both live in one space, and is refused where nothing says so.

No pair of models that were trained together comes in a package: the graphs here are built, words
being colours and an image being its mean colour, so that what is near is known.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import WORDS, int64_port, port, save, save_tokenizer
from onnx import TensorProto, helper
from PIL import Image

from recengine import (
    BundleError,
    FlatIndex,
    ImageEncoder,
    OnnxEncoder,
    SharedSpace,
    TextEncoder,
    encode_catalogue,
)

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (255, 255, 0)}


def tagged(path: Path, tag: str | None) -> Path:
    model = onnx.load(path)
    if tag is not None:
        helper.set_model_props(model, {"recengine.space": tag})
    onnx.save(model, path)
    return path


def text_encoder(folder: Path, tag: str | None = "colours") -> TextEncoder:
    table = np.zeros((len(WORDS), 3), np.float32)
    for word, colour in COLOURS.items():
        table[WORDS.index(word)] = colour
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])]
    output = port("hidden", TensorProto.FLOAT, ["n", "t", 3])
    path = save(folder / "text.onnx", nodes, [int64_port("input_ids")], [output], {"table": table})
    save_tokenizer(folder / "tokenizer.json")
    return TextEncoder(tagged(path, tag), folder / "tokenizer.json", num_threads=1)


def image_encoder(folder: Path, tag: str | None = "colours", dim: int = 3) -> ImageEncoder:
    nodes = [helper.make_node("ReduceMean", ["x"], ["v"], axes=[1, 2], keepdims=0)]
    if dim != 3:
        nodes[0].output[0] = "w"
        nodes.append(helper.make_node("Concat", ["w", "w"], ["v"], axis=1))
    shapes = ["n", 4, 4, 3], ["n", dim]
    ports = [port(n, TensorProto.FLOAT, s) for n, s in zip("xv", shapes, strict=True)]
    path = save(folder / f"image{dim}.onnx", nodes, ports[:1], ports[1:])
    return ImageEncoder(tagged(path, tag), num_threads=1)


@pytest.fixture
def space(tmp_path: Path) -> SharedSpace:
    return SharedSpace({"text": text_encoder(tmp_path), "image": image_encoder(tmp_path)})


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[str, Path]]:
    found = []
    for word, colour in COLOURS.items():
        path = tmp_path / f"{word}.png"
        Image.new("RGB", (9, 7), colour).save(path)
        found.append((word, path))
    return found


def test_text_finds_images_and_images_texts(
    space: SharedSpace, photos: list[tuple[str, Path]], tmp_path: Path
) -> None:
    images = encode_catalogue(photos, space.encoders["image"], tmp_path / "photos.rec")
    index = FlatIndex(images.vectors, images.ids)
    for word in COLOURS:
        ids, scores = index.search(space.query("text", word, images), k=1)
        assert ids[0] == word
        assert scores[0] == pytest.approx(1.0)
    words = encode_catalogue([(w, w) for w in COLOURS], space.encoders["text"], tmp_path / "w.rec")
    index = FlatIndex(words.vectors, words.ids)
    for word, path in photos:
        assert index.search(space.query("image", path, words), k=1).ids[0] == word
    texts, paths = list(COLOURS), [path for _, path in photos]
    assert space.alignment(("text", texts), ("image", paths)) == 1.0
    assert space.alignment(("text", texts), ("image", paths[1:] + paths[:1])) < 0.5


def test_catalogues_of_other_encoders_are_refused(
    space: SharedSpace, tmp_path: Path, photos: list[tuple[str, Path]]
) -> None:
    other = image_encoder(tmp_path / ".", dim=6)
    catalogue = encode_catalogue(photos, other, tmp_path / "other.rec")
    with pytest.raises(BundleError, match="made by an encoder of this space"):
        space.query("text", "a", catalogue)
    with pytest.raises(ValueError, match="modality must be one of text, image, got 'sound'"):
        space.query("sound", b"", catalogue)
    assert space.query("text", "a", space.digests["image"]).shape == (3,)


def test_a_space_must_be_told(tmp_path: Path) -> None:
    def made(text: str | None, image: str | None, **options: Any) -> SharedSpace:
        encoders = {"text": text_encoder(tmp_path, text), "image": image_encoder(tmp_path, image)}
        return SharedSpace(encoders, **options)

    with pytest.raises(BundleError, match=r"nothing says that the encoders share a space: .* tag"):
        made(None, None)
    with pytest.raises(BundleError, match=r'must share one space, .*"text": "a", "image": "b"'):
        made("a", "b")
    with pytest.raises(BundleError, match=r'must share one space, .*"image": null'):
        made("a", None)
    digests = made("a", "a").digests
    with pytest.raises(BundleError, match="text must be the encoder of digest"):
        made(None, None, digests=digests)  # the graphs are others without their tag
    with pytest.raises(ValueError, match="digests must name text, image"):
        made("a", "a", digests={"text": digests["text"]})
    untagged = {"text": text_encoder(tmp_path, None), "image": image_encoder(tmp_path, None)}
    told = {name: encoder.digest for name, encoder in untagged.items()}
    space = SharedSpace(untagged, told)
    again = pickle.loads(pickle.dumps(space))
    assert again.digests == space.digests == told
    with pytest.raises(BundleError, match="must share one space"):
        made("a", "b", digests=made("a", "a").digests | {"image": image_encoder(
            tmp_path, "b").digest})  # fmt: skip


def test_what_is_no_space_is_refused(tmp_path: Path) -> None:
    text, image = text_encoder(tmp_path), image_encoder(tmp_path, dim=6)
    with pytest.raises(ValueError, match="encoders must be at least two, got 1"):
        SharedSpace({"text": text})
    with pytest.raises(ValueError, match="encoders must have one dim, got text 3, image 6"):
        SharedSpace({"text": text, "image": image})
    with pytest.raises(TypeError, match="must be a TextEncoder, ImageEncoder or AudioEncoder"):
        SharedSpace({"text": text, "x": OnnxEncoder(tmp_path / "image6.onnx")})  # type: ignore[dict-item]


def test_pairs_are_checked(space: SharedSpace) -> None:
    with pytest.raises(ValueError, match="must be pairs, at least two, got 1 and 1"):
        space.alignment(("text", ["a"]), ("image", [b""]))
    with pytest.raises(ValueError, match="modality must be one of text, image, got 'sound'"):
        space.alignment(("sound", [b"", b""]), ("text", ["a", "b"]))
