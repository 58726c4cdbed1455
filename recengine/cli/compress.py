"""``recengine compress``: a smaller model, measured before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recengine.encoders import Compression


def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file, in float.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .onnx file to write.")],
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            help="What users send: texts, one a line, or a .csv or .tsv with --column; for a model "
            "without a tokenizer a .npy of rows, or an .npz with one array for each input.",
        ),
    ],
    method: Annotated[
        str, typer.Option(help="row-int8, dynamic-int8, static-int8, float16 or pruned.")
    ] = "row-int8",
    max_loss: Annotated[
        float,
        typer.Option(min=0, max=1, help="The share of nearest neighbours that may be lost."),
    ] = 0.1,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of a .csv or .tsv.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json; that beside MODEL when omitted.")
    ] = None,
    sparsity: Annotated[
        float, typer.Option(min=0, max=1, help="The share of each weight that pruned sets to 0.")
    ] = 0.5,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours compared.")] = 10,
) -> None:
    """Write a smaller ONNX model, unless it answers too differently from the original.

    Every other sample calibrates (static-int8 alone needs that), the rest measure.
    """
    from recengine import encoders
    from recengine.cli.files import read_texts
    from recengine.cli.screen import waiting

    given: Any
    if samples.suffix in (".npy", ".npz"):
        if tokenizer is not None or column is not None:
            raise ValueError("--tokenizer and --column must go with texts, got an array")
        given = _arrays(samples)
    else:
        given = read_texts(samples, column)
        tokenizer = tokenizer or _beside(model)
    with waiting(f"making {model.name} {method}"):
        found = encoders.compress(
            model, out, given, method,
            tokenizer=tokenizer, max_loss=max_loss, sparsity=sparsity, k=k,
        )  # fmt: skip
    _show(out, found)


def _arrays(path: Path) -> Any:
    import numpy as np

    loaded = np.load(path, allow_pickle=False)
    return loaded if isinstance(loaded, np.ndarray) else dict(loaded)


def _beside(model: Path) -> Path:
    for folder in (model.absolute().parent, model.absolute().parent.parent):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    raise FileNotFoundError(
        f"texts need a tokenizer.json, there is none beside {model}: say --tokenizer FILE"
    )


def _show(out: Path, found: Compression) -> None:
    from recengine.cli.screen import console, duration, size, table

    screen = console()
    rows = [
        ("file", *(size(each) for each in found.bytes)),
        ("file, gzipped", *(size(each) for each in found.gzip_bytes)),
        ("one sample alone", *(duration(each) for each in found.seconds)),
    ]
    screen.print(table(found.method, ">original", f">{out.name}", rows=rows))
    screen.print(
        f"\nOn {found.n_samples:,} samples that calibrated nothing: recall@{found.k} of the "
        f"original's neighbours {found.recall:.3f}, Spearman over pairs {found.spearman:.4f}, "
        f"cosine {found.cosine:.4f} (least {found.worst_cosine:.4f})",
        markup=False,
    )
    if found.method == "pruned":
        screen.print(
            "onnxruntime stores and multiplies the zeros: only archives get smaller.", style="dim"
        )
    elif found.seconds[1] > found.seconds[0]:
        screen.print("It is not faster than the original on this machine.", style="dim")
