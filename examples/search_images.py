"""Find pictures by a picture.

    python examples/search_images.py                           # fetched pictures, altered
    python examples/search_images.py my-photos holiday.jpg     # your folder, your query

Pictures become vectors by an ONNX encoder (EfficientNet-Lite0, fetched and converted on first use);
a query is encoded by the same model, and the nearest pictures are found exactly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

import recengine as rec
from recengine.data import fetch

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff"}


def main(folder: Path, queries: list[Path]) -> None:
    """Index the pictures of a folder and search it by other pictures."""
    encoder = rec.ImageEncoder.open("efficientnet-lite0")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = encoder.encode(paths, progress=sys.stderr.isatty(), on_error="skip")
    for skipped in found.skipped:
        print(skipped.reason, file=sys.stderr)
    names = [str(paths[i].relative_to(folder)) for i in found.kept]
    index = rec.FlatIndex(found.vectors, ids=names)
    print(f"{len(index)} pictures in {folder}")

    for query in queries:
        show(index, encoder, query, str(query))
    if not queries:
        for name in names:
            show(index, encoder, altered(folder / name), f"a mirrored, dark part of {name}")


def altered(path: Path) -> Image.Image:
    """Return four fifths of a picture, mirrored and darkened."""
    with Image.open(path) as opened:
        picture = ImageOps.mirror(opened.convert("RGB"))
    width, height = picture.size
    part = picture.crop((0, 0, width * 4 // 5, height * 4 // 5))
    return ImageEnhance.Brightness(part).enhance(0.6)


def show(index: rec.FlatIndex, encoder: rec.ImageEncoder, query: Any, title: str) -> None:
    """Print what is nearest to a picture."""
    ids, scores = index.search(encoder.encode_query(query), k=min(3, len(index)))
    print(f"\n{title}")
    for name, score in zip(ids, scores, strict=True):
        print(f"{score:9.3f} {name}")


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(given[0] if given else fetch("pictures"), given[1:])
