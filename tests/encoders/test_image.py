"""Images of every kind through graphs that give back the pixels they were fed."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import port, save
from onnx import TensorProto, helper
from PIL import Image

from recengine import BundleError, ImageEncoder, ImageError

HEIGHT, WIDTH = 4, 6


def save_echo(
    path: Path, kind: int = TensorProto.UINT8, shape: tuple[Any, ...] = ("n", HEIGHT, WIDTH, 3)
) -> Path:
    """A graph whose vector is its input, flattened."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["vector"], axis=1),
    ]
    ports = [port("image", kind, list(shape)), port("vector", TensorProto.FLOAT, [shape[0], "d"])]
    return save(path, nodes, ports[:1], ports[1:])


@pytest.fixture
def echo(tmp_path: Path) -> ImageEncoder:
    return ImageEncoder(
        save_echo(tmp_path / "echo.onnx"), size=(HEIGHT, WIDTH), normalize=False, num_threads=1
    )


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# --- kinds of images ------------------------------------------------------------------------------


def test_every_source_gives_the_same_vector(
    echo: ImageEncoder, pixels: np.ndarray, tmp_path: Path
) -> None:
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    sources = [
        tmp_path / "a.png", str(tmp_path / "a.png"), content, memoryview(content), image, pixels,
        pixels[:, ::-1][:, ::-1], np.dstack([pixels, np.full((HEIGHT, WIDTH), 255, np.uint8)]),
    ]  # fmt: skip
    vectors = echo.encode(sources, batch_size=3)
    np.testing.assert_array_equal(vectors, np.tile(pixels.ravel(), (len(sources), 1)))
    np.testing.assert_array_equal(echo.encode_query(content), pixels.ravel())
    np.testing.assert_array_equal(echo.encode(np.stack([pixels] * 2)), vectors[:2])
    assert vectors.dtype == np.float32
    assert echo.dim == pixels.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(echo: ImageEncoder, pixels: np.ndarray, orientation: int) -> None:
    turned = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.transpose(1, 0, 2), 6: np.rot90(pixels),
        7: np.rot90(pixels, 2).transpose(1, 0, 2), 8: np.rot90(pixels, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = packed(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    np.testing.assert_array_equal(echo.encode_query(content), pixels.ravel())


def test_modes_become_rgb(echo: ImageEncoder, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    expected = np.repeat(grey, 3)
    alpha = Image.fromarray(np.full_like(grey, 255))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    flat = Image.fromarray(grey)
    with_alpha = Image.merge("LA", (flat, alpha))
    ink = Image.merge("CMYK", [Image.new("L", flat.size)] * 3 + [Image.fromarray(255 - grey)])
    for image in (flat, sixteen, with_alpha, with_alpha.convert("RGBA"), flat.convert("P"), ink):
        np.testing.assert_array_equal(echo.encode_query(image), expected, str(image.mode))
    for content in (packed(flat), packed(sixteen), packed(with_alpha)):
        np.testing.assert_array_equal(echo.encode_query(content), expected)
    np.testing.assert_array_equal(echo.encode_query(grey), expected)
    np.testing.assert_array_equal(echo.encode_query(grey[:, :, None]), expected)
    bits = Image.fromarray(grey > 99)
    assert bits.mode == "1"
    np.testing.assert_array_equal(echo.encode_query(bits), np.repeat((grey > 99) * 255, 3))
    cmyk = packed(ink, "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(echo.encode_query(cmyk), expected, atol=12)


def test_transparent_is_white(echo: ImageEncoder, pixels: np.ndarray) -> None:
    clear = np.dstack([pixels, np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert (echo.encode_query(clear) == 255).all()
    palette = Image.new("P", (WIDTH, HEIGHT), 3)
    palette.putpalette([10] * 768)
    assert (echo.encode_query(packed(palette, "GIF")) == 10).all()
    assert (echo.encode_query(packed(palette, "GIF", transparency=3)) == 255).all()
    half = np.dstack([pixels * 0, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    assert (echo.encode_query(half) == 127).all()


# --- framing --------------------------------------------------------------------------------------


def test_framing_is_resize_then_crop(tmp_path: Path, rng: np.random.Generator) -> None:
    """Only the crop is resized; it must be what resizing the whole and cropping gives."""
    noise = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    encoder = ImageEncoder(save_echo(tmp_path / "e.onnx"), size=10, normalize=False, num_threads=1)
    whole = Image.fromarray(noise).resize((16, 10), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((5, 3, 5 + WIDTH, 3 + HEIGHT)), np.float32)
    np.testing.assert_allclose(encoder.encode_query(noise), expected.ravel(), atol=1)


def test_strip_is_cheap(echo: ImageEncoder, tmp_path: Path) -> None:
    square = ImageEncoder(tmp_path / "echo.onnx", size=256, num_threads=1)
    strip = np.full((1, 100_000), 7, np.uint8)  # resized whole it would have 6.5e9 pixels
    np.testing.assert_allclose(square.encode_query(strip), 72**-0.5, rtol=1e-6)
    assert (echo.encode_query(strip) == 7).all()
    assert (echo.encode_query(strip.T) == 7).all()


def test_float_graph_is_scaled(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save_echo(tmp_path / "f.onnx", TensorProto.FLOAT, ("n", 3, "h", "w"))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    options = {"size": (HEIGHT, WIDTH), "normalize": False, "num_threads": 1}
    encoder = ImageEncoder(path, mean=mean, std=std, **options)
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(encoder.encode_query(pixels), expected, rtol=1e-5, atol=1e-6)
    plain = ImageEncoder(path, scale=1.0, **options).encode_query(pixels)
    np.testing.assert_array_equal(plain, pixels.transpose(2, 0, 1).ravel())
    half = save_echo(tmp_path / "h.onnx", TensorProto.FLOAT16, ("n", HEIGHT, WIDTH, 3))
    found = ImageEncoder(half, **options).encode_query(pixels)
    np.testing.assert_allclose(found, pixels.ravel() / 255, atol=1e-3)


def test_fixed_batch_and_normalisation(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = save_echo(tmp_path / "four.onnx", shape=(4, HEIGHT, WIDTH, 3))
    encoder = ImageEncoder(path, size=(HEIGHT, WIDTH), num_threads=1)
    rows = images.reshape(5, -1).astype(np.float64)
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-6)
    np.testing.assert_allclose(encoder.encode_query(images[3]), expected[3], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (("n", 4, 6, 3), {"size": 3}, r"size must be at least \(4, 6\)"),
        (("n", 4, 6, 3), {"size": (4, 6, 3)}, r"size must be an integer or \(height, width\)"),
        (("n", 4, 6, 3), {"crop": 5}, r"crop must be \(4, 6\), what the graph takes"),
        (("n", 4, 6, 3), {"resample": "best"}, "resample must be one of 'nearest'"),
        (("n", 4, 6, 3), {"mean": (0, 0, 0)}, "mean must be omitted: the graph takes uint8"),
        (("n", "h", "w", 3), {}, "size must be given: the graph leaves it open"),
        (("n", 4, 6, 4), {}, "model must have an axis of 3 colours"),
        (("n", 4, 6), {}, "model must take uint8 or float images, 4-D"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    tmp_path: Path, shape: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    path = save_echo(tmp_path / "e.onnx", shape=shape)
    with pytest.raises(ValueError, match=message):
        ImageEncoder(path, num_threads=1, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": (1, 0, 1)}, "std must be > 0"),
        ({"mean": (1, 2)}, "mean must be 3 numbers"),
        ({"scale": 0}, "scale must be > 0"),
        ({"output": "v"}, "output must be a tensor that e.onnx makes: vector"),
    ],
)
def test_scaling_that_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = save_echo(tmp_path / "e.onnx", TensorProto.FLOAT, ("n", 3, 4, 6))
    with pytest.raises(ValueError, match=message):
        ImageEncoder(path, num_threads=1, **options)


# --- images that cannot be read -------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """The head of a BMP of any size."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)


@pytest.mark.parametrize("warns", ["ignore", "error"])  # Pillow itself, from 89 million pixels on
@pytest.mark.parametrize("size", [(9_460, 9_460), (20_000, 20_000)])
def test_huge_image_is_refused_before_it_is_decoded(
    echo: ImageEncoder, size: tuple[int, int], warns: Any
) -> None:
    with (
        warnings.catch_warnings(action=warns, category=Image.DecompressionBombWarning),
        pytest.raises(ImageError, match=r"image .*(at most 89,478,485 pixels|exceeds limit)"),
    ):
        echo.encode_query(bomb(*size))


def test_huge_array_is_refused(echo: ImageEncoder) -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10_000, 10_000, 3), (0, 0, 0))
    with pytest.raises(ImageError, match="it has 10000 x 10000: make it smaller first"):
        echo.encode_query(huge)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_cut_file_is_an_error_or_the_image(
    echo: ImageEncoder, rng: np.random.Generator, kind: str
) -> None:
    image = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    content = packed(image, kind)
    whole, refused = echo.encode_query(content), 0
    for length in range(len(content)):
        try:
            found = echo.encode_query(content[:length])
        except ImageError:
            refused += 1
        else:
            assert length > len(content) - 24  # what follows the pixels may be missing
            np.testing.assert_array_equal(found, whole)
    assert refused > len(content) - 24


def test_what_is_no_image_is_named(echo: ImageEncoder, tmp_path: Path) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for content in (b"", b"nothing", script):
        with pytest.raises(ImageError, match=r"images\[1\] cannot be read as an image: cannot id"):
            echo.encode([np.zeros((2, 2), np.uint8), content])
    with pytest.raises(ImageError, match=r"image \('.*gone\.png'\) cannot be read .*No such file"):
        echo.encode_query(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="mode F has no colours"):
        echo.encode_query(Image.new("F", (3, 3)))
    with pytest.raises(ImageError, match="must have pixels, it has 3 x 0"):
        echo.encode_query(np.zeros((0, 3), np.uint8))
    with pytest.raises(ImageError, match=r"must be \(height, width\) or .*, got \(3, 3, 2\)"):
        echo.encode_query(np.zeros((3, 3, 2), np.uint8))


def test_skipped_images_are_named_and_have_no_row(
    echo: ImageEncoder, pixels: np.ndarray, tmp_path: Path
) -> None:
    images = [pixels, b"nothing", pixels, tmp_path / "gone.png", b"", pixels]
    found = echo.encode(images, batch_size=2, on_error="skip")
    assert found.kept.tolist() == [0, 2, 5]
    np.testing.assert_array_equal(found.vectors, np.tile(pixels.ravel(), (3, 1)))
    assert [skipped.index for skipped in found.skipped] == [1, 3, 4]
    assert [skipped.reason.split()[0] for skipped in found.skipped] == [
        "images[1]", "images[3]", "images[4]",
    ]  # fmt: skip
    assert "gone.png" in found.skipped[1].reason
    vectors, present = found.spread(len(images))
    assert present.tolist() == [True, False, True, False, False, True]
    np.testing.assert_array_equal(vectors[present], found.vectors)
    assert not vectors[~present].any()
    with pytest.raises(ValueError, match="n_entries must be >= 6, got 5"):
        found.spread(5)
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip', got 'ignore'"):
        echo.encode(images, on_error="ignore")  # type: ignore[call-overload]


def test_nothing_to_encode_has_no_rows(echo: ImageEncoder) -> None:
    for images in ([], [b"nothing"]):
        found = echo.encode(images, on_error="skip")
        assert found.vectors.shape == (0, echo.dim)
        assert len(found.kept) == 0
        assert len(found.skipped) == len(images)


def test_image_that_makes_the_graph_give_nan_is_named(tmp_path: Path) -> None:
    """log(pixel): a black pixel is -inf."""
    shape: list[int | str] = ["n", 2, 2, 3]
    nodes = [helper.make_node("Log", ["x"], ["y"]), helper.make_node("Flatten", ["y"], ["v"])]
    ports = [port("x", TensorProto.FLOAT, shape)], [port("v", TensorProto.FLOAT, ["n", 12])]
    encoder = ImageEncoder(save(tmp_path / "log.onnx", nodes, *ports), num_threads=1)
    grey, black = np.full((2, 2, 3), 7, np.uint8), np.zeros((2, 2, 3), np.uint8)
    found = encoder.encode([grey, black, grey], on_error="skip")
    assert found.kept.tolist() == [0, 2]
    assert found.skipped[0].reason == "images[1] makes log.onnx give NaN or infinity"
    with pytest.raises(ImageError, match=r"images\[1\] makes log.onnx give NaN or infinity"):
        encoder.encode([grey, black])
    with pytest.raises(ImageError, match=r"image makes log.onnx give NaN or infinity"):
        encoder.encode_query(black)


def test_wrong_types_are_never_skipped(echo: ImageEncoder, pixels: np.ndarray) -> None:
    for wrong in (3, None, pixels.astype(np.float32)):
        with pytest.raises(TypeError, match=r"images\[0\] must be "):
            echo.encode([wrong], on_error="skip")
    for one in ("a.png", b"a", Path("a"), pixels, Image.fromarray(pixels)):
        with pytest.raises(TypeError, match="images must be a sequence of images, got one "):
            echo.encode(one)


# --- streams, pickles and forks -------------------------------------------------------------------


def test_stream_is_read_no_further_than_a_batch(echo: ImageEncoder, pixels: np.ndarray) -> None:
    alive = most = 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def stream() -> Iterator[Image.Image]:
        nonlocal alive, most
        for _ in range(50):
            image = Image.fromarray(pixels)
            weakref.finalize(image, died)
            alive += 1
            most = max(most, alive)
            yield image
            del image

    assert echo.encode(stream(), batch_size=4, progress=True).shape == (50, pixels.size)
    assert most <= 2 * 4 + 1


def test_no_images_give_no_vectors(echo: ImageEncoder) -> None:
    assert echo.encode([]).shape == (0, HEIGHT * WIDTH * 3)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        echo.encode([], batch_size=0)


def test_pickle_is_a_path(echo: ImageEncoder, pixels: np.ndarray, tmp_path: Path) -> None:
    content = pickle.dumps(echo)
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.encode_query(pixels), pixels.ravel())
    assert (again.digest, again.options, again.dim) == (echo.digest, echo.options, echo.dim)
    assert repr(again) == f"ImageEncoder('{tmp_path}/echo.onnx', device='cpu', dim=72)"
    save_echo(tmp_path / "echo.onnx", shape=("m", HEIGHT, WIDTH, 3))
    with pytest.raises(BundleError, match="is not the file it was"):
        pickle.loads(content)


def test_digest_tells_options_apart(echo: ImageEncoder, tmp_path: Path) -> None:
    digests = {
        ImageEncoder(tmp_path / "echo.onnx", num_threads=1, **options).digest
        for options in ({}, {"size": 7}, {"normalize": False}, {"resample": "box"})
    }
    assert len(digests | {echo.digest}) == 5


FORK = """
import os, sys
import numpy as np
from recengine import ImageEncoder
encoder = ImageEncoder(sys.argv[1], num_threads=3)
images = np.random.default_rng(3).integers(0, 256, (9, 20, 30, 3), dtype=np.uint8)
expected = encoder.encode(images)
pids = []
for _ in range(2):
    pids.append(os.fork())
    if pids[-1] == 0:
        assert (encoder.encode(images) == expected).all()
        sys.exit(0)
assert (encoder.encode(images) == expected).all()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def test_forked_children_encode_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(save_echo(tmp_path / "e.onnx"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0]", "")


# --- folders --------------------------------------------------------------------------------------

CLIP = {
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
    "rescale_factor": 0.01,
}


def folder_with(path: Path, config: Any, *, kind: int = TensorProto.FLOAT) -> Path:
    path.mkdir()
    save_echo(path / "model.onnx", kind, ("n", "c", "h", "w"))
    text = config if isinstance(config, str) else json.dumps(config)
    (path / "preprocessor_config.json").write_text(text)
    return path


@pytest.mark.parametrize(
    ("sizes", "resize", "crop"),
    [
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 4, "width": 6}}, 8, (4, 6)),
        ({"size": 8, "crop_size": 6}, 8, (6, 6)),
        ({"size": 8, "do_center_crop": False}, (8, 8), (8, 8)),
        ({"size": {"height": 7, "width": 9}, "do_center_crop": False}, (7, 9), (7, 9)),
    ],
)
def test_folder_says_size_crop_and_scaling(
    tmp_path: Path, sizes: dict[str, Any], resize: Any, crop: tuple[int, int]
) -> None:
    options = ImageEncoder.open(folder_with(tmp_path / "m", CLIP | sizes), num_threads=1).options
    assert (options.resize, options.crop, options.resample) == (resize, crop, "bilinear")
    assert (options.scale, options.mean) == (0.01, (0.1, 0.2, 0.3))
    assert options.std == (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crop_pct": 0.9}, "asks for crop_pct, which recengine does not have"),
        ({"do_pad": True}, "asks for do_pad"),
        ({"do_resize": False}, "asks for no resizing"),
        ({"size": {"longest_edge": 9}}, "must give sizes by shortest_edge or height and width"),
        ({"size": 8, "resample": 9}, "resample must be one of"),
        ("{", r"preprocessor_config\.json is damaged"),
        ("[]", r"preprocessor_config\.json is damaged"),
    ],
)
def test_what_a_folder_asks_and_we_lack_is_refused(
    tmp_path: Path, config: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageEncoder.open(folder_with(tmp_path / "m", config))


def test_folder_without_configuration_and_without_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold model\.onnx or onnx/model\.onnx"):
        ImageEncoder.open(tmp_path)
    (tmp_path / "onnx").mkdir()
    save_echo(tmp_path / "onnx" / "model.onnx")
    options = ImageEncoder.open(tmp_path, num_threads=1).options
    assert (options.resize, options.crop) == (WIDTH, (HEIGHT, WIDTH))
    with pytest.raises(FileNotFoundError, match=r"must be a folder or one of .*efficientnet-lite0"):
        ImageEncoder.open("efficientnet-lite9")
