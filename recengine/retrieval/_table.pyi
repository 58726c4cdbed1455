from typing import Any

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._vectors import Vectors

class Table:
    def __init__(
        self,
        vectors: Vectors,
        sq_norms: Float64Array,
        reach: Float32Array,
        *,
        ordinals: Int64Array | None = None,
        ascending: bool = True,
        bias: Float32Array | None = None,
        codes: dict[str, Any] | None = None,
        coarse: bool = True,
    ) -> None: ...
