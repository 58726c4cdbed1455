"""The quality benchmark: its splits, its search with one budget, and what is told of the peers."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

import recengine as rec

pytestmark = pytest.mark.usefixtures("on_path")


@pytest.fixture(scope="module")
def events():
    """Return 60 users of two tastes, 40 items, two thirds of the users new in the last fifth."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 12)
    items = np.concatenate(
        [rng.choice(np.arange(20) + 20 * (user % 2), 12, replace=False) for user in range(60)]
    )
    times = np.arange(len(users)) + 1000 * rng.integers(0, 2, 60)[users]
    return rec.Interactions.from_arrays(users, items, rng.integers(1, 6, len(users)), times)


def test_configurations_stay_within_their_space_and_begin_alike():
    from quality_search import SPACES, configurations

    for space, ranges in SPACES.items():
        drawn = configurations(space, 30)
        assert drawn[:7] == configurations(space, 7)
        for name, (kind, *rest) in ranges.items():
            values = [one[name] for one in drawn]
            assert len(set(values)) > 1, (space, name)
            if kind == "choice":
                assert set(values) <= set(rest)
            else:
                assert min(values) >= 0.99 * rest[0]
                assert max(values) <= 1.01 * rest[1]
            if kind == "int":
                assert all(isinstance(value, int) for value in values)


def test_a_setting_has_the_word_of_the_library():
    from quality_search import MODELS, configurations

    drawn = configurations("ials", 1)[0]
    mine = MODELS["ALS ials"].settings(drawn)
    peer = MODELS["irspack iALS"].settings(drawn)
    assert (mine["factors"], mine["regularization"]) == (peer["n_components"], peer["reg"])
    assert (mine["unobserved_weight"], mine["frequency_exponent"]) == (peer["alpha0"], peer["nu"])
    assert "factors" not in peer


def test_search_keeps_the_best_configuration(events):
    from quality_search import MODELS, SPACES, configurations, tune

    calls = []
    best = tune("ALS", events, 3, lambda: calls.append(1))
    assert len(calls) == len(best["tried"]) == 3
    assert best["ndcg"] == pytest.approx(max(best["tried"]), abs=1e-5)
    place = int(np.argmax(best["tried"]))
    assert best["settings"] == configurations("als", 3)[place]
    assert set(best["settings"]) == set(SPACES[MODELS["ALS"].space])


def test_seen_items_are_not_ranked(events):
    from quality_splits import evaluate

    train, test = events.split_last(1)
    matrix, wanted = train.to_csr(), test.to_csr().toarray()
    scores = matrix.toarray() * 100 + wanted
    found = evaluate(scores, matrix, train.users.ids, test, train)
    assert found["ndcg"] == 1.0


def test_cold_users_are_those_without_a_history(events):
    from quality_splits import N_GIVEN, cold_split, cold_users

    train, test = events.split_time(0.2)
    rows, given, rest = cold_split(train, test)
    assert len(rows) > 0
    assert np.diff(train.to_csr().indptr)[rows].max() == 0
    assert (np.diff(given.to_csr().indptr)[rows] == N_GIVEN).all()
    assert len(given) + len(rest) <= len(test)

    class Knows:
        def fold_in(self, seen):
            assert seen.shape[0] == len(rows)
            return rest.to_csr()[rows].toarray()

    class CannotTell:
        def fold_in(self, seen):
            return None

    assert cold_users(Knows(), (rows, given, rest))["ndcg"] == pytest.approx(1.0)
    assert cold_users(CannotTell(), (rows, given, rest)) is None


