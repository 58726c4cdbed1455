"""Search a catalogue by free text, add to it, and ask what is alike.

    python examples/text_search.py "vampires" "a courtroom drama"

Titles and genres become vectors by an ONNX encoder (MiniLM, fetched on first use); a query is
encoded by the same model, and the nearest items are found exactly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import recengine as rec
from recengine.data import load_ml_100k

QUERIES = ("space battles far away", "wizards and magic for children")
NEW_ID, NEW_TITLE = 2000, "Toy Story 2"


def main(queries: list[str]) -> None:
    """Build an engine from texts alone, ask it, extend it, save it and ask again."""
    events, films, _ = load_ml_100k()
    encoder = rec.TextEncoder.open("minilm-l6-int8")
    texts = [f"{t}. {g}" for t, g in zip(films["title"], films["genres"], strict=True)]
    content = encoder.encode(texts, progress=sys.stderr.isatty())
    engine = rec.Engine.build(events, content=content, encoder=encoder, items=films)

    for query in queries:
        print(f"“{query}”")
        show(engine, engine.search(query, k=5))

    print(f"\n“{NEW_TITLE}” is new; it is like")
    engine.add_items([NEW_ID], texts=[NEW_TITLE], items={"item_id": [NEW_ID], "title": [NEW_TITLE]})
    show(engine, engine.similar_items(NEW_ID, k=3))

    # The bundle keeps the encoder by reference: its paths and digests, never its weights.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "films.rec"
        engine.save(path)
        again = rec.Engine.load(path)
        print(f"\nFrom the saved file ({path.stat().st_size / 1e6:.1f} MB), “toys”")
        show(again, again.search("toys", k=3))


def show(engine: rec.Engine, result: rec.TopK) -> None:
    """Print a list."""
    found = engine.item_attributes(result.ids)["title"]
    for title, score in zip(found, result.scores, strict=True):
        print(f"{score:9.3f} {title}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(QUERIES))
