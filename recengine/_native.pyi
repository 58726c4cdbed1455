from typing import Any

import numpy as np
from numpy.typing import NDArray

def simd_levels() -> list[str]: ...
def simd_level() -> str: ...
def num_cpus() -> int: ...
def num_workers() -> int: ...
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