@pytest.mark.parametrize("kind", ["cosine", "tfidf", "bm25"])
def test_scores_of_a_peer_are_those_it_recommends_by(kind, events):
    from quality_peers import ImplicitNeighbours
    from scipy.sparse import csr_matrix

    settings = {"kind": kind, "K": 15, "weights": "rating"}
    peer = ImplicitNeighbours(events, 0, settings)
    matrix = csr_matrix(events.to_csr()).astype(np.float64)
    scores = peer.known(np.arange(4))
    assert scores == pytest.approx(peer.fold_in(matrix[:4]))
    scores[matrix[:4].nonzero()] = -np.inf
    for user in range(4):
        ids, values = peer.model.recommend(user, matrix[user], N=5)
        best = np.sort(scores[user])[::-1][: len(ids)]
        assert scores[user, ids] == pytest.approx(values)
        assert best == pytest.approx(values)


@pytest.mark.skipif(find_spec("irspack") is None, reason="irspack is of the extra bench")
@pytest.mark.parametrize("name", ["irspack iALS", "irspack DenseSLIM", "irspack RP3beta"])
def test_a_peer_answers_for_known_and_new_users(name, events):
    from quality_search import MODELS, configurations

    kind = MODELS[name]
    model = kind.make(events, 0, kind.settings(configurations(kind.space, 1)[0]))
    matrix = events.to_csr()
    known, new = model.known(np.arange(5)), model.fold_in(matrix[:5])
    assert known.shape == new.shape == (5, events.n_items)
    # new users have the histories of known ones: the same taste is on top
    taste = (events.items.ids // 20)[known.argmax(axis=1)]
    assert taste.tolist() == (events.items.ids // 20)[new.argmax(axis=1)].tolist()


def evaluation(ndcg):
    """Return the evaluation of users with these values."""
    values = np.asarray(ndcg, dtype=float)
    return rec.Evaluation(
        k=10,
        users=np.arange(len(values)),
        per_user={"ndcg": values},
        n_relevant=np.ones(len(values), np.int64),
        warm=np.ones(len(values), bool),
        catalogue=None,
    )


def test_our_best_is_chosen_before_the_test_and_the_peer_after_it():
    from quality_figures import beside_best_peer, figures

    scenario = {
        "ALS": ([evaluation([0.5, 0.5, 0.5])], [0.1]),
        "ALS ials": ([evaluation([0.9, 0.9, 0.9])], [0.1]),
        "implicit ALS": ([evaluation([0.4, 0.4, 0.4])], [None]),
        "irspack iALS": ([evaluation([0.6, 0.6, 0.6]), evaluation([0.8, 0.8, 0.8])], [None]),
        "popularity": ([evaluation([0.1, 0.1, 0.1])], [None]),
    }
    tuned = {name: {"ndcg": 0.2} for name in scenario} | {"ALS": {"ndcg": 0.3}}
    del tuned["popularity"]
    found = beside_best_peer(scenario, tuned)
    assert (found["ours"], found["peer"]) == ("ALS", "irspack iALS")
    assert found["difference"] == pytest.approx(-0.2)
    rows = figures(scenario)
    assert rows["irspack iALS"]["ndcg_by_seed"] == pytest.approx([0.6, 0.8])
    assert rows["irspack iALS"]["difference"] == pytest.approx(0.6)
    assert rows["ALS"]["ndcg_seed_error"] == 0.0
    assert beside_best_peer({"ALS": scenario["ALS"]}, tuned) is None


def test_figures_of_models_that_need_torch_are_kept_with_their_commit(tmp_path):
    from quality_figures import kept_rows

    path = tmp_path / "old.json"
    old = {
        "machine": {"commit": "abc", "versions": {"torch": "2"}},
        "options": {"trained_seeds": 3},
        "scenarios": {"last": {"GRU": {"ndcg": 0.1}, "ALS": {"ndcg": 0.2}}},
    }
    path.write_text(json.dumps(old))
    rows = kept_rows(path, {"GRU"})["last"]
    assert set(rows) == {"GRU"}
    source = {"commit": "abc", "torch": "2", "n_seeds": 3}
    assert rows["GRU"] == {"library": "recengine", "kept_from": source, "ndcg": 0.1}
    old["scenarios"]["last"] = rows
    old["machine"]["commit"] = "def"
    path.write_text(json.dumps(old))
    assert kept_rows(path, {"GRU"})["last"]["GRU"]["kept_from"] == source, "of the first commit"
    assert kept_rows(path, set()) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "--seeds must be >= 2, got 1"),
        (["--models", "ALS,other"], "got other"),
        (["--budget", "0"], "--budget must be >= 1, got 0"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    import quality

    with pytest.raises(SystemExit, match="2"):
        quality.parse(arguments)
    assert message in capsys.readouterr().err


def test_biases_are_shrunk_means_of_what_is_left():
    from quality_ratings import by_biases
    from scipy.sparse import csr_array

    matrix = csr_array(np.array([[5.0, 0.0], [3.0, 1.0]]))
    mean = 3.0
    items = np.array([(2.0 + 0.0) / 27, -2.0 / 26])
    users = np.array([(2.0 - items[0]) / 11, (0.0 - items[0] - 2.0 - items[1]) / 12])
    found = by_biases(matrix, np.array([0, 1, 0]), np.array([0, 1, 1]))
    assert found == pytest.approx([mean + users[u] + items[i] for u, i in ((0, 0), (1, 1), (0, 1))])


def test_ratings_of_every_fold_are_predicted(events):
    from quality_ratings import folds

    found = folds(events)
    assert found["rmse"] == pytest.approx(np.mean(found["by_fold"]))
    deviation = np.std(events.to_csr().data)
    assert 0.5 * deviation < found["rmse"] < 1.5 * deviation
    assert found == folds(events)


@pytest.mark.parametrize("name", ["EASE", "ItemKNN cosine", "ItemKNN bm25"])
def test_our_models_of_items_score_new_users_like_known_ones(name, events):
    from quality_search import MODELS, configurations

    kind = MODELS[name]
    model = kind.make(events, 0, kind.settings(configurations(kind.space, 1)[0]))
    known, new = model.known(np.arange(6)), model.fold_in(events.to_csr()[:6])
    assert known.shape == (6, events.n_items)
    assert (known == new).all()
    assert known.max() > 0


def test_readme_tells_what_cannot_and_what_was_kept():
    from quality_page import SCENARIOS, section

    made = {"ndcg": 0.08, "ndcg_interval": (0.07, 0.09), "n_users": 9, "library": "recengine"}
    made |= {"difference": 0.01, "difference_interval": (-0.01, 0.03)}
    kept = {"commit": "0123456789abcdef", "torch": "2.1", "n_seeds": 3}
    rows = {
        "ALS": made,
        "popularity": made | {"ndcg": 0.01},
        "GRU": made | {"ndcg": 0.05, "kept_from": kept},
        "implicit BPR": made | {"ndcg": 0.06, "library": "implicit"},
    }
    scenarios = {name: dict(rows) for name in SCENARIOS}
    del scenarios["time, cold"]["implicit BPR"]
    best = {"ours": "ALS", "peer": "implicit BPR", "difference": 0.02, "low": 0.0, "high": 0.04}
    made_up = {
        "options": {"seeds": 10, "trained_seeds": 3},
        "budget": 24,
        "scenarios": scenarios,
        "beside_best_peer": dict.fromkeys(SCENARIOS, best),
        "sgd": {"rmse": 0.92, "by_fold": [0.91, 0.93], "biases": 0.944},
    }
    lines = section(made_up)
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names[1:5] == ["**ALS**", "implicit BPR", "**GRU**", "**popularity**"]
    bpr = next(line for line in lines if line.startswith("| implicit BPR"))
    assert bpr.endswith("| 0.0600 (0.070 … 0.090) | cannot |")
    told = "\n".join(lines)
    assert "GRU: figures of commit 0123456789 with torch 2.1, 3 seeds" in told
    assert "+0.0200 (+0.000 … +0.040): ALS, implicit BPR" in told
    assert "RMSE 0.9200 over 2 random folds (0.9100 … 0.9300); biases alone 0.9440" in told
