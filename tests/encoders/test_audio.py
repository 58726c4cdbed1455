"""Windows, means, rates, channels and refusals of an audio encoder, against a float64 oracle."""

from __future__ import annotations

import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from graphs import save_ear, save_front_end, save_tower
from hypothesis import given
from hypothesis import strategies as st

from recengine import AudioEncoder, SoundError
from recengine.encoders.windows import stretches

RATE, WINDOW, HOP = 1000, 12, 4  # 5 frames of 4 samples each 2; a hop is 2 frames
SCALES = {"amplitude": 3.0, "feature_scale": 0.5, "feature_offset": 1.0}
LENGTHS = (2, 11, 12, 13, 16, 17, 50, 6001, 12_011)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {"kernel": normal(3, 4), "ear": normal(15, 6), "tower": normal(WINDOW, 6)}


@pytest.fixture(scope="module", params=["n", 3], ids=["free", "fixed"])
def encoder(request: Any, weights: Any, tmp_path_factory: pytest.TempPathFactory) -> AudioEncoder:
    folder = tmp_path_factory.mktemp("ear")
    model = save_ear(folder / "model.onnx", weights["ear"], request.param)
    front_end = save_front_end(folder / "front_end.onnx", weights["kernel"])
    options: dict[str, Any] = {"window": WINDOW, "hop": HOP, "sample_rate": RATE, **SCALES}
    return AudioEncoder(model, front_end, num_threads=1, **options)


@pytest.fixture
def sounds(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.uniform(-1, 1, n).astype(np.float32) for n in LENGTHS]


def oracle(samples: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    n_windows = 1 + max(0, -(-(len(samples) - WINDOW) // HOP))
    padded = np.zeros(WINDOW + HOP * (n_windows - 1))
    padded[: len(samples)] = samples * np.float64(3.0)
    total, weight = np.zeros(6), 0.0
    for i in range(n_windows):
        window = padded[i * HOP : i * HOP + WINDOW]
        frames = [np.abs(weights["kernel"] @ window[j : j + 4]) for j in range(0, 9, 2)]
        features = np.concatenate(frames).astype(np.float64) * 0.5 + 1.0
        share = min(1.0, (len(samples) - i * HOP) / WINDOW)
        total += share * (features @ weights["ear"])
        weight += share
    return total / weight / np.linalg.norm(total / weight)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 5000])
def test_encode_equals_float64_oracle(
    encoder: AudioEncoder, sounds: Any, weights: Any, batch_size: int
) -> None:
    vectors = encoder.encode(((s, RATE) for s in sounds), batch_size)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(LENGTHS), encoder.dim))
    expected = [oracle(sound, weights) for sound in sounds]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=2e-6)


def test_oracle_notices_each_rule(weights: Any, sounds: Any) -> None:
    """One sample more, at the end of a window that is mostly padding, moves the oracle."""
    for sound in sounds[:-2]:
        less = oracle(sound[:-1], weights)
        assert np.abs(oracle(sound, weights) - less).max() > 1e-4


