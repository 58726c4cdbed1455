"""The real audio model: Google's speech embedding and its mel front end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from recengine import AudioEncoder
from recengine.encoders import hearing
from recengine.encoders.audio_folder import SPEECH
from recengine.encoders.windows import Stretch

RATE = 16_000
PLUCKS = Path(sysconfig.get_path("stdlib")) / "test" / "audiodata"


@pytest.fixture(scope="module")
def speech(speech_folder: Path) -> AudioEncoder:
    return AudioEncoder.open(speech_folder, num_threads=1)


@pytest.fixture
def sounds(rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Noise of several lengths and colours, some of it beside silence."""
    made = []
    for n_samples in (400, 5000, 12_512, 12_513, 40_000, 130_000):
        sound = 0.2 * rng.standard_normal(n_samples) * np.abs(np.sin(np.arange(n_samples) / 900))
        sound[: n_samples // 5] = 0.0
        made.append((np.cumsum(sound) / 20 if n_samples % 2 else sound, RATE))
    return made


def mel_filters() -> np.ndarray:
    """Return (257, 32): Slaney's triangles of equal area from 60 to 3,800 Hz, for 512 samples.

    M. Slaney, Auditory Toolbox, version 2, Interval Research Technical Report 1998-010: linear
    below 1,000 Hz (200 / 3 Hz a mel), logarithmic above (a factor of 6.4 in 27 mel).
    """
    to_mel = lambda f: f * 3 / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)  # noqa: E731
    mels = np.linspace(to_mel(60.0), to_mel(3800.0), 34)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.arange(257) * RATE / 512
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


def features(samples: np.ndarray) -> np.ndarray:
    """Return what the embedding is fed, in float64: log10 of mel energy of 16-bit samples, + 2.

    Frames of 512 samples, hop 160, a periodic Hann window of 400 in their middle; decibels cut at
    80 below the loudest; openWakeWord's x / 10 + 2.
    """
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = np.arange(0, len(samples) - 511, 160)
    frames = np.stack([samples[s : s + 512] for s in starts]) * 32_768.0
    energy = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 @ mel_filters()
    decibels = 10 * np.log10(np.maximum(energy, 1e-10))
    return np.maximum(decibels, decibels.max() - 80) / 10 + 2


def test_front_end_is_the_documented_formula(speech: AudioEncoder, sounds: Any) -> None:
    samples = sounds[4][0][: SPEECH.window + 7 * SPEECH.hop].astype(np.float32)
    windows = speech._graph.windows(Stretch(samples, np.ones(8)))
    assert windows.shape == (8, 76, 32)
    expected = features(samples.astype(np.float64))
    assert expected.shape == (132, 32)
    for i in range(8):
        np.testing.assert_allclose(windows[i], expected[8 * i : 8 * i + 76], rtol=0, atol=2e-3)
    # a scale or an offset of the features, or 16-bit samples taken for [-1, 1], would be seen
    assert np.ptp(expected) > 2


def test_ten_times_softer_is_two_less(speech: AudioEncoder, sounds: Any) -> None:
    samples = sounds[5][0][30_000 : 30_000 + SPEECH.window].astype(np.float32)
    loud, soft = (
        speech._graph.windows(Stretch(s, np.ones(1))) for s in (samples, samples / np.float32(10))
    )
    np.testing.assert_allclose(loud - soft, 2.0, rtol=0, atol=2e-3)


def test_vector_is_the_mean_of_the_model_over_windows(speech: AudioEncoder, sounds: Any) -> None:
    samples = sounds[4][0]
    n_windows = 1 + -(-(len(samples) - 12_512) // 1280)
    padded = np.zeros(12_512 + 1280 * (n_windows - 1))
    padded[: len(samples)] = samples
    mel = features(padded)
    windows = np.stack([mel[8 * i : 8 * i + 76] for i in range(n_windows)])
    (found,) = speech._graph.model.run({"input_1": windows[..., None].astype(np.float32)})
    shares = np.minimum(1, (len(samples) - 1280 * np.arange(n_windows)) / 12_512)
    mean = (found.reshape(n_windows, 96) * shares[:, None]).sum(axis=0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(speech.encode_query(sounds[4]), expected, rtol=0, atol=1e-3)


def test_batch_mates_change_no_more_than_1e_5(speech: AudioEncoder, sounds: Any) -> None:
    alone = np.stack([speech.encode_query(sound) for sound in sounds])
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, rtol=1e-6)
    for batch_size in (1, 5, 64, 1000):
        together = speech.encode([*sounds, *sounds[::-1]], batch_size)
        expected = np.concatenate([alone, alone[::-1]])
        np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)


