"""The graphs of an audio model: samples to features to vectors, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recengine._types import Float32Array
from recengine.encoders.audio_folder import AudioOptions
from recengine.encoders.running import UNLIMITED, Countdown
from recengine.encoders.windows import Stretch
from recengine.runtime import Port, Session

REAL = ("tensor(float)", "tensor(float16)", "tensor(double)")
STRETCH_SECONDS = 6.0


class AudioGraph:
    """A session, or two in a chain, read as an audio model.

    Parameters
    ----------
    model : Session
        From windows to vectors, (n, dim) or framewise (n, ..., dim), whose frames are averaged.
    front_end : Session or None
        From samples to features (frames, bands); without it the model takes the samples.
    options : AudioOptions

    Attributes
    ----------
    dim : int
        Length of a vector.
    stretch : int
        Windows that go through the front end in one run.
    """

    def __init__(self, model: Session, front_end: Session | None, options: AudioOptions) -> None:
        self.model, self.front_end, self._options = model, front_end, options
        self._input, self._output = _only_input(model), _first_real_output(model)
        span = int(STRETCH_SECONDS * options.sample_rate)
        self.stretch = 1 + max(0, (span - options.window) // options.hop)
        self._frames, self._frames_a_hop = options.window, options.hop
        if front_end is not None:
            self._front_input = _only_input(front_end)
            self._front_output = _first_real_output(front_end)
            one, two = (len(self._features(self._silence(count))) for count in (1, 2))
            self._frames, self._frames_a_hop = one, two - one
            if not 0 < self._frames_a_hop <= one:
                raise ValueError(
                    f"hop must be worth 1 to {one} frames of {front_end.path.name}, got "
                    f"{options.hop} samples, which are {two - one}"
                )
        found = self.vectors(self.windows(Stretch(self._silence(1), np.ones(1))))
        self.dim = int(found.shape[1])

    def windows(self, stretch: Stretch, countdown: Countdown = UNLIMITED) -> NDArray[Any]:
        """Return (n_windows, frames, bands), or (n_windows, window) where there is no front end.

        One stretch is one run of the front end: the floor that speech models cut at, 80 dB below
        the loudest place, is taken over a whole run, so no other sound may be in it.
        """
        n_windows = len(stretch.shares)
        samples = stretch.samples * np.float32(self._options.amplitude)
        frames = samples if self.front_end is None else self._features(samples, countdown)
        expected = self._frames + self._frames_a_hop * (n_windows - 1)
        if self.front_end is not None and len(frames) != expected:
            raise ValueError(
                f"{self.front_end.path.name} must give {expected} frames for {len(samples)} "
                f"samples, as it did for less, got {len(frames)}"
            )
        views = sliding_window_view(frames, self._frames, axis=0)[:: self._frames_a_hop]
        return views if self.front_end is None else views.transpose(0, 2, 1)

    def vectors(self, windows: NDArray[Any], countdown: Countdown = UNLIMITED) -> Float32Array:
        """Return (n, dim) for n windows, whatever their sounds."""
        n_windows = len(windows)
        step = self._fixed_rows() or n_windows
        parts = []
        for start in range(0, n_windows, step):
            pick = np.arange(start, start + step).clip(max=n_windows - 1)
            found = countdown.run(self.model, self._feeds(windows[pick]))[self._output]
            if found.ndim < 2 or len(found) != len(pick):
                port = self.model.outputs[self._output]
                raise ValueError(
                    f"output {port.name} must be (n, dim) or (n, ..., dim), got {found.shape} "
                    f"for {len(pick)} windows"
                )
            framewise = found.reshape(len(found), -1, found.shape[-1])
            parts.append(framewise.mean(axis=1, dtype=np.float32)[: n_windows - start])
        vectors: Float32Array = np.concatenate(parts)
        return vectors

    def warm_up(self, n_windows: int) -> None:
        """Run both graphs on silence: a whole stretch and one window; `n_windows` and one."""
        if self.front_end is not None:
            sounds = (self._silence(count) for count in (self.stretch, 1))
            self.front_end.warm_up(self._front_feeds(samples) for samples in sounds)
        window = self.windows(Stretch(self._silence(1), np.ones(1)))
        counts = [self._fixed_rows()] if self._fixed_rows() else [n_windows, 1]
        self.model.warm_up(self._feeds(window.repeat(count, axis=0)) for count in counts)

    def _fixed_rows(self) -> int:
        rows = self._input.shape[0] if self._input.shape else None
        return rows if isinstance(rows, int) and rows > 0 else 0

    def _feeds(self, windows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {self._input.name: _laid_out(windows, self._input, self.model)}

    def _front_feeds(self, samples: Float32Array) -> dict[str, NDArray[Any]]:
        rank = max(1, len(self._front_input.shape))
        return {self._front_input.name: samples.reshape((1,) * (rank - 1) + samples.shape)}

    def _features(self, samples: Float32Array, countdown: Countdown = UNLIMITED) -> NDArray[Any]:
        assert self.front_end is not None
        found = countdown.run(self.front_end, self._front_feeds(samples))[self._front_output]
        if found.ndim < 2 or found.size != found.shape[-2] * found.shape[-1]:
            raise ValueError(
                f"{self.front_end.path.name} must give (..., frames, bands) for one sound, "
                f"got {found.shape}"
            )
        scale, offset = self._options.feature_scale, self._options.feature_offset
        frames: Float32Array = found.reshape(found.shape[-2:]).astype(np.float32)
        return frames * np.float32(scale) + np.float32(offset)

    def _silence(self, n_windows: int) -> Float32Array:
        return np.zeros(self._options.window + self._options.hop * (n_windows - 1), np.float32)


def _only_input(session: Session) -> Port:
    if len(session.inputs) != 1 or session.inputs[0].kind not in REAL:
        raise ValueError(
            f"{session.path.name} must take one real input, it takes "
            f"{'; '.join(map(str, session.inputs))}"
        )
    return session.inputs[0]


def _first_real_output(session: Session) -> int:
    found = [number for number, port in enumerate(session.outputs) if port.kind in REAL]
    if not found:
        raise ValueError(
            f"{session.path.name} must have a real output, it gives "
            f"{'; '.join(map(str, session.outputs))}"
        )
    return found[0]


def _laid_out(windows: NDArray[Any], port: Port, model: Session) -> NDArray[Any]:
    """Return `windows` with the axes of length 1 that the model wants, in its dtype."""
    missing = len(port.shape) - windows.ndim if port.shape else 0
    places = [place for place, size in enumerate(port.shape) if place and size == 1]
    if missing < 0 or missing > len(places):
        raise ValueError(
            f"{model.path.name} must take windows of shape {('n', *windows.shape[1:])}, with axes "
            f"of length 1 at most beside them; its input is {port}"
        )
    return np.expand_dims(windows, tuple(places[:missing])).astype(port.dtype or np.float32)
