"""Make a smaller graph of a graph: int8, float16 or pruned."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recengine._errors import BundleError
from recengine.runtime._by_rows import ROWS, quantize_rows
from recengine.runtime._create import CPU, new_session
from recengine.runtime._wheel import SILENT, load_onnxruntime

METHODS = ("row-int8", "dynamic-int8", "static-int8", "float16", "pruned")
# What onnxruntime runs in int8 with scales taken at run time. Its convolutions of that kind are
# slower than float ones, so graphs of convolutions are for static-int8.
DYNAMIC = ("MatMul", "Gemm", "Gather", "Attention", "LSTM")
# What is run in int8 with scales from the samples: not the norms and sums of a transformer, whose
# few large values take the scale of all others (MiniLM kept 0.65 of its neighbours with them, 0.79
# without).
STATIC = ("Conv", "MatMul", "Gemm", "Gather", "Relu", "LeakyRelu", "Clip", "MaxPool")
FLOAT, FLOAT16 = 1, 10  # of TensorProto.DataType
SMALL = 1024  # numbers of a weight that is not worth pruning


def shrink(
    source: Path,
    target: Path,
    method: str,
    *,
    feeds: Iterable[Mapping[str, Any]] = (),
    sparsity: float = 0.5,
) -> None:
    """Write the graph in `source` to `target`, made smaller by `method`.

    Parameters
    ----------
    source, target : Path
        ONNX files; `target` lies in a folder of its own, which takes other files meanwhile.
    method : {"row-int8", "dynamic-int8", "static-int8", "float16", "pruned"}
    feeds : iterable of mappings
        What calibrates static-int8.
    sparsity : float
        The share of each weight that "pruned" sets to 0.

    Raises
    ------
    BundleError
        If `source` is no ONNX model.
    ValueError
        If the method cannot be used on it, or finds nothing to change.
    ImportError
        Without `onnx`.
    """
    ort = load_onnxruntime()
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "making a model smaller needs the onnx library: pip install 'recengine[onnx]'"
        ) from None
    new_session(ort, source, [CPU], 1)  # a damaged file is refused here, by name
    folded = target.with_name("folded.onnx")
    _fold(ort, source, folded)
    model = onnx.load(folded)
    try:
        if method == "pruned":
            changed = _prune(onnx, model, sparsity)
        elif method == "row-int8":
            changed = quantize_rows(onnx, model)
        elif method == "float16":
            model, changed = _as_float16(model)
        else:
            model = _as_int8(onnx, model, target, method, feeds)
            changed = any("Quantize" in node.op_type for node in model.graph.node)
    except Exception as error:  # onnxruntime's tools raise whatever their own code stumbles on
        raise ValueError(f"{source.name} cannot be made {method}: {error!r}") from error
    if not changed:
        kinds = {"row-int8": ROWS, "dynamic-int8": DYNAMIC}.get(method, ("float32 weights",))
        what = ", ".join(kinds)
        raise ValueError(f"{source.name} cannot be made {method}: it has no {what} to change")
    onnx.save(model, target)


def _fold(ort: Any, source: Path, target: Path) -> None:
    """Write the graph with its constants folded: what is float on the way becomes a weight."""
    told = ort.SessionOptions()
    told.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    told.optimized_model_filepath = str(target)
    told.intra_op_num_threads = told.inter_op_num_threads = 1
    told.log_severity_level = SILENT
    try:
        ort.InferenceSession(str(source), told, providers=[CPU], enable_fallback=0)
    except Exception as error:  # its exceptions have no common root
        raise BundleError(f"{source} cannot be opened as an ONNX model: {error}") from error


def _as_int8(
    onnx: Any, model: Any, target: Path, method: str, feeds: Iterable[Mapping[str, Any]]
) -> Any:
    tools = importlib.import_module("onnxruntime.quantization")
    prepared = importlib.import_module("onnxruntime.quantization.quant_utils")
    prepared.add_pre_process_metadata(model)  # it is: or the tools log that it is not
    with _quiet():
        return _quantized(onnx, tools, model, target, method, feeds)


def _quantized(
    onnx: Any, tools: Any, model: Any, target: Path, method: str, feeds: Iterable[Mapping[str, Any]]
) -> Any:
    weights = {"weight_type": tools.QuantType.QInt8, "per_channel": True}
    if method == "dynamic-int8":
        tools.quantize_dynamic(model, target, op_types_to_quantize=list(DYNAMIC), **weights)
        return onnx.load(target)
    given = iter(feeds)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(given, None)

    tools.quantize_static(
        model,
        target,
        Reader(),
        activation_type=tools.QuantType.QUInt8,
        op_types_to_quantize=list(STATIC),
        **weights,
    )
    return onnx.load(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what onnxruntime's tools log from the root logger, and the root logger as it is."""
    root, nothing = logging.getLogger(), logging.NullHandler()

    def foreign(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addHandler(nothing)  # without one, logging.warning would install its own for good
    root.addFilter(foreign)
    try:
        yield
    finally:
        root.removeFilter(foreign)
        root.removeHandler(nothing)


def _as_float16(model: Any) -> tuple[Any, bool]:
    converter = importlib.import_module("onnxruntime.transformers.float16")
    half = converter.convert_float_to_float16(model, keep_io_types=True)
    return half, any(weight.data_type == FLOAT16 for weight in half.graph.initializer)


def _prune(onnx: Any, model: Any, sparsity: float) -> bool:
    """Set the smallest numbers of each large float32 weight to 0; tell whether there was one."""
    changed = False
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight) if weight.data_type == FLOAT else np.empty(0)
        if values.ndim < 2 or values.size < SMALL:
            continue
        limit = np.quantile(np.abs(values), sparsity)
        kept = np.where(np.abs(values) > limit, values, np.float32(0))
        weight.CopyFrom(onnx.numpy_helper.from_array(kept, weight.name))
        changed = True
    return changed