def test_front_end_run_in_company_would_leak(speech: AudioEncoder) -> None:
    """Its floor is 80 dB below the loudest place of a run: why each run is of one sound."""
    quiet, loud = np.full((2, 12_512), 1e-3, np.float32) * np.sin(np.arange(12_512, dtype="f"))
    front_end = speech._graph.front_end
    assert front_end is not None
    (alone,) = front_end.run({"input": quiet[None]})
    (company,) = front_end.run({"input": np.stack([quiet, loud * np.float32(1e7)])})
    assert abs(company[0] - alone[0]).max() > 10


def test_same_sound_is_nearer_than_any_other(
    speech: AudioEncoder, rng: np.random.Generator
) -> None:
    """Chirps that rise or fall at several speeds: softer, later by a hop, or 3 % higher."""
    time = np.arange(2 * RATE) / RATE
    courses = [(300, 3000), (3000, 300), (300, 600), (600, 300), (1500, 3500), (3500, 1500)]

    def chirp(a: float, b: float, factor: float = 1.0) -> np.ndarray:
        phase = (a * time + (b - a) * time**2 / 4) * factor
        return 0.3 * sum(np.sin(2 * np.pi * phase * h) / h for h in (1, 2, 3))

    made = speech.encode([(chirp(*course), RATE) for course in courses])
    for change in (
        lambda a, b: 0.1 * chirp(a, b),
        lambda a, b: np.roll(chirp(a, b), 1280),
        lambda a, b: chirp(a, b, 1.03),
    ):
        queries = speech.encode([(change(*course), RATE) for course in courses])
        assert (queries @ made.T).argmax(axis=1).tolist() == list(range(len(courses)))


@pytest.mark.skipif(not PLUCKS.is_dir(), reason="this Python has no test files of its own")
def test_one_sound_in_every_format_is_one_vector(speech: AudioEncoder, sounds: Any) -> None:
    """The plucked string of CPython's tests: 11,025 Hz, stereo; 8 to 32 bits, law-coded or not."""
    paths = sorted(path for path in PLUCKS.iterdir() if path.stem.startswith("pluck"))
    plucks = speech.encode(paths)
    assert len(plucks) > 3
    alike = (plucks @ plucks.T).min()
    assert alike > 0.999
    assert (plucks @ speech.encode(sounds).T).max() < alike - 0.01


@pytest.mark.slow
def test_hour_long_file_takes_bounded_memory(
    speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = AudioEncoder.open(speech_folder, num_threads=1)
    path, rng = tmp_path / "hour.wav", np.random.default_rng(0)
    minute = (3000 * rng.standard_normal((8000 * 60, 2))).astype(np.int16)
    with soundfile.SoundFile(path, "w", 8000, 2, "PCM_16") as file:
        for _ in range(60):
            file.write(minute)
    short = speech.encode_query((minute, 8000))
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    seen: list[int] = []
    stretches = hearing.stretches

    def heard(*args: Any) -> Any:
        for stretch in stretches(*args):
            seen.append(process.memory_info().rss)
            yield stretch

    monkeypatch.setattr(hearing, "stretches", heard)
    found = speech.encode_query(path)
    assert len(seen) > 600
    assert max(seen) - before < 50 * 2**20
    assert found @ short > 0.99


# --- the folder, pickle and fork ------------------------------------------------------------------


@pytest.mark.network
def test_fetched_name_is_the_published_model() -> None:
    encoder = AudioEncoder.open("speech-embedding", num_threads=1)
    assert encoder.reference()["source"] == "speech-embedding"
    assert (encoder.dim, encoder.options) == (96, SPEECH)


def test_pickle_is_a_reference(speech: AudioEncoder, sounds: Any) -> None:
    content = pickle.dumps(speech)
    assert len(content) < 1200
    again = pickle.loads(content)
    assert (again.digest, again.options) == (speech.digest, speech.options)
    np.testing.assert_array_equal(again.encode(sounds), speech.encode(sounds))


FORK = """
import os, sys, warnings
import numpy as np
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads: that is the test
from recengine import AudioEncoder
encoder = AudioEncoder.open(sys.argv[1], num_threads=3)
sounds = [(np.sin(np.arange(n) ** 1.3), 16_000) for n in (900, 30_000)]
expected = encoder.encode(sounds)
pids = []
for _ in range(2):
    pids.append(os.fork())
    if pids[-1] == 0:
        assert (encoder.encode(sounds) == expected).all()
        sys.exit(0)
assert (encoder.encode(sounds) == expected).all()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def test_forked_children_encode_the_same(speech_folder: Path) -> None:
    command = [sys.executable, "-c", FORK, str(speech_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0]", "")
