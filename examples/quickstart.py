"""Films for a person: train, recommend, measure, save. The program of the README."""

import recengine as rec
from recengine.data import load_ml_100k

events, films, _ = load_ml_100k()  # or rec.Interactions.read("events.csv")
train, test = events.split_last(1)  # hold the last film of everybody out
model = rec.ALS(factors=64, regularization=10.0, random_state=0).fit(train)
engine = rec.Engine.build(train, model, items=films)

ids, scores = engine.recommend(42, k=5)  # ids first; what user 42 has seen is left out
for title, score in zip(engine.item_attributes(ids)["title"], scores, strict=True):
    print(f"{score:.3f}  {title}")

users = train.users.ids
print(rec.evaluate(engine.recommend(users, k=10), test, users=users, train=train))
engine.save("films.rec")  # one file; rec.Engine.load maps it
