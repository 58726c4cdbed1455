"""benchmarks/search.py runs, reports what it promises, and notices a wrong answer."""

from __future__ import annotations

import json
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import oracles
import pytest

import recengine

pytestmark = pytest.mark.usefixtures("on_path")
TINY = ["--n-items", "3000", "--dim", "9", "--n-queries", "7", "--k", "5", "--repeats", "2"]
INSTALLED = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "implicit": "implicit",
    "faiss": "faiss",
    "usearch": "usearch",
}


def peers_here():
    return [name for name, module in INSTALLED.items() if find_spec(module)]


def options(**changes):
    chosen = {
        "vectors": "gaussian",
        "n_items": 600,
        "dim": 7,
        "n_queries": 5,
        "k": 4,
        "metric": "dot",
        "filter": "none",
        "threads": 1,
        "level": None,
        "repeats": 2,
        "peers": ["numpy"],
        "seed": 3,
        "json": None,
        "compare": None,
    }
    return Namespace(**(chosen | changes))


def test_it_reports_medians_ratios_and_shares(search_program):
    done = search_program(*TINY, "--metric", "l2", "--peers", ",".join(peers_here()), "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(peers_here()) <= set(result["results"]) - {"recengine"}
    assert result["best_peer"] in result["ratios"]
    assert result["ratio_to_best_peer"] == min(result["ratios"].values())
    for row in result["results"].values():
        assert len(row["rounds_ms"]) == 2
        assert row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert (result["options"]["metric"], result["options"]["seed"]) == ("l2", 0)
    assert {"cpu", "cpus", "simd", "versions", "commit"} <= set(result["machine"])
    assert result["scanned_share"] == 1
    assert result["gbs"] is result["time_over_bytes"] is None, "a batch shares what it reads"
    assert result["at_level"] is None
    if result["peak"] is not None and result["peak"]["int8_gops"]:
        assert 0 < result["share_of_int8_peak"] < 1


def test_it_writes_a_file_prints_a_table_and_compares(search_program, tmp_path):
    path = tmp_path / "figures.json"
    done = search_program(*TINY, "--peers", "none", "--threads", "2", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "gaussian, 3,000 × 9, 7 queries, k=5, dot, filter none, 2 thread(s)" in done.stdout
    result = json.loads(path.read_text())
    assert result["best_peer"] is None
    result |= {"ratios": {"numpy": 1e9}}
    result["results"]["numpy"] = result["results"]["recengine"]
    path.write_text(json.dumps(result))
    line = [*TINY, "--peers", "numpy", "--threads", "2", "--compare", str(path)]
    done = search_program(*line)
    assert done.returncode == 1, done.stderr
    assert "×1000000000.00 numpy fell to" in done.stderr


def test_another_level_is_timed_and_checked_beside_the_same_peers():
    from search_rounds import measure

    result = measure(options(level="scalar", filter="deny:0.5", peers=["numpy"]))
    assert len(result["results"]["recengine-level"]["rounds_ms"]) == 2
    assert result["at_level"]["ratios"].keys() == result["ratios"].keys()
    assert not any("recengine" in peer for peer in result["ratios"])
    median = result["results"]["recengine-level"]["median_ms"]
    numpy = result["results"]["numpy"]["median_ms"]
    assert result["at_level"]["ratios"]["numpy"] == numpy / median


def test_a_level_that_is_not_there_ends_the_run():
    from search_remote import RemoteLevel

    remote = RemoteLevel("sse", options())
    try:
        with pytest.raises(RuntimeError, match="recengine ended with 1"):
            remote()
    finally:
        remote.close()


def test_what_a_search_read_is_counted():
    import search_figures
    from search_rounds import compose

    stats = dict.fromkeys(("coarse", "fine", "float32", "float64", "rescored"), 0)
    stats |= {"searches": 3, "coarse": 3000, "fine": 300, "float32": 30, "rescored": 6}
    stats |= {"scanned": 3330}
    done = search_figures.work(stats, {"coarse": 10.0, "fine": 20.0, "vector": 100.0}, 7)
    assert done == {"pairs": 1110, "ops": 14 * 1110, "bytes": 10 * 1000 + 20 * 100 + 100 * 12}
    ceiling = {"int8_gops": 4.0, "read_gbs": 2.0}
    one = search_figures.rates({"ops": 2e6, "bytes": 1e6}, 1.0, 1, ceiling)
    assert (one["gops"], one["share_of_int8_peak"]) == (2, 0.5)
    assert (one["gbs"], one["share_of_read_peak"], one["time_over_bytes"]) == (1, 0.5, 2)
    assert search_figures.rates({"ops": 1, "bytes": 1}, 1.0, 1, None)["time_over_bytes"] is None

    rows = np.random.default_rng(0).standard_normal((2000, 20)).astype(np.float32)
    index = recengine.FlatIndex(rows)
    size = search_figures.row_bytes(index)
    assert size["vector"] == 80
    assert size["fine"] - size["coarse"] == 3 * 4  # four bits a dim, of dims in eights
    assert 3 * 4 < size["coarse"] < 3 * 4 + 16
    index.search(rows[0])
    report = compose({"recengine": [2.0]}, index, 1, ceiling)
    assert report["scanned_share"] == 1
    assert report["gops"] == pytest.approx(2 * 20 * 2000 / 2e6)
    assert 2e6 * report["gbs"] == pytest.approx(_read(index.stats, size))


def _read(stats, size):
    codes = stats["coarse"] * size["coarse"] + stats["fine"] * size["fine"]
    return codes + 80 * (stats["rescored"] + stats["float32"] + stats["float64"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "numpy,annoy"], "--peers must be of"),
        (["--level", "sse"], "--level must be of scalar"),
        (["--k", "0"], "--k must be >= 1, got 0"),
        (["--filter", "seen:0.5"], "--filter must be none, seen:COUNT"),
        (["--filter", "allow:2"], "--filter must be none, seen:COUNT"),
        (["--filter", "deny"], "--filter must be none, seen:COUNT"),
        (["--vectors", "minilm", "--dim", "4"], "--n-items and --dim are for vectors that are"),
        (["--vectors", "cauchy"], "--vectors must be gaussian|clustered|cone"),
    ],
)
def test_it_refuses(arguments, message, capsys):
    import search

    with pytest.raises(SystemExit, match="2"):
        search.parse(arguments)
    assert message in capsys.readouterr().err


