"""Arguments that several commands share, under one name and one explanation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EventsFile = Annotated[
    Path,
    typer.Argument(
        metavar="EVENTS",
        help="Events: a .csv, .tsv, .parquet or .inter file with user_id, item_id and, where "
        "present, weight and datetime.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        "-c",
        metavar="ROLE=NAME",
        help="What the file calls a column, e.g. -c user_id=uid -c weight=stars; an empty NAME "
        "leaves weight or datetime out.",
    ),
]
ItemsPerList = Annotated[int, typer.Option("-k", min=1, help="Items in a list.")]
