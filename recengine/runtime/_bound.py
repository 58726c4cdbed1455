"""`BoundCalls`: runs over buffers that stay on the device, one set of them per call in flight."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine.runtime._calls import Arrays, Calls
from recengine.runtime._create import Native, parse_device
from recengine.runtime.options import RuntimeOptions
from recengine.runtime.ports import Port

MOST_IDLE = 32  # sets of buffers that wait for a next call, over all shapes
Shapes = tuple[tuple[int, ...], ...]


class _Buffers:
    """Inputs and outputs of one set of shapes, bound once.

    An output whose shape does not follow from the inputs' is bound to the device alone:
    onnxruntime then allocates it in every run.
    """

    def __init__(self, calls: BoundCalls, arrays: Arrays, outputs: list[Any] | None) -> None:
        self._where = calls.where
        make = calls.ort.OrtValue.ortvalue_from_shape_and_type
        self._inputs = {
            name: make(list(array.shape), array.dtype, *calls.where)
            for name, array in arrays.items()
        }
        self.binding = calls.native.io_binding()
        for name, value in self._inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        self._outputs = None
        if outputs is None:
            for port in calls.outputs:
                self.binding.bind_output(port.name, *calls.where)
        else:
            self._outputs = [make(shape, dtype, *calls.where) for shape, dtype in outputs]
            for port, value in zip(calls.outputs, self._outputs, strict=True):
                self.binding.bind_ortvalue_output(port.name, value)

    def run(self, native: Any, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        for name, value in self._inputs.items():
            value.update_inplace(arrays[name])
        self.binding.synchronize_inputs()
        native.run_with_iobinding(self.binding, options)
        self.binding.synchronize_outputs()
        found = self._outputs or self.binding.get_outputs()
        on_cpu = self._where[0] == "cpu"
        # from a device it is a copy; on the CPU it is the buffer itself, which the next call fills
        return [np.array(value.numpy(), copy=on_cpu or None) for value in found]


class BoundCalls(Calls):
    """Calls over bound buffers; with `graphs`, warmed shapes are replayed as CUDA graphs.

    Parameters
    ----------
    ort, native, outputs, shrink
        As of `Calls`.
    inputs : tuple of Port
    where : (str, int)
        The device of the buffers, as onnxruntime names it.
    graphs : bool
        The session was made with CUDA graphs: runs come one after another, since onnxruntime
        replays no two at once.

    Notes
    -----
    At most `MOST_IDLE` sets of buffers wait; those of the shapes used longest ago go first. The
    shapes of warmed graphs stay: a recorded graph keeps its addresses.
    """

    def __init__(
        self,
        ort: Any,
        native: Any,
        *,
        inputs: tuple[Port, ...],
        outputs: tuple[Port, ...],
        where: tuple[str, int],
        graphs: bool = False,
        shrink: str = "",
    ) -> None:
        super().__init__(ort, native, outputs=outputs, shrink=shrink)
        self.native, self.where = native, where
        self.inputs, self.outputs = inputs, outputs
        self._shapes_follow = True
        self._lock = threading.Lock()
        self._idle: OrderedDict[Shapes, list[_Buffers]] = OrderedDict()
        self._one_at_a_time = threading.Lock() if graphs else None
        self._reuses_options = not graphs  # the number of a graph is written into them
        self._graphs: dict[Shapes, tuple[str, _Buffers]] = {}

    def warm(self, arrays: Arrays) -> None:
        """Run once, and record the shapes as a CUDA graph where there are any."""
        if self._one_at_a_time is None:
            self.run(arrays, None)
            return
        with self._one_at_a_time:
            shapes = _shapes(arrays)
            if shapes not in self._graphs:
                sizes = self._output_sizes(arrays)
                if sizes is None:
                    raise ValueError(
                        "options['cuda_graph'] must go with outputs whose shapes follow from "
                        f"the inputs', got {'; '.join(map(str, self.outputs))}"
                    )
                self._graphs[shapes] = str(len(self._graphs) + 1), _Buffers(self, arrays, sizes)
            for _ in range(3):  # it records after its own warm-up, then replays
                self._replay(shapes, arrays, self._run_options())

    def _run(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        if not all(array.size for array in arrays.values()):
            return super()._run(arrays, options)  # a buffer must hold something
        if self._one_at_a_time is None:
            return self._pooled(arrays, options)
        if options is self._usual:
            options = self._run_options()
        with self._one_at_a_time:
            shapes = _shapes(arrays)
            if shapes in self._graphs:
                return self._replay(shapes, arrays, options)
            options.add_run_config_entry("gpu_graph_id", "-1")
            return self._pooled(arrays, options)

    def _replay(self, shapes: Shapes, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        number, buffers = self._graphs[shapes]
        options.add_run_config_entry("gpu_graph_id", number)
        return buffers.run(self.native, arrays, options)

    def _pooled(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        sizes = self._output_sizes(arrays)
        buffers = self._taken(_shapes(arrays)) or _Buffers(self, arrays, sizes)
        try:
            results = buffers.run(self.native, arrays, options)
        except Exception:  # onnxruntime's exceptions have no common root, and here no kind
            results = super()._run(arrays, options)  # raises what is wrong, if it is the arrays
            self._shapes_follow = False  # it was the graph, which describes its outputs wrongly
            return results  # without these buffers: their state is not known
        self._give_back(_shapes(arrays), buffers)
        return results

    def _output_sizes(self, arrays: Arrays) -> list[Any] | None:
        """Return (shape, dtype) of each output where the inputs' shapes tell them all."""
        sizes: dict[Any, int] = {}
        for port in self.inputs:
            sizes.update(zip(port.shape, arrays[port.name].shape, strict=False))
        found: list[Any] = []
        for port in self.outputs:
            shape = [n if isinstance(n, int) else sizes.get(n or "") for n in port.shape]
            if not (self._shapes_follow and shape and port.dtype and all(shape)):
                return None
            found.append((shape, port.dtype))
        return found

    def _taken(self, shapes: Shapes) -> _Buffers | None:
        with self._lock:
            waiting = self._idle.get(shapes)
            if not waiting:
                return None
            self._idle.move_to_end(shapes)
            return waiting.pop()

    def _give_back(self, shapes: Shapes, buffers: _Buffers) -> None:
        with self._lock:
            self._idle.setdefault(shapes, []).append(buffers)
            self._idle.move_to_end(shapes)
            while sum(map(len, self._idle.values())) > MOST_IDLE:
                oldest = next(iter(self._idle))
                self._idle[oldest] = self._idle[oldest][1:]
                if not self._idle[oldest]:
                    del self._idle[oldest]


def _shapes(arrays: Arrays) -> Shapes:
    return tuple(array.shape for array in arrays.values())


def calls_of(
    made: Native, options: RuntimeOptions, inputs: tuple[Port, ...], outputs: tuple[Port, ...]
) -> Calls:
    """Return calls over pooled buffers on a GPU; plain ones on the CPU, where they are as fast."""
    on_gpu, number = made.device != "cpu", parse_device(made.device)[1]
    shrink = ""
    if options.shrink:
        shrink = f"cpu:0;gpu:{number}" if on_gpu else "cpu:0"
    if not on_gpu:
        return Calls(made.ort, made.session, outputs=outputs, shrink=shrink)
    return BoundCalls(
        made.ort,
        made.session,
        inputs=inputs,
        outputs=outputs,
        where=("cuda", number),
        graphs=options.cuda_graph,
        shrink=shrink,
    )
