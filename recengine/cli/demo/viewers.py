"""Screen 4: lists for a known and for a new user, beside what they really watched next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recengine.cli.demo.quality import Quality, median_user
from recengine.cli.demo.stage import Stage
from recengine.cli.demo.training import Trained
from recengine.cli.screen import duration

if TYPE_CHECKING:
    from recengine import TopK

K = 10


def show(stage: Stage, trained: Trained, quality: Quality) -> None:
    """Show one warm and one cold user, each the median of its group by NDCG."""
    stage.lesson(
        "The engine was trained on the first 80 % of time. One known and one new user: of those "
        "who watched ten films or more afterwards the median by NDCG@10: chosen by rule, not by "
        "hand."
    )
    _known(stage, trained, median_user(quality.warm["ALS"]))
    _new(stage, trained, quality, median_user(quality.cold["ALS"]))


def _known(stage: Stage, trained: Trained, user: int) -> None:
    split, movies = trained.time, trained.movies
    past, future = split.train.history(user), split.test.history(user)
    result, elapsed = _timed(lambda: split.als.recommend(user, K))
    lately = "; ".join(movies.titles(past[-3:]))
    stage.say((f"User {user}", "bold"), f" has watched {len(past)} films, lately: {lately}")
    _show_lists(stage, trained, result, future)
    stage.note(f"`engine.recommend({user})` took {duration(elapsed)}.\n")


def _new(stage: Stage, trained: Trained, quality: Quality, user: int) -> None:
    movies, first = trained.movies, quality.first_events[user]
    future = quality.truth.history(user)
    result, elapsed = _timed(
        lambda: trained.time.als.recommend_for(first.items, K, weights=first.weights)
    )
    ratings = first.weights.astype(int).tolist()
    known = "; ".join(movies.titles(first.items))
    stage.say((f"New user {user}", "bold"), f", of whom three events are known: {known}")
    _show_lists(stage, trained, result, future)
    stage.note(
        f"`engine.recommend_for({first.items.tolist()}, weights={ratings})` took "
        f"{duration(elapsed)}: the factors of the user are solved from the three events, nothing "
        "is retrained."
    )


def _timed(call: Any) -> tuple[TopK, float]:
    """Return (the answer, the seconds of a second call: the first one warms the caches)."""
    import time

    call()
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _show_lists(stage: Stage, trained: Trained, result: TopK, future: Any) -> None:
    """Print the list beside what came next; films that are on both sides are green."""
    from rich.text import Text

    movies = trained.movies
    watched, listed = set(future.tolist()), set(result.ids.tolist())
    rows = []
    for place, (item, score) in enumerate(zip(*result, strict=True)):
        hit = int(item) in watched
        later = future[place] if place < len(future) else None
        rows.append(
            (
                str(place + 1),
                Text(
                    movies.title(item),
                    "bold green" if hit else "",
                    no_wrap=True,
                    overflow="ellipsis",
                ),
                f"{score:.3f}",
                Text("✓" if hit else "", "bold green"),
                Text(
                    "" if later is None else movies.title(later),
                    "bold green" if later is not None and int(later) in listed else "",
                    no_wrap=True,
                    overflow="ellipsis",
                ),
            )
        )
    hits = len(watched & listed)
    rest = len(future) - K
    stage.table(
        ">",
        "recommended",
        ">score",
        f"{hits} of {K}",
        "really watched next" + (f" (and {rest} more)" if rest > 0 else ""),
        rows=rows,
    )
