"""kill -9 at any moment: what was acknowledged is there, once, and the engine has its bits."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from brute_force import make_inter, make_model

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

N_KILLS, N_THREADS = 20, 4
USERS = [*range(10**6, 10**6 + 3), 107]
ASKED = [*USERS, 114, 121]


@pytest.fixture
def start(rng, tmp_path):
    """Return the file of an engine, and its items."""
    inter = make_inter(rng)
    content = rng.standard_normal((len(inter.items), 6))
    weights = {"model": 1.0, "content": 0.5, "popularity": 0.01}
    engine = rec.Engine.build(inter, make_model(rng, inter), content, weights=weights)
    engine.save(tmp_path / "start.rec")
    return tmp_path / "start.rec", inter.items.ids.tolist()


def ingest(path, folder, items, generation, told, *, saving):
    """Observe from several threads until killed; tell of each event when it has returned."""
    log = rec.EventLog(folder, sync="always", segment_bytes=4096)
    engine = rec.Engine.load(path, log=log)

    def write(thread):
        number = 0
        while True:
            number += 1
            user, item = USERS[(thread + number) % len(USERS)], items[number % len(items)]
            weight = generation * 2**14 + number * N_THREADS + thread + 0.25
            engine.observe(user, item, weight)  # no two events have one weight
            os.write(told, f"{user} {item} {weight!r}\n".encode())

    for thread in range(N_THREADS):
        threading.Thread(target=write, args=(thread,), daemon=True).start()
    while True:
        time.sleep(0.002)
        if saving:
            saved = engine.save(path)
            keep(folder, folder.parent / "archive")
            log.truncate(before=saved)


def keep(folder, archive):
    """Give every segment a second name, under which it stays when it is truncated."""
    for segment in folder.glob("*.log"):
        with contextlib.suppress(FileExistsError):
            os.link(segment, archive / segment.name)


def killed(path, folder, items, generation, *, saving):
    """Run `ingest` in a child, kill it, and return what it acknowledged."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            ingest(path, folder, items, generation, write, saving=saving)
        finally:
            os._exit(1)
    os.close(write)
    data = b""
    while not data and select.select([read], [], [], 60)[0]:  # from its first event on
        data += os.read(read, 1 << 16)
    end = time.monotonic() + random.Random(generation).random() * 0.2
    while (left := end - time.monotonic()) > 0:
        if select.select([read], [], [], left)[0]:
            data += os.read(read, 1 << 16)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while part := os.read(read, 1 << 16):
        data += part
    os.close(read)
    lines = data.decode().splitlines()
    assert lines
    return [(int(user), int(item), float(weight)) for user, item, weight in map(str.split, lines)]


def bits(engine):
    got = engine.recommend(ASKED, 30, exclude_seen=False)
    histories = [[part.tobytes() for part in engine.history(user)] for user in USERS]
    return got.ids.tolist(), got.scores.tobytes(), histories


@pytest.mark.parametrize("saving", [False, True], ids=["replayed", "saved and truncated"])
def test_every_acknowledged_event_is_there_once_after_any_kill(start, tmp_path, saving):
    path, items = start
    shutil.copy(path, tmp_path / "first.rec")
    archive, folder, acknowledged = tmp_path / "archive", tmp_path / "log", []
    archive.mkdir()
    for generation in range(N_KILLS if not saving else N_KILLS // 2):
        acknowledged += killed(path, folder, items, generation, saving=saving)
        with rec.EventLog(folder) as log:
            keep(folder, archive)
            events = [tuple(event[1:4]) for event in rec.EventLog.tail(archive)]
            assert len(events) == log.sequence
            restarted = rec.Engine.load(path, log=log)
        assert len(set(events)) == len(events)
        assert set(acknowledged) <= set(events)
        assert len(events) <= len(acknowledged) + N_THREADS * (generation + 1)
    if saving:
        assert len(list(folder.glob("*.log"))) < len(list(archive.glob("*.log")))
    uninterrupted = rec.Engine.load(tmp_path / "first.rec")
    for event in events:
        uninterrupted.observe(*event)
    assert bits(restarted) == bits(uninterrupted)
