from typing import Any

import numpy as np
from numpy.typing import NDArray

def simd_levels() -> list[str]: ...
def simd_level() -> str: ...
def num_cpus() -> int: ...
def num_workers() -> int: ...
def scratch_bytes() -> int: ...
def api(level: str = "") -> Any: ...
def nominate(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    metric: str,
    level: str,
    one_by_one: bool = False,
) -> NDArray[np.float32]: ...
def canonical(
    queries: NDArray[np.float32], items: NDArray[np.float32], kind: str, level: str
) -> NDArray[np.float64]: ...
def encode(
    vectors: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16],
    sq_norms: NDArray[np.float64],
    metric: int,
    num_threads: int = 1,
    order: NDArray[np.int64] | None = None,
) -> dict[str, Any]: ...

class AlsHalf:
    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        confidences: NDArray[np.float32],
        shift: float,
        fixed: NDArray[np.float32],
        spectrum: NDArray[np.float64],
        ridges: NDArray[np.float64],
        into_basis: NDArray[np.float32],
        out_of_basis: NDArray[np.float32],
        prior: NDArray[np.float32] | None,
        solved: NDArray[np.float32],
        solver: str,
        steps: int,
        block: int,
        level: str = "",
    ) -> None: ...
    def solve(self, start: int, stop: int) -> int: ...

def als_loss(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    confidences: NDArray[np.float32],
    shift: float,
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    start: int,
    stop: int,
    level: str = "",
) -> float: ...
def float_table(n_rows: int, n_columns: int) -> NDArray[np.float32]: ...
def rotate_rows(
    rows: NDArray[np.float32],
    panels: NDArray[np.float32],
    out: NDArray[np.float32],
    start: int,
    stop: int,
    level: str = "",
) -> None: ...
def add_gram(
    rows: NDArray[np.float32],
    out: NDArray[np.float64],
    start: int,
    stop: int,
    level: str = "",
) -> None: ...