def test_batch_mates_change_nothing_but_rounding(encoder: AudioEncoder, sounds: Any) -> None:
    together = encoder.encode([(sound, RATE) for sound in sounds])
    alone = np.stack([encoder.encode_query((sound, RATE)) for sound in sounds])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_model_without_front_end(tmp_path: Path, weights: Any, sounds: Any) -> None:
    path = save_tower(tmp_path / "tower.onnx", weights["tower"])
    encoder = AudioEncoder(path, window=WINDOW, sample_rate=RATE, normalize=False, num_threads=1)
    assert encoder.options.hop == WINDOW
    sound = sounds[5]
    padded = np.zeros(24)
    padded[:17] = sound
    first, second = padded.reshape(2, WINDOW) @ weights["tower"].astype(np.float64)
    expected = (first + second * 5 / 12) / (17 / 12)
    np.testing.assert_allclose(encoder.encode_query((sound, RATE)), expected, rtol=1e-4, atol=1e-5)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=12),
    window=st.integers(1, 9),
    data=st.data(),
    most=st.integers(1, 5),
)
def test_windows_hear_every_sample_once_per_place(
    sizes: list[int], window: int, data: st.DataObject, most: int
) -> None:
    hop = data.draw(st.integers(1, window))
    whole = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    blocks = np.split(whole, np.cumsum(sizes))
    cut = list(stretches(iter(blocks), window, hop, most))
    again = list(stretches(iter([whole]), window, hop, most))
    assert [s.samples.tolist() for s in cut] == [s.samples.tolist() for s in again]
    shares = np.concatenate([np.empty(0), *(s.shares for s in cut)])
    n_windows = 1 + max(0, -(-(len(whole) - window) // hop)) if len(whole) else 0
    assert len(shares) == n_windows
    starts = iter(range(0, n_windows * hop, hop))
    for stretch in cut:
        for i, (share, start) in enumerate(zip(stretch.shares, starts, strict=False)):
            heard = stretch.samples[i * hop : i * hop + window]
            expected = np.zeros(window)
            expected[: len(whole) - start] = whole[start : start + window]
            assert heard.tolist() == expected.tolist()
            assert share == np.count_nonzero(heard) / window > 0


# --- what a sound is ------------------------------------------------------------------------------


def test_integers_have_full_scale_one(encoder: AudioEncoder, rng: np.random.Generator) -> None:
    small = rng.integers(-128, 128, 99)
    expected = encoder.encode_query((small / 128, RATE))
    forms = [
        small.astype(np.int8), (small + 128).astype(np.uint8), (small * 2**8).astype(np.int16),
        (small * 2**24).astype(np.int32), (small / 128).astype(np.float16),
        (small / 128).astype(">f4"), np.repeat(small / 128, 2)[::2],
    ]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(encoder.encode_query((form, RATE)), expected)


def test_channels_are_averaged(encoder: AudioEncoder, sounds: Any) -> None:
    left, right = sounds[7][:-1:2], sounds[7][1::2]
    stereo = np.stack([left, right], axis=1)
    middle = encoder.encode_query(((left.astype(np.float64) + right) / 2, RATE))
    np.testing.assert_allclose(encoder.encode_query((stereo, RATE)), middle, atol=1e-6)
    np.testing.assert_array_equal(
        encoder.encode_query((left[:, None], RATE)), encoder.encode_query((left, RATE))
    )


@pytest.mark.parametrize("rate", [1500, 4000, 44_100])
def test_other_rates_are_resampled(
    encoder: AudioEncoder, rng: np.random.Generator, rate: int
) -> None:
    sound = rng.uniform(-1, 1, 3 * 65_536 + 17).astype(np.float32)  # more than one block
    expected = soxr.resample(sound, rate, RATE, quality="HQ")
    vectors = encoder.encode([(sound, rate), (expected, RATE)])
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
def test_files_bytes_and_arrays_are_one(
    encoder: AudioEncoder, tmp_path: Path, rng: np.random.Generator, form: str
) -> None:
    samples = rng.integers(-(2**15), 2**15, (70_001, 2)).astype(np.int16)
    path = tmp_path / f"sound.{form.lower()}"
    soundfile.write(path, samples, 4000)
    vectors = encoder.encode([path, str(path), path.read_bytes(), (samples, 4000)])
    assert (vectors == vectors[0]).all()


# --- refusals -------------------------------------------------------------------------------------


def wav(samples: np.ndarray, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()


SPOILT = np.where(np.arange(70_000) == 66_666, np.nan, np.linspace(-1, 1, 70_000))
HALF = np.linspace(-1, 1, 70_000)
BAD: list[tuple[Any, str]] = [
    ((np.zeros(500), RATE), "is silent: all its 500 frames are 0"),
    ((np.full(500, 0.25), RATE), "is silent: all its 500 frames are 0.25"),
    ((np.stack([HALF, -HALF], axis=1), RATE), "is silent: all its 70000 frames are 0"),
    ((np.empty(0), RATE), "is empty: it has no samples"),
    (wav(np.empty(0)), "is empty: it has no samples"),
    ((SPOILT, RATE), "must be finite and within 1024 times .* at frame 66666"),
    (wav(SPOILT), "must be finite and within 1024 times .* at frame 66666"),
    ((HALF * 32767, RATE), "must be finite and within 1024 times full scale, which is 1"),
    (b"", "cannot be read as a sound: Format not recognised"),
    (b"no sound at all", "cannot be read as a sound"),
    (wav(HALF)[:30], "cannot be read as a sound"),
    ((np.array([0.5, -0.5]), 2**20), "is too short: nothing is left of it at 1000 Hz"),
]


@pytest.mark.parametrize(("sound", "message"), BAD)
def test_what_cannot_be_heard_is_refused_or_skipped(
    encoder: AudioEncoder, sounds: Any, sound: Any, message: str
) -> None:
    with pytest.raises(SoundError, match=rf"^sound {message}"):
        encoder.encode_query(sound)
    good = (sounds[6], RATE)
    with pytest.raises(SoundError, match=rf"^sounds\[1\] {message}"):
        encoder.encode([good, sound])
    found = encoder.encode([good, sound, good, sound], on_error="skip")
    assert found.kept.tolist() == [0, 2]
    assert [skipped.index for skipped in found.skipped] == [1, 3]
    assert found.skipped[1].reason.startswith("sounds[3] ")
    np.testing.assert_allclose(found.vectors, encoder.encode([good, good]), rtol=0, atol=1e-6)


def test_damaged_and_missing_files_are_named(encoder: AudioEncoder, tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.sin(np.arange(200_000) ** 1.1), RATE)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SoundError, match=r"sounds\[0\] \(.*cut\.flac\) is damaged after"):
        encoder.encode([path])
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        encoder.encode([tmp_path / "none.wav"])
    found = encoder.encode([tmp_path / "none.wav", path, tmp_path], on_error="skip")
    assert len(found.vectors) == 0
    assert [s.reason.partition(")")[0] for s in found.skipped] == [
        f"sounds[0] ({tmp_path / 'none.wav'}", f"sounds[1] ({path}", f"sounds[2] ({tmp_path}",
    ]  # fmt: skip


def test_a_graph_that_gives_nan_is_named(tmp_path: Path, weights: Any, sounds: Any) -> None:
    path = save_tower(tmp_path / "tower.onnx", weights["tower"] * np.float32(1e38))
    encoder = AudioEncoder(path, window=WINDOW, sample_rate=RATE, num_threads=1)
    good, bad = (sounds[5] * 1e-4, RATE), (sounds[6] * 100, RATE)
    with pytest.raises(SoundError, match=r"sounds\[1\] makes tower.onnx give NaN or infinity"):
        encoder.encode([good, bad])
    found = encoder.encode([good, bad], on_error="skip")
    assert found.kept.tolist() == [0]


@pytest.mark.parametrize(
    ("sounds", "error", "message"),
    [
        ("a.wav", TypeError, "must be a sequence of sounds, got one str"),
        ([np.ones(3)], TypeError, r"sounds\[0\] must be a path, the bytes of a file or a pair"),
        ([(np.array(["a"]), RATE)], TypeError, r"the samples of sounds\[0\] must be floating"),
        ([(np.arange(9), RATE)], TypeError, "must be floating, uint8, .*, got int64"),
        ([(np.ones((2, 500)), RATE)], ValueError, "channels, got shape"),
        ([(HALF, 0)], ValueError, r"the rate of sounds\[0\] must be >= 1000, got 0"),
        ([(HALF, 44.1)], TypeError, "must be an integer"),
        ([(np.ma.array([1.0, 2], mask=[0, 1]), RATE)], ValueError, "must not be masked"),
    ],
)
def test_what_is_no_sound_is_refused_in_any_case(
    encoder: AudioEncoder, sounds: Any, error: type[Exception], message: str
) -> None:
    for on_error in ("raise", "skip"):
        with pytest.raises(error, match=message):
            encoder.encode(sounds, on_error=on_error)  # type: ignore[call-overload]


def test_arguments_are_checked(encoder: AudioEncoder) -> None:
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip'"):
        encoder.encode([], on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        encoder.encode([], batch_size=0)
    assert encoder.encode([]).shape == (0, 6)


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_missing_library_names_the_extra(
    encoder: AudioEncoder, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    content = wav(HALF)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'recengine\[audio\]'"):
        encoder.encode_query(content if missing == "soundfile" else (HALF, 2 * RATE))
    encoder.encode_query((HALF, RATE))  # needs neither


def test_threads_get_the_same_bits(encoder: AudioEncoder, sounds: Any) -> None:
    batch = [(sound, RATE) for sound in sounds]
    expected, barrier = encoder.encode(batch), threading.Barrier(4)

    def work(_: int) -> bool:
        barrier.wait(30)
        return bool((encoder.encode(batch) == expected).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
