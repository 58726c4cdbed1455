"""What a training tells while it runs, and that a killed one goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from recengine import ALS, BundleError
from recengine.storage import read_bundle

OPTIONS: dict[str, Any] = {"factors": 8, "iterations": 6, "random_state": 3}


def test_callback_hears_every_epoch_and_may_end_it(make_matrix: Any) -> None:
    matrix = make_matrix()
    heard: list[tuple[int, float]] = []
    model = ALS(**OPTIONS).fit(matrix, callback=lambda *said: heard.append(said))
    assert [epoch for epoch, _ in heard] == [1, 2, 3, 4, 5, 6]
    assert heard[-1][1] == model.loss(matrix)
    early = ALS(**OPTIONS).fit(matrix, callback=lambda epoch, _: epoch == 2)
    short = ALS(**(OPTIONS | {"iterations": 2})).fit(matrix)
    np.testing.assert_array_equal(early.item_factors_, short.item_factors_)


def test_what_a_callback_raises_leaves_the_model(make_matrix: Any) -> None:
    model = ALS(**OPTIONS).fit(make_matrix())
    before = model.item_factors_

    def stop(_epoch: int, _loss: float) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        model.fit(make_matrix(), callback=stop)
    assert model.item_factors_ is before
    with pytest.raises(TypeError, match="callback must be callable, got int"):
        model.fit(make_matrix(), callback=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["cg", "cholesky", "block"])
def test_resume_equals_an_uninterrupted_run(make_matrix: Any, tmp_path: Path, solver: str) -> None:
    matrix, path = make_matrix(), tmp_path / "als.ckpt"
    options = OPTIONS | {"solver": solver}
    whole = ALS(**options).fit(matrix)

    def stop(epoch: int, _loss: float) -> None:
        if epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ALS(**options).fit(matrix, callback=stop, checkpoint=path)
    epochs: list[int] = []
    rest = ALS(**options).fit(
        matrix, callback=lambda epoch, _: epochs.append(epoch), checkpoint=path
    )
    assert epochs == [5, 6]
    np.testing.assert_array_equal(rest.user_factors_, whole.user_factors_)
    np.testing.assert_array_equal(rest.item_factors_, whole.item_factors_)
    again = ALS(**options).fit(matrix, checkpoint=path)
    np.testing.assert_array_equal(again.item_factors_, whole.item_factors_)
    longer = ALS(**(options | {"iterations": 8}))
    np.testing.assert_array_equal(
        longer.fit(matrix, checkpoint=path).item_factors_, longer.fit(matrix).item_factors_
    )


def test_checkpoint_of_another_training_is_refused(make_matrix: Any, tmp_path: Path) -> None:
    matrix, path = make_matrix(), tmp_path / "als.ckpt"
    ALS(**OPTIONS).fit(matrix, checkpoint=path)
    changed = matrix.copy()
    changed.data[0] += 1
    init = (np.ones((60, 8), np.float32), np.ones((40, 8), np.float32))
    for fit in (
        lambda: ALS(**OPTIONS).fit(changed, checkpoint=path),
        lambda: ALS(**(OPTIONS | {"regularization": 0.5})).fit(matrix, checkpoint=path),
        lambda: ALS(**(OPTIONS | {"random_state": 4})).fit(matrix, checkpoint=path),
        lambda: ALS(**OPTIONS).fit(matrix, init=init, checkpoint=path),
    ):
        with pytest.raises(ValueError, match="checkpoint must be of the same data, settings"):
            fit()
    with pytest.raises(ValueError, match="iterations must be >= the 6 of the checkpoint, got 2"):
        ALS(**(OPTIONS | {"iterations": 2})).fit(matrix, checkpoint=path)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BundleError):
        ALS(**OPTIONS).fit(matrix, checkpoint=path)


PROGRAM = """
import sys
import numpy as np
from scipy.sparse import csr_array
from recengine import ALS
matrix = csr_array((np.random.default_rng(0).random((400, 300)) < 0.1).astype(np.float32))
model = ALS(16, iterations=40, random_state=1, num_threads=2)
print("ready", flush=True)
model.fit(matrix, checkpoint=sys.argv[1])
np.save(sys.argv[1] + ".npy", model.item_factors_)
"""


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(rng: Any, tmp_path: Path) -> None:
    path = tmp_path / "als.ckpt"
    matrix = csr_array((np.random.default_rng(0).random((400, 300)) < 0.1).astype(np.float32))
    whole = ALS(16, iterations=40, random_state=1).fit(matrix)
    kills, began = 0, 0.0
    reached = [0]
    while not Path(f"{path}.npy").exists():
        command = [sys.executable, "-c", PROGRAM, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            began = time.monotonic()
            if kills < 20:
                wait = rng.uniform(0.0, 0.12)
                while time.monotonic() - began < wait and child.poll() is None:
                    time.sleep(0.002)
                if child.poll() is None:
                    os.kill(child.pid, signal.SIGKILL)
                    kills += 1
            child.wait(timeout=60)
        if path.exists():
            reached.append(int(read_bundle(path, kind="training", schema=1).meta["epochs"]))
            assert reached[-1] >= reached[-2]
    assert kills > 0
    np.testing.assert_array_equal(np.load(f"{path}.npy"), whole.item_factors_)
