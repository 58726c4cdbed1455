"""A forked child that leaves by the front door: onnxruntime 1.31 alone crashes it, or hangs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import save_tower

PARENT = """
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads: that is the test
import numpy as np
from recengine import BundleError
from recengine.runtime import open_session

session = open_session(sys.argv[1], num_threads=4)
x = np.arange(12, dtype=np.float32).reshape(4, 3)
expected = session.run({"x": x})[0]
pid = os.fork()
if pid == 0:
%s
    sys.exit(0)  # a whole shutdown of the interpreter, not os._exit
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert (session.run({"x": x})[0] == expected).all(), "the parent's session broke"
print("child", status)
"""

CHILDREN = {
    "does_nothing": "    pass",
    "runs": "    assert (session.run({'x': x})[0] == expected).all()",
    "drops_it": "    del session",
    "runs_then_forks_again": """
    assert (session.run({'x': x})[0] == expected).all()
    grandchild = os.fork()
    if grandchild:
        assert os.waitpid(grandchild, 0)[1] == 0
    assert (session.run({'x': x})[0] == expected).all()""",
    "runs_in_threads": """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: session.run({'x': x})[0], range(8)):
            assert (found == expected).all()""",
    "meets_another_file": """
    open(session.path, "ab").write(b"x")
    try:
        session.run({'x': x})
    except BundleError as error:
        assert "is not the file it was" in str(error)
    else:
        sys.exit("a changed file was opened")""",
}


@pytest.mark.parametrize("name", CHILDREN)
def test_fork_leaves_the_child_a_working_session(tmp_path: Path, name: str) -> None:
    path = save_tower(tmp_path / "tower.onnx", np.eye(3, dtype=np.float32))
    command = [sys.executable, "-c", PARENT % CHILDREN[name], str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "child 0", "")
