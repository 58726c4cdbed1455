from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._table import Table
from recengine.retrieval._vectors import Vectors

Answer = tuple[Int64Array, Float32Array, dict[str, Any]]
Words = NDArray[np.uint64]
Part = tuple[Table, Words | None, Words | None, Int64Array | None, Float32Array | None]

def search(
    api: object,
    metric: int,
    queries: Float32Array,
    vectors: Vectors,
    sq_norms: Float64Array,
    reach: Float32Array,
    k: int,
    *,
    ordinals: Int64Array | None = None,
    ascending: bool = True,
    alive: Words | None = None,
    mask: Words | None = None,
    rows: Int64Array | None = None,
    exclude_indptr: Int64Array | None = None,
    exclude_rows: Int64Array | None = None,
    bias: Float32Array | None = None,
    min_score: float = ...,
    num_threads: int = 1,
    deadline_ns: int = 0,
    codes: dict[str, Any] | None = None,
    coarse: bool = True,
) -> Answer: ...
def search_parts(
    api: object,
    metric: int,
    queries: Float32Array,
    parts: Sequence[Part],
    k: int,
    *,
    exclude_indptr: Int64Array | None = None,
    exclude_rows: Int64Array | None = None,
    min_score: float = ...,
    num_threads: int = 1,
    deadline_ns: int = 0,
) -> Answer: ...
