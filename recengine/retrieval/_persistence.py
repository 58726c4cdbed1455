"""A FlatIndex as one file: arrays with checksums, no code."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine.data import IdMap
from recengine.retrieval import _column_storage
from recengine.retrieval._coding import rows_inside
from recengine.retrieval._compaction import compacted
from recengine.retrieval._generation import Generation, first_generation
from recengine.retrieval._segment import Segment
from recengine.retrieval._table import Table
from recengine.retrieval._vectors import DTYPES, STORAGES, storage_of
from recengine.retrieval.similarity import METRICS
from recengine.storage import pack_ids, read_bundle, unpack_ids, write_bundle

KIND = "flat-index"
SCHEMA = 5  # also of what the codes mean: raise it when `_coding.encode` changes
CODES = "codes/"


def save(path: str | os.PathLike[str], generation: Generation) -> None:
    """Write one generation to `path`, its delta folded in."""
    base = compacted(generation)
    arrays: dict[str, NDArray[Any]] = {
        "vectors": base.vectors,
        "sq_norms": base.sq_norms,
        "reach": base.reach,
        **pack_ids("ids", generation.book.all_names(generation.n_ordinals)),
    }
    if base.ordinals is not None:
        arrays["ordinals"] = base.ordinals
    meta: dict[str, Any] = {
        "metric": METRICS[generation.metric],
        "storage": storage_of(base.vectors),
    }
    if base.codes is not None:
        numbers = {}
        for name, value in base.codes.items():
            if isinstance(value, np.ndarray):
                arrays[CODES + name] = value
            else:
                numbers[name] = value
        meta["codes"] = numbers
    if base.bias is not None:
        arrays["bias"] = base.bias
    if generation.columns.kinds:
        columns, meta["columns"] = _column_storage.pack(generation.columns)
        arrays |= columns
    write_bundle(path, arrays, meta, kind=KIND, schema=SCHEMA)


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Generation:
    """Read what `save` wrote. The checksums hold; what the arrays mean is checked here."""
    bundle = read_bundle(path, kind=KIND, schema=SCHEMA, verify=verify)
    arrays = bundle.arrays
    try:
        metric = bundle.meta["metric"]
        storage = bundle.meta["storage"]
        vectors = arrays["vectors"]
        norms = arrays["sq_norms"]
        reach = arrays["reach"]
        ids = IdMap(unpack_ids("ids", arrays))
    except KeyError as missing:
        raise BundleError(f"{path}: a flat index must hold {missing}") from None
    except ValueError as error:
        raise BundleError(f"{path}: ids of a flat index: {error}") from None
    _require(path, metric in METRICS, f"metric {metric!r} is not one of {METRICS}")
    _require(path, storage in STORAGES, f"storage {storage!r} is not one of {STORAGES}")
    fits = vectors.ndim == 2 and vectors.dtype == DTYPES[storage]
    _require(path, fits, f"vectors are not {storage} 2-D")
    n_rows, dim = vectors.shape
    _require(path, dim >= 1, "vectors have dim 0")
    _require(path, norms.shape == (n_rows,) and norms.dtype == np.float64, "norms do not fit")
    _require(path, reach.shape == (n_rows,) and reach.dtype == np.float32, "reach does not fit")
    ordinals = arrays.get("ordinals")
    if ordinals is None:
        _require(path, len(ids) >= n_rows, "ids do not fit the vectors")
    else:
        _require(path, _are_ordinals(ordinals, n_rows, len(ids)), "ordinals do not fit")
    number = METRICS.index(metric)
    segment = Segment(vectors, norms, reach, ordinals, True, None)
    codes = _codes(path, arrays, bundle.meta, segment)
    bias = arrays.get("bias")
    if bias is not None:
        fits = bias.shape == (n_rows,) and bias.dtype == np.float32 and METRICS[number] != "l2"
        _require(path, fits and bool(np.isfinite(bias).all()), "bias does not fit")
    columns = None
    if "columns" in bundle.meta:
        try:
            columns = _column_storage.unpack(arrays, bundle.meta["columns"], len(ids))
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
    base = replace(segment, codes=codes, bias=bias)
    return first_generation(base, ids, number, columns)


def _are_ordinals(ordinals: NDArray[Any], n_rows: int, n_ids: int) -> bool:
    if ordinals.shape != (n_rows,) or ordinals.dtype != np.int64:
        return False
    ascending = bool((ordinals[1:] > ordinals[:-1]).all())
    return n_rows == 0 or (ascending and ordinals[0] >= 0 and ordinals[-1] < n_ids)


def _codes(
    path: str | os.PathLike[str], arrays: Any, meta: Any, segment: Segment
) -> dict[str, Any] | None:
    """Return the saved codes, None where there are none.

    The scan trusts where they point to, so that is checked; whether they are those of the vectors
    is for the checksums.
    """
    if "codes" not in meta:
        return None
    codes = {name[len(CODES) :]: arrays[name] for name in arrays if name.startswith(CODES)}
    _require(path, _are_slots(codes, segment.n_rows), "codes are not in an order of the rows")
    _require(path, _are_groups(codes), "codes are not in groups")
    try:
        codes.update(meta["codes"])
        Table(segment.vectors, segment.sq_norms, segment.reach, codes=codes)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: codes of a flat index: {error}") from None
    if codes["rows_inside"]:
        rows = rows_inside(codes["high"], segment.n_rows)
        _require(
            path, _is_permutation(rows, segment.n_rows), "codes are not in an order of the rows"
        )
    return codes


def _are_slots(codes: dict[str, Any], n_rows: int) -> bool:
    """Whether the slots hold each row once: in some order, equal rows perhaps in one slot."""
    order, members, starts = (codes.get(name) for name in ("order", "members", "starts"))
    for part, dtype in ((order, np.int32), (members, np.int64), (starts, np.int64)):
        if part is not None and (part.ndim != 1 or part.dtype != dtype):
            return False
    if members is None or starts is None:
        return members is starts and (order is None or _is_permutation(order, n_rows))
    return (
        _is_permutation(members, n_rows)
        and len(starts) > 1
        and (starts[0], starts[-1]) == (0, n_rows)
        and bool((starts[1:] > starts[:-1]).all())
        and order is not None
        and np.array_equal(order, members[starts[:-1]])
    )


def _are_groups(codes: dict[str, Any]) -> bool:
    """Whether panels follow each other in groups, and groups about axes; the scan counts them."""
    for name in ("axis_starts", "group_starts") if "axes" in codes else ():
        starts = codes.get(name)
        if starts is None or starts.ndim != 1 or starts.dtype != np.int64:
            return False
        if not (starts[1:] > starts[:-1]).all():
            return False
    return True


def _is_permutation(order: NDArray[Any], n_rows: int) -> bool:
    if len(order) != n_rows or (n_rows and (order.min() < 0 or order.max() >= n_rows)):
        return False
    return bool((np.bincount(order, minlength=n_rows) == 1).all())


def _require(path: str | os.PathLike[str], holds: bool, problem: str) -> None:
    if not holds:
        raise BundleError(f"{path}: {problem}")
