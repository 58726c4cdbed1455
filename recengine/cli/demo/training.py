"""Screen 2: from events and texts to engines, each stage timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recengine.cli.demo.movies import Movies
from recengine.cli.demo.stage import Stage

if TYPE_CHECKING:
    from recengine import ALS, TextEncoder
    from recengine._types import Float32Array
    from recengine.data import Interactions
    from recengine.engine import Engine

# Chosen on the second last event of each user, which no screen tests on (benchmarks/quality.py).
ALS_SETTINGS: dict[str, Any] = {"factors": 64, "regularization": 10.0, "random_state": 0}


@dataclass(frozen=True)
class Split:
    """One way to hold events out, and the engines that saw the rest."""

    train: Interactions
    test: Interactions
    als: Engine
    content: Engine
    popularity: Engine

    @property
    def engines(self) -> dict[str, Engine]:
        """The three engines by name."""
        return {"ALS": self.als, "content": self.content, "popularity": self.popularity}


@dataclass(frozen=True)
class Trained:
    """What the screens that follow speak about."""

    movies: Movies
    encoder: TextEncoder
    vectors: Float32Array
    last: Split
    time: Split


def show(stage: Stage, movies: Movies) -> Trained:
    """Encode, train twice, build."""
    from recengine.encoders import TextEncoder

    n_films, factors = movies.inter.n_items, ALS_SETTINGS["factors"]
    stage.lesson(
        "Two ways to know a film: what it says (its title and genres, read by an ONNX encoder) "
        "and who watched it (factors, trained here by ALS). Events are held out before training."
    )
    with stage.step("open the encoder (all-MiniLM-L6-v2, int8, 384 dimensions)"):
        encoder = TextEncoder.open(NAME, device="auto")
    with stage.step(f"encode {n_films:,} titles with genres on {encoder.device}"):
        vectors = encoder.encode(movies.texts)
    with stage.step("split: last event of each user / last 20 % of time"):
        last, time = movies.inter.split_last(1), movies.inter.split_time(0.2)
    with stage.step(f"train ALS, {factors} factors, on all but each user's last event"):
        als_last = _fit(last[0])
    with stage.step(f"train ALS, {factors} factors, on the first 80 % of time"):
        als_time = _fit(time[0])
    with stage.step("build six engines"):
        return Trained(
            movies,
            encoder,
            vectors,
            _split(last, als_last, vectors, encoder, movies),
            _split(time, als_time, vectors, encoder, movies),
        )


NAME = "minilm-l6-int8"


def _fit(train: Interactions) -> ALS:
    from recengine.factorization import ALS

    return ALS(**ALS_SETTINGS).fit(train)


def _split(
    parts: tuple[Interactions, Interactions],
    als: ALS,
    vectors: Float32Array,
    encoder: TextEncoder,
    movies: Movies,
) -> Split:
    from recengine.engine import Engine

    train, test = parts
    return Split(
        train,
        test,
        Engine.build(train, model=als, content=vectors, encoder=encoder, items=movies.columns),
        Engine.build(train, content=vectors),
        Engine.build(train),
    )
