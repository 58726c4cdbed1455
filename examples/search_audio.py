"""Find the sound that is most like another: noisier, softer, later or higher.

    python examples/search_audio.py [FILE ...]

Each sound becomes a vector by the speech embedding (fetched on first use); the nearest ones are
found exactly. The catalogue is made here, by the recipes below, so that the right answers are
known: nine "words" of two or three vowels, each a train of glottal pulses through three formants,
five sounds without a voice, and where this Python has it the plucked string of its own test files.
FILEs (WAV, FLAC, OGG, MP3, ...) join the catalogue, and their nearest neighbours are shown.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

import recengine as rec

RATE = 16_000
Sound = NDArray[np.float64]
# Formants in Hz. G. E. Peterson and H. L. Barney, Control Methods Used in a Study of the Vowels,
# JASA 24(2), 1952, table II (men).
FORMANTS = {
    "i": (270, 2290, 3010), "e": (530, 1840, 2480), "a": (730, 1090, 2440),
    "o": (570, 840, 2410), "u": (300, 870, 2240),
}  # fmt: skip
WORDS = ("ai", "ia", "ou", "uo", "ei", "ue", "aiu", "iau", "oea")
PLUCK = Path(sysconfig.get_path("stdlib")) / "test/audiodata/pluck-pcm16.wav"


def word(vowels: str, pitch: float = 110.0, seconds: float = 0.35) -> Sound:
    """Return vowels spoken one after the other, the pitch falling by a fifth over all of them."""
    spoken = []
    n_samples = int(seconds * RATE)
    fall = np.linspace(1.0, 0.8, n_samples * len(vowels))
    cycles = np.cumsum(pitch * fall) / RATE
    pulses = np.diff(np.floor(cycles), prepend=0.0)
    for place, vowel in enumerate(vowels):
        sound = pulses[place * n_samples : (place + 1) * n_samples]
        for formant in FORMANTS[vowel]:
            radius = np.exp(-np.pi * 80.0 / RATE)  # a bandwidth of 80 Hz
            poles = [1.0, -2.0 * radius * np.cos(2 * np.pi * formant / RATE), radius**2]
            sound = signal.lfilter([sum(poles)], poles, sound)
        spoken.append(sound * signal.windows.tukey(n_samples, 0.2))
    return loud(np.concatenate(spoken))


def loud(sound: Sound) -> Sound:
    """Scale to half of full scale."""
    return 0.5 * sound / np.abs(sound).max()


def catalogue(rng: np.random.Generator) -> dict[str, Sound]:
    """Return the sounds by name, at 16 kHz."""
    time = np.arange(int(0.9 * RATE)) / RATE
    noise = rng.standard_normal(len(time))
    low = signal.butter(4, 500, fs=RATE, output="sos")
    return {f"word {vowels}": word(vowels) for vowels in WORDS} | {
        "tone": loud(np.sin(2 * np.pi * 440 * time)),
        "chord": loud(sum(np.sin(2 * np.pi * f * time) for f in (262, 330, 392))),
        "siren": loud(signal.chirp(time, 300, time[-1], 2500)),
        "rumble": loud(signal.sosfilt(low, noise)),
        "clock": loud(noise * (time % 0.15 < 0.01)),
    }


def altered(name: str, sound: Sound, rng: np.random.Generator) -> dict[str, Sound]:
    """Return the same sound as somebody else may hear it."""
    noise = rng.standard_normal(len(sound)) * np.sqrt(np.mean(sound**2))
    quiet = np.zeros(int(0.3 * RATE))
    higher = word(name[5:], pitch=130.0) if name in {f"word {w}" for w in WORDS} else None
    return {
        "with noise at -30 dB": sound + noise * 10 ** (-30 / 20),
        "20 dB softer": 0.1 * sound,
        "0.3 s later": np.concatenate([quiet, sound]),
        "3 % higher and faster": signal.resample_poly(sound, 97, 100),
    } | ({} if higher is None else {"spoken by a higher voice": higher})


def main(files: list[str]) -> None:
    """Make the catalogue, alter each of its sounds, and see which one is found."""
    rng = np.random.default_rng(0)
    encoder = rec.AudioEncoder.open("speech-embedding")
    made = catalogue(rng)
    sounds: dict[str, object] = {name: (sound, RATE) for name, sound in made.items()}
    sounds |= {Path(path).name: path for path in [*([PLUCK] if PLUCK.is_file() else []), *files]}
    found = encoder.encode(sounds.values(), progress=sys.stderr.isatty(), on_error="skip")
    for skipped in found.skipped:
        print(skipped.reason, file=sys.stderr)
    names = [list(sounds)[i] for i in found.kept]
    index = rec.FlatIndex(found.vectors, ids=names, metric="cosine")

    right: dict[str, list[bool]] = {}
    for name, sound in made.items():
        changed = altered(name, sound, rng)
        nearest, _ = index.search(encoder.encode([(s, RATE) for s in changed.values()]), k=1)
        for change, best in zip(changed, nearest[:, 0], strict=True):
            right.setdefault(change, []).append(best == name)
            if best != name:
                print(f"{name}, {change}: taken for {best}")
    for change, hits in right.items():
        print(f"{sum(hits):3} of {len(hits)} sounds are found again {change}")

    for name in ("word ai", *(n for n in names if n not in made)):
        ids, scores = index.search(index[name], k=4)
        near = (f"{other} {s:.3f}" for other, s in zip(ids, scores, strict=True) if other != name)
        print(f"like {name}: {', '.join(near)}")


if __name__ == "__main__":
    main(sys.argv[1:])
