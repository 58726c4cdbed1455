"""``recengine encode``: texts, images or sounds in, ids and vectors out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

KINDS = ("text", "image", "sound")
SHOWN = 10  # skipped rows that are named


def encode(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A .parquet, .csv or .tsv with --column; for a .npy a text file too, one text a "
            "line.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="A .rec file of ids and vectors, of any length, resumed where it was interrupted; "
            "or a .npy file, float32 (n, dim), of texts that fit into memory.",
        ),
    ],
    encoder: Annotated[
        str, typer.Option(help="A model folder, or a name that recengine fetch knows.")
    ] = "minilm-l6-int8",
    kind: Annotated[
        str, typer.Option(help="What the encoder takes: text, or paths of image or sound files.")
    ] = "text",
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of texts or paths.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of ids; row numbers without it.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, or auto: cuda is given wholly or refused.")
    ] = "cpu",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="The most of a batch; the encoder's own without it.")
    ] = None,
    chunk_size: Annotated[
        int, typer.Option(min=1, help="Rows that are finished together, and never done again.")
    ] = 4096,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that cannot be encoded, and say so.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where vectors stay for later runs.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw an interrupted run away.")
    ] = False,
) -> None:
    """Encode a catalogue with an ONNX model: ids and vectors that an index opens as they are."""
    if kind not in KINDS:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if out.suffix not in (".npy", ".rec"):
        raise ValueError(f"OUT must end in .rec or .npy, got {out.name!r}")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(out.absolute().parent)!r}")
    if out.suffix == ".npy":
        given = {"--id-column": id_column, "--skip-bad": skip_bad, "--cache": cache,
                 "--restart": restart, f"--kind {kind}": kind != "text",
                 ".parquet": source.suffix.lower() == ".parquet"}  # fmt: skip
        if wrong := next((name for name, value in given.items() if value), None):
            raise ValueError(f"{wrong} needs an OUT that ends in .rec, got {out.name!r}")
        _texts_to_npy(source, out, encoder, column, device, batch_size)
        return
    options: dict[str, Any] = {
        "column": column,
        "id_column": id_column,
        "batch_size": batch_size,
        "chunk_size": chunk_size,
        "on_error": "skip" if skip_bad else "raise",
        "cache": cache,
        "resume": not restart,
    }
    _catalogue(source, out, encoder, kind, device, options)


def _catalogue(
    source: Path, out: Path, encoder: str, kind: str, device: str, options: dict[str, Any]
) -> None:
    from recengine.cli.screen import console, duration, size, waiting
    from recengine.encoders import AudioEncoder, ImageEncoder, TextEncoder, encode_catalogue

    types: dict[str, Any] = {"text": TextEncoder, "image": ImageEncoder, "sound": AudioEncoder}
    with waiting(f"opening {encoder}"):
        opened = types[kind].open(encoder, device=device)
    start = time.perf_counter()
    shown = console(stderr=True).is_terminal
    found = encode_catalogue(source, opened, out, progress=shown, **options)
    elapsed = time.perf_counter() - start
    n_new, told = found.counts["encoded"], console()
    told.print(
        f"{out}  {size(out.stat().st_size)}, {len(found.ids):,} {kind}s x {opened.dim}, "
        f"{duration(elapsed)} on {opened.device} ({n_new / elapsed:,.0f} {kind}s/s)",
        markup=False,
    )
    told.print(
        f"{n_new:,} encoded, {found.counts['repeated']:,} repeated, "
        f"{found.counts['resumed']:,} of an earlier run, {len(found.skipped):,} skipped",
        markup=False,
    )
    for one in found.skipped[:SHOWN]:
        typer.echo(one.reason, err=True)
    if len(found.skipped) > SHOWN:
        typer.echo(
            f"and {len(found.skipped) - SHOWN:,} more: Catalogue.open(...).skipped", err=True
        )


def _texts_to_npy(
    source: Path, out: Path, encoder: str, column: str | None, device: str, batch_size: int | None
) -> None:
    import numpy as np

    from recengine.cli.files import read_texts
    from recengine.cli.screen import console, duration, size, waiting
    from recengine.encoders import TextEncoder
    from recengine.storage.atomic import replacing

    lines = read_texts(source, column)
    with waiting(f"opening {encoder}"):
        opened = TextEncoder.open(encoder, device=device)
    start = time.perf_counter()
    matrix = opened.encode(lines, batch_size, progress=console(stderr=True).is_terminal)
    elapsed = time.perf_counter() - start
    with replacing(out) as stream:
        np.save(stream, matrix, allow_pickle=False)
    console().print(
        f"{out}  {size(out.stat().st_size)}, {len(lines):,} texts x {opened.dim}, "
        f"{duration(elapsed)} on {opened.device} ({len(lines) / elapsed:,.0f} texts/s)",
        markup=False,
    )
