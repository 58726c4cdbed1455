"""IdMap: every id finds its own row and nothing else does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine import IdMap
from recengine.data import ids_digest

INT64 = np.iinfo(np.int64)
int_ids = st.integers(INT64.min, INT64.max).filter(lambda value: value != -1)
near_ids = st.integers(0, 40)
text_ids = st.text(max_size=6)
id_lists = (
    st.lists(int_ids, unique=True, max_size=30)
    | st.lists(near_ids, unique=True, max_size=30)
    | st.lists(text_ids, unique=True, max_size=30)
)


@given(id_lists, st.randoms(use_true_random=False))
def test_roundtrip_finds_every_row(ids, random):
    id_map = IdMap(ids)
    assert id_map.ids.tolist() == ids
    assert id_map.indices(ids).tolist() == list(range(len(ids)))
    order = list(range(len(ids)))
    random.shuffle(order)
    assert id_map.indices([ids[row] for row in order]).tolist() == order
    assert [id_map.index(entry) for entry in ids] == list(range(len(ids)))
    assert all(entry in id_map for entry in ids)
    assert pickle.loads(pickle.dumps(id_map)) == id_map


@given(id_lists, st.data())
def test_unknown_ids_are_marked(ids, data):
    kind = text_ids if ids and isinstance(ids[0], str) else near_ids | int_ids
    queries = data.draw(st.lists(kind, max_size=10))
    expected = [ids.index(query) if query in ids else -1 for query in queries]
    id_map = IdMap(ids)
    assert id_map.indices(queries, missing="mark").tolist() == expected
    assert [id_map.index(query) for query in queries] == expected
    if -1 in expected:
        with pytest.raises(LookupError, match="ids must all be in the map, got"):
            id_map.indices(queries)


@given(id_lists, st.integers(0, 30))
def test_extended_equals_a_map_of_both(ids, n_old):
    old, new = ids[:n_old], ids[n_old:]
    extended = IdMap(old).extended(new)
    assert extended == IdMap(ids)
    assert extended.indices(ids).tolist() == list(range(len(ids)))
    assert IdMap(old).indices(new, missing="mark").tolist() == [-1] * len(new)


@pytest.mark.parametrize("start", [0, 7, -9, INT64.min, INT64.max - 4])
def test_consecutive_ids_do_not_wrap(start):
    id_map = IdMap([start + step for step in range(5)])
    strangers = [value for value in (INT64.min, INT64.max, 0, -2) if value not in id_map]
    assert id_map.indices(strangers, missing="mark").tolist() == [-1] * len(strangers)
    assert id_map.indices(id_map.ids).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("ids", "stranger"), [([5, 3], "5"), (["5", "3"], 5), (["a"], b"a"), ([1, 0], True)]
)
def test_id_of_another_kind_is_not_here(ids, stranger):
    id_map = IdMap(ids)
    assert stranger not in id_map
    assert id_map.index(stranger) == -1
    with pytest.raises(TypeError, match="ids must be"):
        id_map.indices([stranger], missing="mark")


def test_scalars_out_of_int64_are_not_here():
    for ids in ([1, 2, 3], [9, 4]):
        assert 2**70 not in IdMap(ids)
        assert IdMap(ids).indices([2**70], missing="mark").tolist() == [-1]
    unsigned = np.array([2**64 - 2, 4], np.uint64)  # the first has the bits of -2
    assert IdMap([-2, 4]).indices(unsigned, missing="mark").tolist() == [-1, 1]


def test_padding_is_marked_and_never_found():
    assert IdMap([4, 2]).indices([2, -1], missing="mark").tolist() == [1, -1]
    padded = np.array(["b", None], object)
    assert IdMap(["a", "b"]).indices(padded, missing="mark").tolist() == [1, -1]
    with pytest.raises(LookupError, match=r"got -1 at 1 \(1 of 2 are not\)"):
        IdMap([4, 2]).indices([2, -1])


def test_empty_map_takes_either_kind():
    empty = IdMap([])
    assert len(empty) == 0
    assert not empty.is_str
    assert "a" not in empty
    assert 0 not in empty
    assert empty.indices([]).tolist() == []
    assert empty.indices(["a"], missing="mark").tolist() == [-1]
    assert empty.indices([3], missing="mark").tolist() == [-1]
    with pytest.raises(LookupError, match="got 'a' at 0"):
        empty.indices(["a"])
    assert empty.extended(["a"]) == IdMap(["a"])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([3, 1, 3], ValueError, "ids must be unique, got 3 more than once"),
        (["a", "b", "a"], ValueError, "ids must be unique, got 'a' more than once"),
        ([1, -1], ValueError, "ids must not contain -1"),
        ([1, "a"], TypeError, "ids must be all integers or all strings, got int, str"),
        ([1.5], TypeError, "got float"),
        ([True], TypeError, "got bool"),
        ([2**63], ValueError, "ids must fit int64"),
        (np.zeros((2, 2), int), ValueError, "ids must be 1-D"),
    ],
)
def test_bad_ids_are_refused(ids, error, message):
    with pytest.raises(error, match=message):
        IdMap(ids)


@pytest.mark.parametrize(
    ("ids", "new_ids", "error", "message"),
    [
        ([4, 2], [9, 2], ValueError, "new_ids must be new, got 2"),
        ([4, 2], [9, 9], ValueError, "new_ids must be unique, got 9 more than once"),
        ([1, 2], [4, 4], ValueError, "new_ids must be unique, got 4 more than once"),
        (["a"], ["b", "b"], ValueError, "new_ids must be unique, got 'b' more than once"),
        (["a"], ["a"], ValueError, "new_ids must be new, got 'a'"),
        ([4, 2], ["a"], TypeError, "new_ids must be integers as in the map, got 'a'"),
        (["a"], [1], TypeError, "new_ids must be str as in the map, got 1"),
    ],
)
def test_bad_extension_is_refused(ids, new_ids, error, message):
    with pytest.raises(error, match=message):
        IdMap(ids).extended(new_ids)


def test_bad_lookup_is_refused():
    with pytest.raises(ValueError, match="missing must be one of"):
        IdMap([1]).indices([1], missing="ignore")
    with pytest.raises(TypeError, match="ids must be integers or strings, got dtype float64"):
        IdMap([1]).indices(np.array([1.0]))
    with pytest.raises(ValueError, match="ids must be 1-D"):
        IdMap([1]).indices(np.ones((1, 1), int))


def test_map_is_immutable_and_does_not_follow_the_caller():
    ids = np.array([5, 3, 8])
    id_map = IdMap(ids)
    ids[0] = 100
    assert id_map.ids.tolist() == [5, 3, 8]
    with pytest.raises(ValueError, match="read-only"):
        id_map.ids[0] = 1
    names = np.array(["a", "b"], object)
    name_map = IdMap(names)
    names[0] = "z"
    assert name_map.ids.tolist() == ["a", "b"]
    ids.flags.writeable = False
    assert np.shares_memory(IdMap(ids).ids, ids)


def test_equality_tells_order_and_kind():
    assert IdMap([1, 2]) == IdMap(np.array([1, 2], np.uint8))
    assert IdMap([1, 2]) != IdMap([2, 1])
    assert IdMap([1]) != IdMap(["1"])
    assert IdMap([1]) != [1]
    assert repr(IdMap(["a"])) == "IdMap(1 str ids)"


def test_digest_tells_ids_their_order_and_kind():
    maps = [[1, 2], [2, 1], [12], ["1", "2"], ["12"], [1], [], ["ü"]]
    assert len({IdMap(ids).digest for ids in maps}) == len(maps)
    assert IdMap(np.array([1, 2], np.uint8)).digest == IdMap([1, 2]).digest
    assert ids_digest(IdMap(["a", "b", "c"]).ids[:2]) == IdMap(["a", "b"]).digest
