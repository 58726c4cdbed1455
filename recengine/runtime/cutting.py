"""Cut a graph at one of its tensors: what leads to it stays, the rest of the graph goes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recengine._errors import BundleError
from recengine.runtime.files import Built
from recengine.runtime.ports import Port

MOST_CANDIDATES = 16  # tensors that a message lists


def cut_at(source: Path | Built, output: str) -> Path | Built:
    """Return the part of the graph in `source` that makes the tensor `output`.

    Parameters
    ----------
    source : Path or Built
        An ``.onnx`` file, or a graph that this process made.
    output : str
        An output of the graph, or any tensor that one of its nodes makes.

    Returns
    -------
    Path or Built
        `source` itself where there is nothing to cut off, or nothing to cut with: without the
        package `onnx`.

    Raises
    ------
    BundleError
        If the file is no ONNX model.
    ValueError
        If the graph has no such tensor (the message lists those there are), or if it is made of
        constants alone.

    Notes
    -----
    The whole file is read, and no weights beside it. Graphs inside of a node (If, Loop, Scan) go
    or stay with their node; their tensors cannot be cut at. `onnx.utils.Extractor` is not used: it
    leaves out what such graphs read from outside, and refuses tensors of no known type and graphs
    with notes on quantisation.
    """
    try:
        import onnx
    except ImportError:
        return source
    model = read_model(source)
    folder = source.folder if isinstance(source, Built) else source.parent
    graph = model.graph
    if [port.name for port in graph.output] == [output] or not graph.node:
        return source
    nodes, wanted = _leading_to(graph, output)
    if not nodes:
        raise ValueError(_no_such_tensor(onnx, source.name, model, output))
    described = {port.name: port for port in (*graph.value_info, *graph.output)}
    taken = described.get(output, onnx.ValueInfoProto(name=output))
    _keep(graph.node, nodes)
    _keep_named(graph.input, wanted)
    _keep_named(graph.initializer, wanted)
    _keep_named(graph.value_info, wanted - {output})
    sparse, notes = graph.sparse_initializer, graph.quantization_annotation
    _keep(sparse, {i for i, entry in enumerate(sparse) if entry.values.name in wanted})
    _keep(notes, {i for i, note in enumerate(notes) if note.tensor_name in wanted})
    if not {port.name for port in graph.input} - {each.name for each in graph.initializer}:
        raise ValueError(f"output must depend on an input of {source.name}, got {output!r}")
    del graph.output[1:]
    if graph.output:
        graph.output[0].CopyFrom(taken)
    else:
        graph.output.append(taken)
    return Built(str(source), model.SerializeToString(), folder)


def taken(path: Path, outputs: tuple[Port, ...], output: str | None) -> tuple[Port, ...]:
    """Return the one of `outputs` that was asked for; all where none was."""
    if output is None:
        return outputs
    found = tuple(port for port in outputs if port.name == output)
    if not found:  # it would have been cut out, or refused
        raise ImportError(
            f"output {output!r} is none of those of {path.name} "
            f"({', '.join(port.name for port in outputs)}); to cut the graph at a tensor inside it "
            "needs onnx: pip install 'recengine[onnx]'"
        )
    return found


def read_model(source: Path | Built) -> Any:
    """Return the ``onnx.ModelProto`` of a graph, without the weights kept beside it.

    Raises
    ------
    BundleError
        If the file is no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        content = source.content if isinstance(source, Built) else source.read_bytes()
        return onnx.load_model_from_string(content)
    except DecodeError as error:
        raise BundleError(f"{source} cannot be opened as an ONNX model: {error}") from error


def _leading_to(graph: Any, output: str) -> tuple[set[int], set[str]]:
    """Return the numbers of the nodes that `output` needs, and the names they read or make."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    nodes: set[int] = set()
    names: set[str] = set()
    todo = [output] if output in makers else []
    while todo:
        name = todo.pop()
        number = makers.get(name, -1)
        names.add(name)
        if number >= 0 and number not in nodes:
            nodes.add(number)
            names.update(graph.node[number].output)
            todo += _read_by(graph.node[number])
    return nodes, names


def _read_by(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, those that graphs inside of it read among them."""
    todo = [node]
    while todo:
        inner = todo.pop()
        yield from inner.input
        for attribute in inner.attribute:
            for graph in (attribute.g, *attribute.graphs):
                todo += graph.node
                yield from (port.name for port in graph.output)


def _keep(entries: Any, numbers: set[int]) -> None:
    """Delete the other entries of a repeated field, in place: weights are not copied."""
    for number in reversed(range(len(entries))):
        if number not in numbers:
            del entries[number]


def _keep_named(entries: Any, names: set[str]) -> None:
    _keep(entries, {i for i, entry in enumerate(entries) if entry.name in names})


def _no_such_tensor(onnx: Any, name: str, model: Any, output: str) -> str:
    """Say which tensors there are: outputs, names alike, then the rest from the end backwards."""
    types = _types(onnx, model)
    made = [name for node in model.graph.node for name in node.output if name]
    outputs = [port.name for port in model.graph.output]
    order = dict.fromkeys((*outputs, *difflib.get_close_matches(output, made, 5), *made[::-1]))
    fit = [name for name in order if types.get(name, "float").startswith("float")]
    listed = "; ".join(f"{name} {types.get(name, '')}".strip() for name in fit[:MOST_CANDIDATES])
    more = len(fit) - MOST_CANDIDATES
    return (
        f"output must be a tensor that {name} makes: {listed}"
        f"{f' and {more} more' if more > 0 else ''}; got {output!r}"
    )


def _types(onnx: Any, model: Any) -> dict[str, str]:
    """Return tensor -> "float32 [n, 8]", as far as the file or inference can tell."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # whatever a damaged model makes it raise: then the file alone tells
        graph = model.graph
    found = {}
    for port in (*graph.value_info, *graph.output):
        kind = port.type.tensor_type
        if kind.elem_type not in onnx.TensorProto.DataType.values() or not kind.elem_type:
            continue
        name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        sizes = (size.dim_param or size.dim_value or "?" for size in kind.shape.dim)
        shape = f" [{', '.join(map(str, sizes))}]" if kind.HasField("shape") else ""
        found[port.name] = f"{'float32' if name == 'float' else name}{shape}"
    return found
