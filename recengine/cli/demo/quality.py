"""Screen 3: how good the recommendations are, on events nobody trained on; losses too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from recengine.cli.demo.stage import Stage
from recengine.cli.demo.training import Split, Trained
from recengine.cli.figures import figures_table, verdict

if TYPE_CHECKING:
    from recengine import TopK
    from recengine._types import Float32Array, IdArray
    from recengine.data import Interactions
    from recengine.engine import Engine
    from recengine.evaluation import Evaluation

METRICS = ("ndcg", "recall", "mrr")
N_FIRST = 3
Evaluations = dict[str, "Evaluation"]


class Events(NamedTuple):
    """Films, oldest first, and the ratings that they got."""

    items: IdArray
    weights: Float32Array


@dataclass(frozen=True)
class Quality:
    """What was measured on `split_time`.

    Attributes
    ----------
    warm, cold : dict of str to Evaluation
    first_events : dict of user id to Events
        What each cold user watched first; the rest is the truth.
    truth : Interactions
        The test events of the cold users after those three.
    """

    warm: Evaluations
    cold: Evaluations
    first_events: dict[int, Events]
    truth: Interactions

    def later_events(self, user: int) -> Events:
        """Return what a cold user watched after the first events."""
        row = self.truth.users.index(user)
        indptr, order = self.truth.by_user()
        events = order[indptr[row] : indptr[row + 1]]
        return Events(
            self.truth.items.ids[self.truth.item_indices[events]], self.truth.weights[events]
        )


def show(stage: Stage, trained: Trained) -> Quality:
    """Evaluate on both splits."""
    stage.lesson(
        "All films are ranked, what a user has seen is left out, nothing is sampled. Intervals are "
        "95 % bootstrap over users. ALS has 64 factors and settings "
        "that were chosen on other events; the best figure is bold, and who lost is said."
    )
    with stage.step("recommend to everybody and evaluate, split_last(1)"):
        last = _warm_evaluations(trained.last)
    with stage.step("the same on split_time(0.2), warm and cold users apart"):
        quality = _time_evaluations(trained.time)
    stage.console.print()
    n_warm, n_cold = quality.warm["ALS"].n_users, quality.cold["ALS"].n_users
    _show(stage, last, f"split_last(1): the last event of each of {last['ALS'].n_users} users")
    _show(stage, quality.warm, f"split_time(0.2), warm: {n_warm} users with events before the cut")
    _show(
        stage,
        quality.cold,
        f"split_time(0.2), cold: {n_cold} users unknown at the cut, folded in from their first "
        f"{N_FIRST} events",
    )
    return quality


def _show(stage: Stage, evaluations: Evaluations, title: str) -> None:
    stage.console.print(figures_table(evaluations, METRICS, title=title))
    stage.console.print(verdict(evaluations, "popularity", "ndcg"))
    stage.console.print()


def _warm_evaluations(split: Split, k: int = 10) -> Evaluations:
    """Evaluate for the test users who have events in train."""
    import numpy as np

    from recengine.evaluation import evaluate

    tested, has_past = np.unique(split.test.user_indices), np.unique(split.train.user_indices)
    users = split.test.users.ids[np.intersect1d(tested, has_past)]
    return {
        name: evaluate(
            engine.recommend(users, k),
            split.test,
            users=users,
            train=split.train,
            k=k,
            metrics=METRICS,
        )
        for name, engine in split.engines.items()
    }


def _time_evaluations(split: Split) -> Quality:
    first_events, truth = _first_events(split)
    users = list(first_events)
    cold = {
        name: _folded_in(engine, first_events, truth, users)
        for name, engine in split.engines.items()
    }
    return Quality(_warm_evaluations(split), cold, first_events, truth)


def _first_events(split: Split) -> tuple[dict[int, Events], Interactions]:
    """Return (the first events of every cold user with more than those, all their later ones)."""
    import numpy as np

    test = split.test
    indptr, order = test.by_user()
    cold = np.setdiff1d(np.unique(test.user_indices), np.unique(split.train.user_indices))
    first_events, later = {}, []
    for row in cold:
        events = order[indptr[row] : indptr[row + 1]]
        if len(events) > N_FIRST:
            first = events[:N_FIRST]
            items = test.items.ids[test.item_indices[first]]
            first_events[int(test.users.ids[row])] = Events(items, test.weights[first])
            later.append(events[N_FIRST:])
    return first_events, test.select(np.concatenate(later))


def _folded_in(
    engine: Engine, first_events: dict[int, Events], truth: Interactions, users: list[int]
) -> Evaluation:
    from recengine.evaluation import evaluate

    lists = _stacked(
        [
            engine.recommend_for(first_events[user].items, 10, weights=first_events[user].weights)
            for user in users
        ]
    )
    return evaluate(lists, truth, users=users, metrics=METRICS)


def _stacked(lists: list[TopK]) -> TopK:
    import numpy as np

    from recengine import TopK

    return TopK(np.stack([one.ids for one in lists]), np.stack([one.scores for one in lists]))


def median_user(evaluation: Evaluation) -> int:
    """Return the user in the middle when all are ordered by NDCG: neither luck nor misfortune.

    Only users with at least k relevant items count, so that there is something to look at.
    """
    import numpy as np

    busy = evaluation.select(evaluation.n_relevant >= evaluation.k)
    order = np.lexsort((busy.users, busy.per_user["ndcg"]))
    return int(busy.users[order[len(order) // 2]])
