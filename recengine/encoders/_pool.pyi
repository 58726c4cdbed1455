from typing import Any

from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array

def token_means(hidden: NDArray[Any], lengths: Int64Array) -> Float32Array: ...
def scale_rows(vectors: Float32Array) -> bool: ...
