"""A catalogue in one file: skipped rows, repeats, resumption, sources and refusals."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from graphs import save_quantized_model

import recengine as rec
from recengine import BundleError, Catalogue, TextEncoder, encode_catalogue
from recengine.encoders import catalogue as module
from recengine.encoders.vector_cache import OVERHEAD, VectorCache

WORDS = "abcdefghijklmnop"
ROWS = [(10 + n, " ".join(WORDS[n % 7 : n % 7 + 1 + n % 5])) for n in range(23)]


class Counting:
    """Counts what an encoder's graph is given; breaks down before a certain text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[Any] = TextEncoder) -> None:
        self.given: list[Any] = []
        self.stop_at: str | None = None
        encode = kind.encode

        def counted(encoder: Any, contents: Any, *args: Any, **options: Any) -> Any:
            if self.stop_at in contents:
                raise KeyboardInterrupt
            self.given += list(contents)
            return encode(encoder, contents, *args, **options)

        monkeypatch.setattr(kind, "encode", counted)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def test_rows_are_what_the_encoder_gives(encoder: TextEncoder, tmp_path: Path) -> None:
    found = encode_catalogue(ROWS, encoder, tmp_path / "c.rec", chunk_size=5)
    assert found.ids.tolist() == [key for key, _ in ROWS]
    assert found.rows.tolist() == list(range(23))
    assert (found.encoder, found.skipped) == (encoder.digest, ())
    np.testing.assert_allclose(found.vectors, encoder.encode([t for _, t in ROWS]), atol=1e-6)
    assert not (tmp_path / "c.rec.parts").exists()
    assert not found.vectors.flags.writeable
    index = rec.FlatIndex(found.vectors, found.ids)
    assert np.shares_memory(index._live.generation.base.vectors, found.vectors)
    again = Catalogue.open(tmp_path / "c.rec")
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert (again.ids.tolist(), again.encoder) == (found.ids.tolist(), found.encoder)


def test_equal_contents_are_encoded_once(
    encoder: TextEncoder, tmp_path: Path, counting: Counting
) -> None:
    found = encode_catalogue(ROWS, encoder, tmp_path / "c.rec", chunk_size=4)
    distinct = {text for _, text in ROWS}
    assert sorted(counting.given) == sorted(distinct)
    assert found.counts == {
        "resumed": 0, "encoded": len(distinct), "repeated": len(ROWS) - len(distinct),
    }  # fmt: skip


def test_cache_serves_later_runs_of_the_same_encoder(
    encoder: TextEncoder, folder: Path, tmp_path: Path, counting: Counting
) -> None:
    cache = tmp_path / "cache"
    first = encode_catalogue(ROWS, encoder, tmp_path / "a.rec", cache=cache)
    counting.given.clear()
    more = [*ROWS, (99, "p o n m l k j")]
    second = encode_catalogue(more, encoder, tmp_path / "b.rec", cache=cache)
    assert counting.given == ["p o n m l k j"]
    np.testing.assert_array_equal(second.vectors[:-1], first.vectors)
    counting.given.clear()
    files = folder / "model.onnx", folder / "tokenizer.json"
    other = TextEncoder(*files, pooling="cls", num_threads=1)
    third = encode_catalogue(ROWS, other, tmp_path / "c.rec", cache=cache)
    assert third.counts["encoded"] == first.counts["encoded"]
    assert not np.array_equal(third.vectors, first.vectors)


