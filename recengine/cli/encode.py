"""``recengine encode``: texts in, one matrix of vectors out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def encode(
    texts: Annotated[
        Path,
        typer.Argument(
            metavar="TEXTS", help="A text file, one text a line; or a .csv or .tsv with --column."
        ),
    ],
    vectors: Annotated[
        Path, typer.Argument(metavar="VECTORS", help="The .npy file to write: float32 (n, dim).")
    ],
    encoder: Annotated[
        str, typer.Option(help="A model folder, or a name that recengine fetch knows.")
    ] = "minilm-l6-int8",
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of a .csv or .tsv.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, or auto: cuda is given wholly or refused.")
    ] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="The most texts of a batch.")] = 64,
) -> None:
    """Encode texts into vectors with an ONNX model: row i of the matrix is text i."""
    import numpy as np

    from recengine.cli.files import read_texts
    from recengine.cli.screen import console, duration, size, waiting
    from recengine.encoders import TextEncoder
    from recengine.storage.atomic import replacing

    if vectors.suffix != ".npy":
        raise ValueError(f"VECTORS must end in .npy, got {vectors.name!r}")
    if not vectors.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(vectors.absolute().parent)!r}")
    lines = read_texts(texts, column)
    with waiting(f"opening {encoder}"):
        opened = TextEncoder.open(encoder, device=device)
    start = time.perf_counter()
    matrix = opened.encode(lines, batch_size, progress=console(stderr=True).is_terminal)
    elapsed = time.perf_counter() - start
    with replacing(vectors) as stream:
        np.save(stream, matrix, allow_pickle=False)
    console().print(
        f"{vectors}  {size(vectors.stat().st_size)}, {len(lines):,} texts x {opened.dim}, "
        f"{duration(elapsed)} on {opened.device} ({len(lines) / elapsed:,.0f} texts/s)",
        markup=False,
    )
