"""Which node the host is running, and the graph that it belongs to."""

from __future__ import annotations

from typing import Any

import nodes as host_nodes
from comfy_execution.graph_utils import is_link
from comfy_execution.utils import get_executing_context

from ...dci_core.errors import UserInputError
from ...dci_core.sampling.masks import Origin
from .lineage import Graph, signature_of
from .server import running_server


def executing_origin() -> Origin | None:
    """Return the node that is running, with its signature if the queued graph holds it; None outside a graph."""
    context = get_executing_context()
    if context is None:
        return None
    graph = running_graph(context.prompt_id)
    signature = signature_of(graph, context.node_id) if context.node_id in graph else None
    return Origin(context.node_id, context.list_index or 0, signature)


def executing_place() -> int:
    """Return which of the inputs in its lists the running node is given, from 0."""
    context = get_executing_context()
    return 0 if context is None else context.list_index or 0


def running_graph(prompt_id: str) -> Graph:
    """Return the graph that is running under an id; an empty one without a server."""
    queue = getattr(running_server(), "prompt_queue", None)
    if queue is None:
        return {}
    running, _ = queue.get_current_queue_volatile()
    graphs: list[Graph] = [item[2] for item in running if item[1] == prompt_id]
    return graphs[0] if graphs else {}


def check_batch(graph: Graph, node: str, name: str) -> None:
    """Refuse a list at an input that takes one batch: the host would run the node once for each of the list.

    Args:
        graph: that is queued.
        node: id of the node.
        name: of its input.

    Raises:
        UserInputError: a list is connected.
    """
    link: Any = graph[node]["inputs"].get(name) if node in graph else None
    if not is_link(link) or link[0] not in graph:
        return
    kind = graph[link[0]]["class_type"]
    lists = getattr(host_nodes.NODE_CLASS_MAPPINGS.get(kind), "OUTPUT_IS_LIST", None) or ()
    if link[1] < len(lists) and lists[link[1]]:
        raise UserInputError(
            f"{name} is connected with a list of images (node {link[0]}, {kind}), and everything would be drawn once for each of them. "
            f"Connect one batch, or leave {name} out."
        )


def output_type(class_type: str, slot: int) -> str:
    """Return the type of a node class's output, "" where it is not known."""
    node_class: Any = host_nodes.NODE_CLASS_MAPPINGS.get(class_type)
    types = getattr(node_class, "RETURN_TYPES", ())
    return str(types[slot]) if slot < len(types) else ""
