"""A last stage of one's own: train a ranker of candidates, export it, and serve it in an engine.

    python examples/rank_films.py [ranker.onnx]

ALS finds 200 films for everybody. A linear model, trained here in NumPy, orders them by what ALS
said of them, how popular they are and have been lately, and how far their year and genre are from
what the viewer saw last. It learns from the second last film of everybody, and is tested on the
last one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import recengine as rec
from recengine.data import load_ml_100k

DEPTH, STEPS, RATE, SHRINK, MONTH, YEAR = 200, 400, 0.5, 1e-3, 30 * 86_400, 1993
NUMBERS = ["candidate.score", "item.count", "item.lately", "item.year"]
GENRES = ["item.genre", "user.genre"]


def attributes(events, films):
    """Return (items, users): what the files say of films, and what the events tell."""
    late = events.timestamps > events.timestamps.max() - MONTH
    genre = np.array([genres.split()[0] for genres in films["genres"]], object)
    year = np.nan_to_num(films["year"].astype(float), nan=YEAR)
    items = {"item_id": events.items.ids, "title": films["title"], "year": year, "genre": genre}
    items["count"] = np.log1p(np.bincount(events.item_indices, minlength=events.n_items))
    items["lately"] = np.log1p(np.bincount(events.item_indices[late], minlength=events.n_items))
    last = [events.items.indices(events.history(user)[-5:]) for user in events.users.ids.tolist()]
    users = {"user_id": events.users.ids, "year": np.array([year[seen].mean() for seen in last])}
    users["genre"] = np.array([genre[seen[-1]] for seen in last], object)
    return items, users


def lists(events, held_out, items, users):
    """Return (features (n, DEPTH, 6), which film was chosen (n, DEPTH)) of users who have one."""
    model = rec.ALS(factors=64, regularization=10.0, random_state=0).fit(events)
    found = rec.Engine.build(events, model).recommend(events.users.ids, DEPTH)
    chosen = np.full(events.n_users, -1)
    chosen[held_out.user_indices] = events.items.ids[held_out.item_indices]
    rows = np.flatnonzero((found.ids == chosen[:, None]).any(axis=1))
    films = events.items.indices(found.ids[rows].ravel()).reshape(len(rows), DEPTH)
    item = {name: column[films] for name, column in items.items()}
    user = {name: column[rows, None] for name, column in users.items()}
    columns = [found.scores[rows], item["count"], item["lately"], item["year"]]
    columns += [item["genre"] == user["genre"], np.abs(item["year"] - user["year"])]
    return np.stack(columns, axis=2), found.ids[rows] == chosen[rows, None]


def train(features, chosen):
    """Return (mean, spread, weights) that give the chosen film of each list the largest share."""
    mean, spread = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    scaled, weights = (features - mean) / spread, np.zeros(features.shape[2])
    for _ in range(STEPS):
        scores = scaled @ weights
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)  # softmax over the list; the loss is -log share
        slope = np.einsum("uc,ucf->f", share - chosen, scaled) / len(scaled)
        weights -= RATE * (slope + SHRINK * weights)
    return mean, spread, weights[:, None]


def export(path, *trained):
    """Write the model as a graph whose inputs are named after their columns."""
    columns = [(name, TensorProto.FLOAT) for name in [*NUMBERS, "user.year"]]
    columns += [(name, TensorProto.INT64) for name in GENRES]
    nodes = [
        helper.make_node("Equal", GENRES, ["same"]),
        helper.make_node("Cast", ["same"], ["same_genre"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["item.year", "user.year"], ["between"]),
        helper.make_node("Abs", ["between"], ["apart"]),
        helper.make_node("Concat", [*NUMBERS, "same_genre", "apart"], ["features"], axis=1),
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["score"]),
    ]
    inputs = [helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in columns]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    named = zip(("mean", "spread", "weights"), trained, strict=True)
    constants = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in named]
    graph = helper.make_graph(nodes, "ranker", inputs, [output], constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def main(path: Path) -> None:
    """Train, export, serve, measure."""
    events, films, _ = load_ml_100k()
    known, test = events.split_last(1)
    earlier, chosen = known.split_last(1)
    export(path, *train(*lists(earlier, chosen, *attributes(earlier, films))))

    items, users = attributes(known, films)
    vocabularies = dict.fromkeys(GENRES, sorted(set(items["genre"])))
    ranker = rec.OnnxRanker(path, vocabularies=vocabularies, n_candidates=DEPTH)
    model = rec.ALS(factors=64, regularization=10.0, random_state=0).fit(known)
    plain = rec.Engine.build(known, model, items=items, users=users)
    engine = rec.Engine.build(known, model, items=items, users=users, ranker=ranker)
    for name, one in (("ALS alone", plain), ("with the ranker", engine)):
        answer = one.recommend(known.users.ids, k=10)
        print(f"{name}: {rec.evaluate(answer, test, users=known.users.ids, train=known)}")
    answer = engine.recommend(42, k=5, trace=True)
    for title, score in zip(
        engine.item_attributes(answer.ids)["title"], answer.scores, strict=True
    ):
        print(f"{score:6.2f}  {title}")
    print(", ".join(f"{each['stage']} {each['ms']:.2f} ms" for each in answer.trace["stages"]))
    engine.save("ranked.rec")  # the ranker goes along by path and digest


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "ranker.onnx"))
