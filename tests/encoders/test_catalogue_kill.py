"""A real kill of a real run: MiniLM over the titles of ml-100k, from a Parquet file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recengine as rec

N_FILMS, CHUNK = 400, 50

RUN = """
import resource, sys
import recengine as rec
encoder = rec.TextEncoder.open(sys.argv[1], num_threads=1)
found = rec.encode_catalogue(
    sys.argv[2], encoder, sys.argv[3], column="title", id_column="item_id",
    chunk_size=int(sys.argv[4]), batch_size=16,
)
print(found.counts["resumed"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, ml_100k_folder: Path) -> Path:
    """Return a Parquet file of item_id and title, a third of them longer."""
    from recengine.data import load_ml_100k

    _, items, _ = load_ml_100k()
    path = tmp_path_factory.mktemp("films") / "films.parquet"
    title = pl.col("title")
    longer = pl.when(pl.int_range(pl.len()) % 3 == 0).then(
        pl.concat_str([title] * 4, separator="; ")
    )
    pl.DataFrame(items).head(N_FILMS).select("item_id", longer.otherwise(title)).write_parquet(path)
    return path


def command(minilm: Path, films: Path, out: Path, chunk: int = CHUNK) -> list[str]:
    return [sys.executable, "-c", RUN, str(minilm), str(films), str(out), str(chunk)]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_run_goes_on_and_ends_in_the_same_bytes(
    minilm_folder: Path, films: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.rec", tmp_path / "films.rec"
    subprocess.run(command(minilm_folder, films, whole), check=True, timeout=120)
    parts = tmp_path / "films.rec.parts"
    finished = 0
    for _ in range(2):  # kill it twice, each time when one more chunk is finished
        process = subprocess.Popen(command(minilm_folder, films, out))
        deadline = time.monotonic() + 60
        while len(list(parts.glob("*.part"))) <= finished and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        finished = len(list(parts.glob("*.part")))
        assert 0 < finished < N_FILMS // CHUNK
        assert not out.exists()
    done = subprocess.run(
        command(minilm_folder, films, out), check=True, capture_output=True, text=True, timeout=120
    )
    assert int(done.stdout.split()[0]) == finished * CHUNK
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()

    catalogue = rec.Catalogue.open(out)
    encoder = rec.TextEncoder.open(minilm_folder, num_threads=1)
    index = rec.FlatIndex(catalogue.vectors, catalogue.ids)
    titles = dict(pl.read_parquet(films).iter_rows())
    ids, _ = index.search(encoder.encode_query("a toy cowboy and a space ranger"), k=3)
    assert any("Toy Story" in titles[key] for key in ids)
    sample = [titles[key] for key in catalogue.ids[:3].tolist()]
    alone = np.stack([encoder.encode_query(title) for title in sample])
    np.testing.assert_allclose(catalogue.vectors[:3], alone, atol=1e-4)
