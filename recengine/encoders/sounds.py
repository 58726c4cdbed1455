"""Sounds as they come (files, their bytes, arrays) to mono float32 at one rate, block by block."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._errors import SoundError
from recengine._types import Float32Array
from recengine._validation import as_count, refuse_masked

Sound: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | tuple[Any, int]

BLOCK = 65_536  # frames held at once, whatever the length of the file
MOST_CHANNELS = 64
MOST = 1024.0  # full scale is 1; beyond this a float sound was never scaled to it
LEAST_RATE, MOST_RATE = 1000, 2**20  # Hz; beyond, a header is damaged
# What each integer dtype must be shifted and divided by, to have full scale 1.
SCALES = {"u1": (128.0, 128.0), "i1": (0.0, 128.0), "i2": (0.0, 2.0**15), "i4": (0.0, 2.0**31)}


def described(name: str, sound: Any) -> str:
    """Return how messages call `sound`: its place in the argument, and its path if it has one."""
    return f"{name} ({os.fspath(sound)})" if isinstance(sound, str | os.PathLike) else name


def check_kind(name: str, sound: Any) -> None:
    """Refuse what is no sound at all, which no `on_error` excuses."""
    pair = isinstance(sound, tuple) and len(sound) == 2
    if not pair and not isinstance(sound, str | os.PathLike | bytes | bytearray | memoryview):
        raise TypeError(
            f"{name} must be a path, the bytes of a file or a pair (samples, rate), "
            f"got {type(sound).__name__}"
        )


def mono_blocks(name: str, sound: Sound, rate: int) -> Iterator[Float32Array]:
    """Yield a sound as blocks of mono samples at `rate`.

    Parameters
    ----------
    name : str
        How messages call it.
    sound : path, bytes or (samples, rate)
        A file or its content in a format of libsndfile (WAV, FLAC, OGG, MP3, AIFF, ...), or
        samples (n,) or (n, channels) with their rate in Hz: floating with full scale 1, or uint8,
        int8, int16 or int32.
    rate : int
        Hz.

    Yields
    ------
    ndarray (n,), float32
        Full scale is 1. Channels are averaged, then resampled by soxr at its quality HQ.

    Raises
    ------
    SoundError
        Where the sound is damaged, empty, silent, not finite or beyond full scale by far.
    OSError
        If the file cannot be opened.
    """
    check_kind(name, sound)
    if isinstance(sound, tuple):
        given, frames = _of_array(name, *sound)
    else:
        given, frames = _of_file(name, sound)
    yield from _resampled(name, _mono(name, frames), given, rate)


def _of_array(name: str, samples: Any, rate: Any) -> tuple[int, Iterator[NDArray[Any]]]:
    rate = as_count(f"the rate of {name}", rate, minimum=LEAST_RATE, maximum=MOST_RATE)
    refuse_masked(name, samples)
    array = np.asarray(samples)
    if array.dtype.kind != "f" and array.dtype.str[1:] not in SCALES:
        raise TypeError(
            f"the samples of {name} must be floating, uint8, int8, int16 or int32, "
            f"got {array.dtype}"
        )
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 0 < array.shape[1] <= MOST_CHANNELS):
        raise ValueError(
            f"the samples of {name} must be (n,) or (n, channels) of 1 to {MOST_CHANNELS} "
            f"channels, got shape {array.shape}"
        )
    frames = array if array.ndim == 2 else array[:, None]
    return rate, (_scaled(frames[i : i + BLOCK]) for i in range(0, len(frames), BLOCK))


def _scaled(frames: NDArray[Any]) -> NDArray[Any]:
    if frames.dtype.kind == "f":
        return frames
    shift, scale = SCALES[frames.dtype.str[1:]]
    return (frames.astype(np.float64) - shift) / scale


def _of_file(name: str, sound: Any) -> tuple[int, Iterator[NDArray[Any]]]:
    soundfile = _soundfile()
    if isinstance(sound, str | os.PathLike):
        with Path(sound).open("rb"):  # the system's own error where it cannot be opened
            source: Any = os.fspath(sound)
    else:
        source = io.BytesIO(sound)
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a headerless file
        said = getattr(error, "error_string", str(error))  # without the address of the bytes
        raise SoundError(f"{name} cannot be read as a sound: {said}") from error
    if not LEAST_RATE <= file.samplerate <= MOST_RATE or file.channels > MOST_CHANNELS:
        file.close()
        raise SoundError(
            f"{name} must have {LEAST_RATE} to {MOST_RATE} Hz and at most {MOST_CHANNELS} "
            f"channels, got {file.samplerate} Hz and {file.channels}"
        )
    return file.samplerate, _file_frames(name, file, soundfile.SoundFileError)


def _file_frames(name: str, file: Any, refusal: type[Exception]) -> Iterator[NDArray[Any]]:
    with file:
        found = 0
        while True:
            try:
                frames = file.read(BLOCK, dtype="float32", always_2d=True)
            except refusal as error:
                raise SoundError(f"{name} is damaged after {found} frames: {error}") from error
            if len(frames) == 0:
                break
            found += len(frames)
            yield frames
        if found < file.frames < 2**62:  # more is said where the file does not know its length
            raise SoundError(f"{name} is damaged: it ends after {found} of {file.frames} frames")


def _mono(name: str, blocks: Iterator[NDArray[Any]]) -> Iterator[Float32Array]:
    """Average the channels and see that there is something to hear."""
    n_frames, low, high = 0, np.inf, -np.inf
    for frames in blocks:
        bad = ~(np.abs(frames) <= MOST).all(axis=1)
        if bad.any():
            place = int(np.argmax(bad))
            raise SoundError(
                f"{name} must be finite and within {MOST:g} times full scale, which is 1 for "
                f"floating samples; got {frames[place].tolist()} at frame {n_frames + place}"
            )
        mono: Float32Array = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
        n_frames += len(mono)
        low, high = min(low, float(mono.min())), max(high, float(mono.max()))
        yield mono
    if n_frames == 0:
        raise SoundError(f"{name} is empty: it has no samples")
    if low == high:
        raise SoundError(f"{name} is silent: all its {n_frames} frames are {low:g}")


def _resampled(
    name: str, blocks: Iterator[Float32Array], given: int, rate: int
) -> Iterator[Float32Array]:
    if given == rate:
        yield from blocks
        return
    try:
        stream = _soxr().ResampleStream(given, rate, 1, dtype="float32", quality="HQ")
    except (ValueError, RuntimeError) as error:
        raise SoundError(f"{name} of {given} Hz cannot be resampled: {error}") from error
    n_samples = 0
    for block in blocks:
        samples = stream.resample_chunk(block)
        n_samples += len(samples)
        yield samples
    samples = stream.resample_chunk(np.empty(0, np.float32), last=True)
    if n_samples + len(samples) == 0:
        raise SoundError(f"{name} is too short: nothing is left of it at {rate} Hz")
    yield samples


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: libsndfile is not where it should be
        raise ImportError(
            "AudioEncoder needs soundfile to read files: pip install 'recengine[audio]'"
        ) from None
    return soundfile


def _soxr() -> Any:
    try:
        import soxr
    except ImportError:
        raise ImportError(
            "AudioEncoder needs soxr to change a sampling rate: pip install 'recengine[audio]'"
        ) from None
    return soxr
