"""Sounds, one after the other, through the graphs of an audio model."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator

from recengine._errors import DeadlineError, SoundError
from recengine.encoders.audio_folder import AudioOptions
from recengine.encoders.pooling import normalized
from recengine.encoders.progress import progress_bar
from recengine.encoders.skipping import Encoded
from recengine.encoders.sound_means import SoundMeans
from recengine.encoders.sounds import Sound, check_kind, described, mono_blocks
from recengine.encoders.windows import Stretch, stretches


def heard(
    sounds: Iterable[Sound],
    means: SoundMeans,
    options: AudioOptions,
    label: str,
    *,
    shown: bool = False,
    strict: bool = True,
) -> Encoded:
    """Return the vectors of sounds, normalised where `options` say so.

    Parameters
    ----------
    sounds : iterable of path, bytes or (samples, rate)
    means : SoundMeans
        New; it runs the graphs.
    options : AudioOptions
    label : str
        What messages call a sound, with ``{}`` for its place.
    shown : bool
        Show a progress bar.
    strict : bool
        Raise for a sound that cannot be encoded; otherwise it is skipped.
    """
    total = operator.length_hint(sounds) or None
    with progress_bar("encoding", total, shown=shown) as advance:
        for index, sound in enumerate(sounds):
            name = described(label.format(index), sound)
            check_kind(name, sound)
            means.begin(name)
            try:
                for stretch in _cut(name, sound, options, means.windows_a_stretch):
                    means.add(stretch)
            except DeadlineError:
                raise
            except (SoundError, OSError) as error:
                if strict:
                    raise
                named = isinstance(error, SoundError)
                means.skip(str(error) if named else f"{name}: {error}")
            advance(1)
        found = means.finish()
    if strict and found.skipped:
        raise SoundError(found.skipped[0].reason)
    return found._replace(vectors=normalized(found.vectors)) if options.normalize else found


def _cut(name: str, sound: Sound, options: AudioOptions, most: int) -> Iterator[Stretch]:
    blocks = mono_blocks(name, sound, options.sample_rate)
    return stretches(blocks, options.window, options.hop, most)
