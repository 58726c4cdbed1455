"""Which provider runs which nodes of a session: the third guard of the device contract."""

from __future__ import annotations

from collections import Counter
from typing import Any

Placement = dict[str, dict[str, int]]


def placement_of(native: Any) -> Placement:
    """Return provider -> operator -> how many nodes of a created session.

    Parameters
    ----------
    native : onnxruntime.InferenceSession
        Made with ``session.record_ep_graph_assignment_info``.

    Notes
    -----
    As onnxruntime parted the graph, constants folded and before a provider fused its own nodes.
    """
    counts: dict[str, Counter[str]] = {}
    for part in native.get_provider_graph_assignment_info():
        nodes = [node.op_type for node in part.get_nodes()]
        if nodes:
            counts.setdefault(part.ep_name, Counter()).update(nodes)
    return {provider: dict(found.most_common()) for provider, found in counts.items()}


def listed(operators: dict[str, int]) -> str:
    """Return operators, most frequent first, as text for a message."""
    return ", ".join(f"{name} x{count}" for name, count in list(operators.items())[:8])