def test_it_refuses_more_than_the_filter_leaves():
    from search_rounds import measure

    with pytest.raises(ValueError, match=r"--k must be at most the 6 items .* got 7"):
        measure(options(filter="allow:0.01", k=7))
    with pytest.raises(ValueError, match=r"got 3 beside 598 seen"):
        measure(options(filter="seen:598", k=3))


@pytest.mark.parametrize("kind", ["none", "seen:6", "allow:0.1", "deny:0.5"])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_every_peer_agrees_under_every_filter(kind, metric):
    from search_rounds import measure

    result = measure(options(filter=kind, metric=metric, peers=peers_here(), repeats=1))
    assert set(peers_here()) <= set(result["ratios"])


@pytest.mark.parametrize("name", ["clustered", "cone", "catalogue"])
def test_made_vectors_have_their_size_and_seed(name, monkeypatch, tmp_path):
    from search_vectors import make

    monkeypatch.setenv("RECENGINE_CACHE", str(tmp_path))
    queries, items = make(name, 500, 8, 6, 1)
    assert (queries.shape, items.shape) == ((6, 8), (500, 8))
    assert queries.dtype == items.dtype == np.float32
    again, other = make(name, 500, 8, 6, 1), make(name, 500, 8, 6, 2)
    np.testing.assert_array_equal(again.items, items)
    assert (again.queries == queries).all()
    assert (other.queries != queries).any()


def test_vectors_come_from_a_file(tmp_path):
    from search_vectors import make

    table = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(tmp_path / "x.npy", table)
    queries, items = make(str(tmp_path / "x.npy"), None, None, 9, 0)
    np.testing.assert_array_equal(items, table.astype(np.float32))
    assert all((items == query).all(axis=1).any() for query in queries)


@pytest.mark.network
@pytest.mark.parametrize(("name", "dim"), [("ml-100k-als", 64), ("minilm", 384)])
def test_given_vectors_are_films(name, dim, ml_100k_folder, minilm_folder):
    from search_vectors import make

    queries, items = make(name, None, None, 3, 0)
    assert (queries.shape, items.shape) == ((3, dim), (1682, dim))


def test_filters_keep_what_they_say(rng):
    from search_vectors import Vectors, make_filter

    items = rng.standard_normal((400, 5)).astype(np.float32)
    vectors = Vectors(items[:3], items)
    assert len(make_filter("allow:0.1", vectors, 0).rows) == 40
    denied = make_filter("deny:0.25", vectors, 0)
    assert len(denied.rows) == 300
    assert not np.isin(denied.rows, denied.given).any()
    seen = make_filter("seen:20", vectors, 0).seen
    assert seen.shape == (3, 20)
    assert (np.diff(seen) > 0).all()
    best = np.argsort(-(items[0] @ items.T))[:40]
    assert np.isin(seen[0], best).sum() >= 10


