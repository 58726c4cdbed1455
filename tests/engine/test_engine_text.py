"""Free text: search, items added by their text, and encoders that come back with a bundle."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec

WORDS = ("sea", "space", "war", "love")
TEXTS = ["the sea", "a space war", "love and war", "war", "space love"]
INTER = rec.Interactions.from_arrays([1, 1, 2, 3, 3], [10, 20, 30, 40, 50])


class WordEncoder:
    """Count four words: enough to tell texts apart, and exact."""

    dim = len(WORDS)

    def __init__(self, digest="words"):
        self.digest = digest
        self.encoded = []

    def encode(self, texts):
        self.encoded.append(list(texts))
        return np.array([[text.split().count(word) for word in WORDS] for text in texts], float)

    def encode_query(self, text):
        return self.encode([text])[0]


def build(encoder=None, **parts):
    encoder = encoder or WordEncoder()
    return rec.Engine.build(INTER, content=encoder.encode(TEXTS), encoder=encoder, **parts)


def test_search_finds_by_text_as_brute_force_does():
    engine = build()
    for text in ("sea", "war and space", "love", "nothing of it"):
        query = WordEncoder().encode([text]).astype(np.float32)
        table = WordEncoder().encode(TEXTS).astype(np.float32)
        rows, scores = oracles.search("cosine", query, table, 6)
        got = engine.search(text, 6)
        assert got.ids.tolist() == [([*INTER.items.ids.tolist(), -1])[row] for row in rows[0]]
        oracles.assert_same_bits(got.scores, scores[0])
    assert engine.search("war", 5, allow=[20, 30], deny=[30]).ids.tolist() == [20] + [-1] * 4


def test_search_does_not_hide_what_anybody_has_seen():
    engine = build()
    assert engine.search("sea", 1).ids.tolist() == [10]


def test_a_new_item_is_found_by_its_text_alone():
    engine = build()
    engine.add_items([60], texts=["sea sea sea"], items={"item_id": [60], "title": ["Jaws"]})
    assert engine.search("sea", 2).ids.tolist() == [10, 60]
    assert engine.similar_items(60, 1).ids.tolist() == [10]
    assert engine.recommend_for([10], 1).ids.tolist() == [60]
    assert engine.item_attributes([60])["title"].tolist() == ["Jaws"]
    engine.remove_items([10])
    assert engine.search("sea", 1).ids.tolist() == [60]


def test_the_trace_and_the_deadline_reach_search():
    engine = build()
    stages = engine.search("sea", trace=True).trace["stages"]
    assert [stage["stage"] for stage in stages] == ["encode", "content"]
    with pytest.raises(rec.DeadlineError, match="timeout ran out before the search"):
        engine.search("sea", timeout=1e-9)


def test_the_deadline_reaches_an_encoder_that_takes_one():
    class Limited(WordEncoder):
        def encode_query(self, text, timeout=None):
            self.timeout = timeout
            return super().encode_query(text)

    encoder = Limited()
    engine = build(encoder)
    engine.search("sea", timeout=60.0)
    assert 50.0 < encoder.timeout <= 60.0
    engine.search("sea")
    assert encoder.timeout is None


def test_an_encoder_of_ones_own_is_given_again_at_load(tmp_path):
    build().save(tmp_path / "e.rec")
    loaded = rec.Engine.load(tmp_path / "e.rec")
    assert loaded.recommend_for([10], 1).ids.tolist() == build().recommend_for([10], 1).ids.tolist()
    with pytest.raises(ValueError, match=r"search needs the encoder WordEncoder.*encoder=\)"):
        loaded.search("sea")
    with pytest.raises(ValueError, match="texts needs the encoder WordEncoder"):
        loaded.add_items([60], texts=["sea"])
    given = rec.Engine.load(tmp_path / "e.rec", encoder=WordEncoder())
    oracles.assert_same_topk(given.search("war", 5), build().search("war", 5))


def test_an_encoder_that_made_other_vectors_is_refused(tmp_path):
    build().save(tmp_path / "e.rec")
    with pytest.raises(ValueError, match=r"encoder must have the digest words.*got other"):
        rec.Engine.load(tmp_path / "e.rec", encoder=WordEncoder("other"))
    rec.Engine.build(INTER).save(tmp_path / "none.rec")
    with pytest.raises(ValueError, match="encoder must be None: this engine was saved without"):
        rec.Engine.load(tmp_path / "none.rec", encoder=WordEncoder())
    assert rec.Engine.load(tmp_path / "none.rec").encoder is None


def test_vectors_that_are_not_finite_are_refused_wherever_they_come_from():
    encoder = WordEncoder()
    engine = build(encoder)
    encoder.encode_query = lambda text: np.full(4, np.nan)
    with pytest.raises(ValueError, match="encoded text must be finite"):
        engine.search("sea")
    encoder.encode = lambda texts: np.full((len(texts), 4), np.inf)
    with pytest.raises(ValueError, match="encoded texts must be finite"):
        engine.add_items([60], texts=["sea"])
    assert 60 not in engine


def test_films_are_found_by_the_real_encoder(minilm_folder, tmp_path):
    titles = ["Jaws", "Star Wars", "Sleepless in Seattle", "Titanic", "Toy Story"]
    encoder = rec.TextEncoder.open(minilm_folder)
    engine = rec.Engine.build(INTER, content=encoder.encode(titles), encoder=encoder)
    assert engine.search("a ship sinks in the ocean", 1).ids.tolist() == [40]
    engine.add_items([60], texts=["The Hunt for Red October, a submarine thriller"])
    assert engine.search("a thriller in a submarine", 1).ids.tolist() == [60]
    engine.save(tmp_path / "films.rec")
    loaded = rec.Engine.load(tmp_path / "films.rec")
    assert loaded._state.encoder._opened == []
    for text in ("space battles", "a shark"):
        oracles.assert_same_topk(loaded.search(text, 6), engine.search(text, 6))
    loaded.add_items([70], texts=["Das Boot"])
    assert 70 in loaded
    assert loaded.encoder.digest == encoder.digest
