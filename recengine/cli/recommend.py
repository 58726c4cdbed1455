"""``recengine recommend``: a list for a user, or for a history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recengine.cli.arguments import ItemsPerList

if TYPE_CHECKING:
    from recengine import Engine, TopK

MAX_COLUMNS = 3  # attributes beside id and score in 100 columns


def recommend(
    engine: Annotated[
        Path, typer.Argument(metavar="ENGINE", help="An engine file that recengine fit wrote.")
    ],
    user: Annotated[
        str | None,
        typer.Argument(metavar="USER", help="The user's id; popular items if it is unknown."),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Instead of USER: item ids with commas between, of somebody new."),
    ] = None,
    k: ItemsPerList = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Show also what the user has had.")
    ] = False,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="An unknown user is an error.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object, instead of a table.")
    ] = False,
) -> None:
    """Recommend items to a user of an engine, or to somebody new who is known by a history."""
    from recengine.engine import Engine

    if (user is None) == (history is None):
        raise typer.BadParameter("give either USER or --history")
    loaded = Engine.load(engine)
    if history is not None:
        if known_only:
            raise typer.BadParameter("--known-only is about USER, not about --history")
        chosen = [_as_id("--history", entry, loaded.item_ids) for entry in _entries(history)]
        result = loaded.recommend_for(chosen, k, exclude_seen=not include_seen)
        heading = f"For somebody who had {', '.join(map(str, chosen))}"
    else:
        user_id = _as_id("USER", str(user), loaded.user_ids)
        on_unknown = "raise" if known_only else "popular"
        result = loaded.recommend(user_id, k, exclude_seen=not include_seen, on_unknown=on_unknown)
        n_had = len(loaded.history(user_id)[0])
        heading = f"For user {user_id}, who had {n_had:,} items"
        if not n_had:
            heading = f"User {user_id} is unknown: what is popular"
    if as_json:
        _print_json(result, user if history is None else None, loaded)
    else:
        _print_table(result, heading, loaded)


def _entries(history: str) -> list[str]:
    return [entry.strip() for entry in history.split(",") if entry.strip()]


def _as_id(name: str, text: str, ids: Any) -> int | str:
    """Return an id of the kind that the engine holds."""
    if ids.dtype == object:
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a number as all ids are here, got {text!r}") from None


def _found(result: TopK, engine: Engine) -> tuple[list[Any], list[float], dict[str, list[Any]]]:
    """Return ids, scores and attribute columns without the padding."""
    import numpy as np

    kept = np.isfinite(result.scores)
    ids = result.ids[kept]
    attributes = {name: values.tolist() for name, values in engine.item_attributes(ids).items()}
    return ids.tolist(), result.scores[kept].tolist(), attributes


def _print_json(result: TopK, user: str | None, engine: Engine) -> None:
    import json

    ids, scores, attributes = _found(result, engine)
    items = [
        {"item_id": item, "score": score, **{name: _plain(c[i]) for name, c in attributes.items()}}
        for i, (item, score) in enumerate(zip(ids, scores, strict=True))
    ]
    document = {"user_id": _as_id("USER", user, engine.user_ids)} if user is not None else {}
    typer.echo(json.dumps({**document, "items": items}, ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: missing numbers are null."""
    return None if _is_missing(value) else value


def _print_table(result: TopK, heading: str, engine: Engine) -> None:
    from recengine.cli.screen import console, table

    ids, scores, attributes = _found(result, engine)
    if not ids:
        console().print("Nothing is left to recommend.")
        return
    shown = _most_telling(attributes)
    rows: Sequence[Sequence[str]] = [
        (str(i + 1), str(item), f"{score:.4f}", *(_cell(attributes[name][i]) for name in shown))
        for i, (item, score) in enumerate(zip(ids, scores, strict=True))
    ]
    console().print(table("", "item", ">score", *shown, title=heading, rows=rows))


def _most_telling(attributes: dict[str, list[Any]]) -> list[str]:
    """Return the columns to show: those called title or name first, then as they come."""
    return sorted(attributes, key=lambda name: "title" not in name and "name" not in name)[
        :MAX_COLUMNS
    ]


def _cell(value: Any) -> str:
    if _is_missing(value):
        return "—"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
