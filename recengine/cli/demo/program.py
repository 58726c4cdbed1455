"""Screen 10: the program behind the screens."""

from __future__ import annotations

from recengine.cli.demo.stage import Stage

PROGRAM = """\
import recengine as rec
from recengine.data import load_ml_100k
events, films, _ = load_ml_100k()                        # or rec.Interactions.read("events.csv")
encoder = rec.TextEncoder.open("minilm-l6-int8")
vectors, model = encoder.encode(films["title"]), rec.ALS(regularization=10).fit(events)
engine = rec.Engine.build(events, model, vectors, encoder, items=films)
ids, scores = engine.recommend(42, k=10)                 # a known user
ids, scores = engine.recommend_for([50, 100, 181])       # a new one; engine.observe(...) learns
engine.add_items([2000], texts=["Toy Story 2"])          # a new film, by its title alone
ids, scores = engine.search("space battles far away")    # free text
"""


def show(stage: Stage) -> None:
    """Print the ten lines."""
    from rich.syntax import Syntax

    stage.lesson("The whole of it in ten lines; `engine.save(path)` keeps it in one file.")
    stage.console.print(Syntax(PROGRAM, "python", background_color="default"))
