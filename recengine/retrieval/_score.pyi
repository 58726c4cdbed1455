from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._vectors import Vectors

def squared_norms(api: object, vectors: Vectors) -> Float64Array: ...
def reach(metric: int, sq_norms: Float64Array) -> Float32Array: ...
def rank(
    api: object,
    metric: int,
    queries: Float32Array,
    vectors: Vectors,
    sq_norms: Float64Array,
    indptr: Int64Array,
    rows: Int64Array,
    *,
    bias: Float32Array | None = None,
    num_threads: int = 1,
) -> Float32Array: ...
def pairwise(
    api: object, metric: int, a: Float32Array, b: Float32Array, *, num_threads: int = 1
) -> Float32Array: ...