def test_the_truth_is_the_oracle_and_wrong_answers_are_noticed(rng):
    import search_truth

    queries = rng.standard_normal((2, 6)).astype(np.float32)
    items = rng.standard_normal((50, 6)).astype(np.float32)
    shape = ("dot", queries, items)
    want = search_truth.truth(*shape, 4)
    oracles.assert_same_topk((want.ids, want.scores), oracles.search(*shape, 4))
    search_truth.check_peer("good", want.ids, *shape, want)
    worst = want.ids.copy()
    worst[1, 2] = (queries[1] @ items.T).argmin()
    with pytest.raises(AssertionError, match="bad is wrong for query 1"):
        search_truth.check_peer("bad", worst, *shape, want)
    twice = want.ids.copy()
    twice[0, 1] = twice[0, 0]
    with pytest.raises(AssertionError, match="bad returned an id twice"):
        search_truth.check_peer("bad", twice, *shape, want)
    with pytest.raises(AssertionError, match="bad returned what query 0 has seen"):
        search_truth.check_peer("bad", want.ids, *shape, want, want.ids[:, :1])
    swapped = want._replace(ids=want.ids[:, [1, 0, 2, 3]])
    with pytest.raises(AssertionError):
        search_truth.check_ours(want, swapped)


def test_the_truth_under_filters_is_the_oracle(rng):
    import search_truth

    queries = rng.standard_normal((3, 6)).astype(np.float32)
    items = rng.standard_normal((80, 6)).astype(np.float32)
    rows, seen = np.arange(0, 80, 3), np.sort(rng.permuted(np.tile(np.arange(80), (3, 1)), axis=1))
    allowed = np.isin(np.arange(80), rows)
    for metric in oracles.METRICS:
        want = search_truth.truth(metric, queries, items, 4, rows=rows)
        expected = oracles.search(metric, queries, items, 4, allowed=allowed)
        oracles.assert_same_topk((want.ids, want.scores), expected)
        few = seen[:, 10:30]
        want = search_truth.truth(metric, queries, items, 4, seen=few)
        expected = oracles.search(metric, queries, items, 4, exclude=list(few))
        oracles.assert_same_topk((want.ids, want.scores), expected)


def test_kept_by_norms_counts_what_the_bound_cannot_drop():
    import search_truth

    items = np.array([[4, 0], [0, 3], [2, 0], [1, 0]], np.float32)
    queries = np.array([[1, 0]], np.float32)
    want = search_truth.truth("dot", queries, items, 2)
    assert want.kth[0] == 2
    assert search_truth.kept_by_norms(queries, items, want)["median"] == 0.75


def test_numpy_in_another_process_gives_the_same_ids(rng):
    from search_peers import numpy_peer
    from search_remote import RemoteNumpy

    queries = rng.standard_normal((3, 6)).astype(np.float32)
    items = rng.standard_normal((50, 6)).astype(np.float32)
    remote = RemoteNumpy("Haswell", queries, items, 4)
    try:
        for _ in range(2):
            elapsed, ids = remote()
            np.testing.assert_array_equal(ids, numpy_peer(queries, items, 4)())
            assert 0 < elapsed < 1e4
    finally:
        remote.close()


def test_the_peak_is_measured_or_absent(monkeypatch, tmp_path):
    import peak

    monkeypatch.setenv("RECENGINE_CACHE", str(tmp_path))
    monkeypatch.setattr(peak.shutil, "which", lambda _: None)
    assert peak.measure(1) is None
    high, low = {"int8_gops": 2.0, "read_gbs": 1.0}, {"int8_gops": 1.0, "read_gbs": 3.0}
    assert peak.better(high, low) == {"int8_gops": 2.0, "read_gbs": 3.0}
    assert peak.better(None, low) == low


def test_only_programs_have_a_main():
    """`make bench` runs every file that has one."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    mains = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()}
    assert mains == {
        "build",
        "device",
        "encode",
        "factorize",
        "factorize_table",
        "gpu_report",  # but this one, which needs a GPU: `make gpu-report`
        "live",
        "online",
        "quality",
        "report",
        "search",
        "search_table",
    }
