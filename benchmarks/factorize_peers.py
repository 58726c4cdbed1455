"""implicit and irspack as engines of the factorization benchmark, at their best settings.

How our parameters map, with c = `alpha` times the weight of an observed pair, checked by equal
losses of the exact solvers from equal factors:

- implicit 0.7, objective "implicit": the same names; BLAS held to one thread as its manual asks.
- irspack 0.5, objective "ials": `IALSPP` loss; interaction c, alpha0 = unobserved_weight,
  reg = regularization, nu = frequency_exponent.
- irspack 0.5, objective "implicit": `ORIGINAL` loss adds alpha0 to every stored interaction, so
  interaction c - 1 (>= 0, zeros stored), alpha0 = 1, nu = 0.

Block descent of irspack takes blocks of 64 coordinates, its default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from factorize_engines import Ours, Peer, Problem, Yardstick
from factorize_page import OURS
from scipy.sparse import csr_matrix

import recengine as rec

SOLVERS = {
    ("implicit", "implicit"): ("cg", "cholesky"),
    ("implicit", "irspack"): ("cg", "cholesky", "ialspp"),
    ("ials", "implicit"): (),
    ("ials", "irspack"): ("cg", "cholesky", "ialspp"),
}
CG_STEPS = 3  # of both, their default
CORE = "SkylakeX"  # kernels of OpenBLAS for AVX-512, which it does not always choose itself
WORKER = Path(__file__).with_name("factorize_worker.py")


class Implicit(Peer):
    """implicit's loop of `fit`, one turn a call."""

    def __init__(self, problem: Problem, matrix: Any, solver: str, threads: int) -> None:
        import threadpoolctl
        from implicit.cpu.als import AlternatingLeastSquares

        self._problem, self._matrix = problem, matrix
        self._blas = threadpoolctl.ThreadpoolController()
        with self._blas.limit(limits=1, user_api="blas"):
            model = AlternatingLeastSquares(
                factors=problem.factors, use_cg=solver == "cg", num_threads=threads
            )
            model.cg_steps = CG_STEPS
            self._solve = model.solver
        self._options = {"num_threads": threads}

    def reset(self, users: Any, items: Any, epochs: int) -> None:
        self.users, self.items = users.copy(), items.copy()
        self._sides: Any = None

    def epoch(self) -> float:
        start, ridge = time.perf_counter(), self._problem.regularization
        if self._sides is None:
            by_user = csr_matrix(self._matrix) * self._problem.alpha
            self._sides = by_user, by_user.T.tocsr()
        with self._blas.limit(limits=1, user_api="blas"):
            self._solve(self._sides[0], self.users, self.items, ridge, **self._options)
            self._solve(self._sides[1], self.items, self.users, ridge, **self._options)
        return time.perf_counter() - start


class Irspack(Peer):
    """irspack's trainer, one step a call."""

    def __init__(self, problem: Problem, matrix: Any, solver: str, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what it uses of pydantic
            from irspack.recommenders import _ials_core as core

        c = csr_matrix(matrix * np.float32(problem.alpha), dtype=np.float32)
        is_ials = problem.objective == "ials"
        if not is_ials:
            if c.nnz and c.data.min() < 1:
                raise ValueError("irspack does implicit's objective where alpha * weight >= 1")
            c.data -= 1
        config = core.IALSModelConfigBuilder().set_K(problem.factors).set_init_stdev(0.1)
        config.set_loss_type(core.LossType.IALSPP if is_ials else core.LossType.ORIGINAL)
        config.set_alpha0(problem.unobserved_weight if is_ials else 1.0)
        config.set_reg(problem.regularization)
        config.set_nu(problem.frequency_exponent if is_ials else 0.0)
        steps = core.IALSSolverConfigBuilder().set_n_threads(threads).set_max_cg_steps(CG_STEPS)
        steps.set_solver_type(getattr(core.SolverType, solver.upper()))
        steps.set_ialspp_iteration(1).set_ialspp_subspace_dimension(min(64, problem.factors))
        self._make = lambda: core.IALSTrainer(config.build(), c)
        self._steps = steps.build()

    def reset(self, users: Any, items: Any, epochs: int) -> None:
        self._start: Any = (users, items)
        self._trainer: Any = None

    def epoch(self) -> float:
        start = time.perf_counter()
        if self._trainer is None:
            self._trainer = self._make()
            self._trainer.user, self._trainer.item = self._start
            self._start = None
        self._trainer.step(self._steps)
        return time.perf_counter() - start

    def loss(self, yardstick: Yardstick) -> float:
        return yardstick(self._trainer.user, self._trainer.item)


def own_environment() -> dict[str, str]:
    """Return the environment in which a process imports the same recengine."""
    return os.environ | {"PYTHONPATH": str(Path(rec.__file__).parents[1])}


class Remote(Peer):
    """An engine in a process of its own, for an environment set before libraries are loaded."""

    def __init__(self, given: dict[str, Any], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recengine-bench-")
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(given), self._folder.name],
            env=own_environment() | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, text: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"{WORKER.name} ended with {self._process.wait()}")
        return answer

    def reset(self, users: Any, items: Any, epochs: int) -> None:
        self._ask("reset")  # it draws the same factors

    def epoch(self) -> float:
        return float(self._ask("epoch"))

    def loss(self, yardstick: Yardstick) -> float:
        self._ask("factors")
        with np.load(Path(self._folder.name, "factors.npz")) as found:
            return yardstick(found["users"], found["items"])

    def close(self) -> None:
        self._process.communicate()  # an end of input ends the worker
        self._folder.cleanup()


KINDS: dict[str, Any] = {OURS: Ours, "implicit": Implicit, "irspack": Irspack}


def make(library: str, problem: Problem, matrix: Any, solver: str, threads: int) -> Any:
    """Return the engine of `library` in this process."""
    return KINDS[library](problem, matrix, solver, threads)