# --- resumption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quantized", [False, True])
def test_resumed_run_writes_the_same_bytes(
    folder: Path, tmp_path: Path, counting: Counting, quantized: bool
) -> None:
    if quantized:  # takes no batches
        save_quantized_model(folder / "model.onnx")
    encoder = TextEncoder(folder / "model.onnx", folder / "tokenizer.json", num_threads=1)
    texts = [f"{WORDS[n % 16]} {WORDS[n % 37 // 16]} c d e"[: 4 + n % 7] for n in range(40)]
    rows = [(f"i{n}", text) for n, text in enumerate(texts)]
    encode_catalogue(
        rows, encoder, tmp_path / "whole.rec", chunk_size=7, batch_size=1 if quantized else 4
    )
    for stop in (0, 8, 14, 30):
        counting.given.clear()
        before = {text for _, text in rows[: stop // 7 * 7]}  # of finished chunks
        counting.stop_at = next(text for _, text in rows[stop:] if text not in before)
        with pytest.raises(KeyboardInterrupt):
            encode_catalogue(
                rows, encoder, tmp_path / "c.rec", chunk_size=7, batch_size=1 if quantized else 4
            )
        assert not (tmp_path / "c.rec").exists()
        counting.stop_at = None
        done = list(counting.given)
        found = encode_catalogue(
            rows, encoder, tmp_path / "c.rec", chunk_size=7, batch_size=1 if quantized else 4
        )
        assert found.counts["resumed"] >= stop // 7 * 7
        assert len(counting.given) == len(set(counting.given)), "a finished text was run again"
        assert counting.given[: len(done)] == done
        assert (tmp_path / "c.rec").read_bytes() == (tmp_path / "whole.rec").read_bytes()
        (tmp_path / "c.rec").unlink()


@pytest.fixture
def half(encoder: TextEncoder, tmp_path: Path, counting: Counting) -> list[Any]:
    """Return rows whose run broke down in the last chunk of five, four being finished."""
    rows = [[key, f"{text} {WORDS[key % 16]}"] for key, text in ROWS]
    rows[20][1] = counting.stop_at = "p p p"
    with pytest.raises(KeyboardInterrupt):
        encode_catalogue(rows, encoder, tmp_path / "c.rec", chunk_size=5)
    assert len(list((tmp_path / "c.rec.parts").glob("*.part"))) == 4
    counting.stop_at = None
    counting.given.clear()
    return rows


def test_damaged_or_half_written_parts_do_not_count(
    encoder: TextEncoder, tmp_path: Path, half: list[Any]
) -> None:
    parts = tmp_path / "c.rec.parts"
    raw = bytearray((parts / "00000001.part").read_bytes())
    raw[-70] ^= 1
    (parts / "00000001.part").write_bytes(raw)
    (parts / "00000002.part").write_bytes((parts / "00000002.part").read_bytes()[:-1])
    (parts / ".recengine-00.tmp").write_bytes(b"half")
    found = encode_catalogue(half, encoder, tmp_path / "c.rec", chunk_size=5)
    assert found.counts["resumed"] == 10
    encode_catalogue(half, encoder, tmp_path / "d.rec", chunk_size=5)
    assert (tmp_path / "c.rec").read_bytes() == (tmp_path / "d.rec").read_bytes()


def test_changed_rows_are_encoded_anew(
    encoder: TextEncoder, tmp_path: Path, half: list[Any], counting: Counting
) -> None:
    half[6][1], half[11][0] = "o o o", 1000
    found = encode_catalogue(half, encoder, tmp_path / "c.rec", chunk_size=5)
    assert found.counts["resumed"] == 10
    assert "o o o" in counting.given
    assert found.ids[11] == 1000


def test_other_settings_are_refused_until_one_begins_anew(
    encoder: TextEncoder, folder: Path, tmp_path: Path, half: list[Any]
) -> None:
    with pytest.raises(ValueError, match=r"chunk_size must be 5, as in the unfinished run in .*4"):
        encode_catalogue(half, encoder, tmp_path / "c.rec", chunk_size=4)
    files = folder / "model.onnx", folder / "tokenizer.json"
    other = TextEncoder(*files, pooling="cls", num_threads=1)
    with pytest.raises(ValueError, match="encoder must be"):
        encode_catalogue(half, other, tmp_path / "c.rec", chunk_size=5)
    found = encode_catalogue(half, other, tmp_path / "c.rec", chunk_size=4, resume=False)
    assert (found.counts["resumed"], len(found.ids)) == (0, 23)


def test_break_down_at_the_end_costs_no_encoding(
    encoder: TextEncoder, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the parts are joined, and while they are removed."""
    out, parts = tmp_path / "c.rec", tmp_path / "c.rec.parts"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("join", "remove"):
        counting.given.clear()
        with monkeypatch.context() as patch:
            patch.setattr(module.Parts, name, full)
            with pytest.raises(OSError, match="No space"):
                encode_catalogue(ROWS, encoder, out, chunk_size=5)
        assert out.exists() == (name == "remove")
        n_given = len(counting.given)
        found = encode_catalogue(ROWS, encoder, out, chunk_size=5)
        assert found.counts["resumed"] == len(ROWS)
        assert len(counting.given) == n_given
        assert not parts.exists()
    parts.mkdir()  # what a kill during the removal leaves
    (parts / "00000003.part").write_bytes(b"")
    assert len(encode_catalogue(ROWS, encoder, out, chunk_size=5).ids) == len(ROWS)
    assert not parts.exists()


def test_a_folder_that_is_no_runs_is_left_alone(encoder: TextEncoder, tmp_path: Path) -> None:
    (tmp_path / "c.rec.parts").mkdir()
    (tmp_path / "c.rec.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"nothing but parts of a run, got 'thesis\.txt'"):
        encode_catalogue(ROWS, encoder, tmp_path / "c.rec", resume=False)
    assert (tmp_path / "c.rec.parts" / "thesis.txt").exists()


# --- bad rows -------------------------------------------------------------------------------------

BAD: list[Any] = [
    ("a", "a b"), (None, "c"), ("c", None), ("d", "x \udc00"), ("e", "a b"), ("a", "d"),
]  # fmt: skip
REASONS = [
    r"row 1 (id None) must have an id",
    r"row 2 (id 'c') must not be missing",
    r"row 3 (id 'd') must be valid Unicode",
    r"row 5 (id 'a') has the id of row 0",
]


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_bad_rows_are_reported_and_skipped(
    encoder: TextEncoder, tmp_path: Path, chunk_size: int
) -> None:
    out = tmp_path / "c.rec"
    found = encode_catalogue(BAD, encoder, out, on_error="skip", chunk_size=chunk_size)
    assert found.ids.tolist() == ["a", "e"]
    assert found.rows.tolist() == [0, 4]
    np.testing.assert_array_equal(found.vectors[0], found.vectors[1])
    assert [one.row for one in found.skipped] == [1, 2, 3, 5]
    for one, reason in zip(found.skipped, REASONS, strict=True):
        assert one.reason.startswith(reason)
    assert Catalogue.open(out).skipped == found.skipped


@pytest.mark.parametrize("place", [1, 2, 3, 5])
def test_bad_row_is_raised_and_leaves_the_rest_finished(
    encoder: TextEncoder, tmp_path: Path, place: int
) -> None:
    rows = [BAD[0], BAD[4], ("f", "p"), BAD[place]]
    text = REASONS[[1, 2, 3, 5].index(place)].partition(") ")[2].replace("row 0", "row 0")
    with pytest.raises(ValueError, match=text):
        encode_catalogue(rows, encoder, tmp_path / "c.rec", chunk_size=2)
    assert not (tmp_path / "c.rec").exists()
    found = encode_catalogue(rows, encoder, tmp_path / "c.rec", chunk_size=2, on_error="skip")
    assert found.counts["resumed"] >= 2
    assert [one.row for one in found.skipped] == [3]


def test_wrong_types_are_never_skipped(encoder: TextEncoder, tmp_path: Path) -> None:
    def tried(source: Any, **options: Any) -> None:
        encode_catalogue(source, encoder, tmp_path / "c.rec", on_error="skip", **options)

    with pytest.raises(TypeError, match=r"row 1 \(id 2\) must be a str, got int"):
        tried([(1, "a"), (2, 3)])
    with pytest.raises(TypeError, match="ids must be all integers or all strings"):
        tried([(1, "a"), ("b", "b")])
    with pytest.raises(TypeError, match="ids must be all integers or all strings, got both by row"):
        tried([(1, "a"), ("b", "b")], chunk_size=1)
    shutil.rmtree(tmp_path / "c.rec.parts")
    with pytest.raises(TypeError, match=r"source\[0\] must be a pair \(id, content\), got 'ab'"):
        tried(["ab"])
    with pytest.raises(TypeError, match="source must be a path or an iterable of pairs"):
        tried({1: "a"})
    with pytest.raises(TypeError, match="encoder must be a TextEncoder, ImageEncoder or Audio"):
        encode_catalogue([], np, tmp_path / "c.rec")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="column and id_column must go with a file"):
        tried([], column="a")
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip', got 'drop'"):
        encode_catalogue([], encoder, tmp_path / "c.rec", on_error="drop")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        encode_catalogue([], encoder, tmp_path / "none" / "c.rec")


def test_nothing_to_encode_is_an_empty_catalogue(encoder: TextEncoder, tmp_path: Path) -> None:
    found = encode_catalogue([], encoder, tmp_path / "c.rec")
    assert (found.vectors.shape, found.ids.tolist()) == ((0, encoder.dim), [])


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_files_are_sources(encoder: TextEncoder, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"films{suffix}"
    frame = pl.DataFrame({"n": [k for k, _ in ROWS], "title": [t for _, t in ROWS]})
    if suffix == ".parquet":
        frame.write_parquet(path, row_group_size=4)
    else:
        frame.write_csv(path, separator="," if suffix == ".csv" else "\t")
    out = tmp_path / "c.rec"
    found = encode_catalogue(path, encoder, out, column="title", id_column="n", chunk_size=5)
    keys: list[Any] = [k if suffix == ".parquet" else str(k) for k, _ in ROWS]
    assert found.ids.tolist() == keys
    numbered = encode_catalogue(path, encoder, out, column="title")
    assert numbered.ids.tolist() == list(range(len(ROWS)))
    np.testing.assert_allclose(numbered.vectors, found.vectors, atol=1e-6)
    with pytest.raises(ValueError, match="id_column must be one of n, title, got 'id'"):
        encode_catalogue(path, encoder, out, column="title", id_column="id")
    with pytest.raises(ValueError, match="column must say what to encode: one of n, title"):
        encode_catalogue(path, encoder, out)


def test_files_that_are_no_source_are_refused(encoder: TextEncoder, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "b.csv").write_text("n,title\n1,a,b\n")
    for name, error, message in (
        ("a.parquet", ValueError, "must be a readable .parquet file"),
        ("b.csv", ValueError, r"b.csv:2 must have 2 columns, got 3"),
        ("c.csv", FileNotFoundError, "there is no file"),
        ("d.json", ValueError, "source must end in .csv, .tsv, .parquet"),
    ):
        with pytest.raises(error, match=message):
            encode_catalogue(tmp_path / name, encoder, tmp_path / "o.rec", column="title")


def test_a_generator_is_read_chunk_by_chunk(encoder: TextEncoder, tmp_path: Path) -> None:
    ahead = 0

    def stream() -> Iterator[tuple[int, str]]:
        nonlocal ahead
        for number in range(20):
            ahead = number + 1
            yield number, "a b"

    seen: list[int] = []
    write = module.Parts.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Parts, "write", lambda *a: (seen.append(ahead), write(*a))[1])
        encode_catalogue(stream(), encoder, tmp_path / "c.rec", chunk_size=6)
    assert seen == [6, 12, 18, 20]


def test_progress_shows_rate_and_counts_on_stderr(
    encoder: TextEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_catalogue(ROWS, encoder, tmp_path / "c.rec", chunk_size=5, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "23/23" in err
    assert "/s" in err


STREAM = """
import resource, sys
import numpy as np
import recengine as rec
from recengine.encoders import catalogue
encoder = rec.TextEncoder(sys.argv[1], sys.argv[2], num_threads=1)

class Wide:  # a graph's worth of numbers without the graph's time: 2,048 floats a text
    digest, dim = "wide", 2048
    def encode(self, texts, on_error):
        vectors = np.ones((len(texts), self.dim), np.float32)
        return rec.encoders.skipping.encoded(vectors, {})

catalogue.kind_of = lambda encoder: "text"
def run(n, out):
    rows = ((i, f"a b {i}") for i in range(n))
    catalogue.encode_catalogue(rows, Wide(), out, chunk_size=1000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

few = run(2000, sys.argv[3])
print(run(12000, sys.argv[3]) - few)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads peak memory as Linux tells it")
def test_memory_is_that_of_a_chunk(folder: Path, tmp_path: Path) -> None:
    """12,000 vectors are 94 MiB; six times as many rows cost no more than a few chunks."""
    files = folder / "model.onnx", folder / "tokenizer.json"
    command = [sys.executable, "-c", STREAM, *map(str, files), str(tmp_path / "c.rec")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40
    assert len(Catalogue.open(tmp_path / "c.rec").ids) == 12_000


# --- damage ---------------------------------------------------------------------------------------


def test_damaged_catalogue_is_named(encoder: TextEncoder, tmp_path: Path) -> None:
    path = tmp_path / "c.rec"
    encode_catalogue(ROWS, encoder, path)
    raw = path.read_bytes()
    for at in range(0, len(raw), 37):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(BundleError):
            Catalogue.open(path)
    with pytest.raises(FileNotFoundError):
        Catalogue.open(tmp_path / "none.rec")


def test_damaged_cache_is_named_and_a_damaged_vector_is_made_again(
    encoder: TextEncoder, tmp_path: Path, counting: Counting
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "c.rec"
    found = encode_catalogue(ROWS, encoder, out, cache=cache)
    path = cache / f"{encoder.digest}.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE vectors SET vector = zeroblob(20) WHERE number = 2")
    database.close()
    counting.given.clear()
    again = encode_catalogue(ROWS, encoder, out, cache=cache)
    assert len(counting.given) == 1
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-6)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(BundleError, match=r"sqlite is damaged .*: delete it"):
        encode_catalogue(ROWS, encoder, out, cache=cache)


def test_cache_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    dim, n = 64, 3000
    bound = 200 * (4 * dim + OVERHEAD)
    vector = np.arange(dim, dtype=np.float32)
    with VectorCache(tmp_path, "x", dim, bound) as cache:
        for start in range(0, n, 100):
            cache.put({i.to_bytes(32, "big"): vector + i for i in range(start, start + 100)})
        kept = cache.get([i.to_bytes(32, "big") for i in range(n)])
    assert sorted(int.from_bytes(key, "big") for key in kept) == list(range(n - 200, n))
    np.testing.assert_array_equal(kept[(n - 1).to_bytes(32, "big")], vector + n - 1)
    assert (tmp_path / "x.sqlite").stat().st_size < 2 * bound
