"""What a graph, as it is queued, says of a node: what its inputs come to, and what leads to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from comfy_execution.graph_utils import is_link

from ...dci_core.sampling.run_masks import Ancestor

Graph = Mapping[str, Mapping[str, Any]]
"""The API form: node ids to ``class_type`` and ``inputs``; a link is the node id and the number of its output."""
TypeOf = Callable[[str, int], str]
"""The type of a node class's output by its number, "" where it is not known."""

NO_PICTURES = frozenset(
    ("MODEL", "CLIP", "VAE", "CONDITIONING", "CONTROL_NET", "CLIP_VISION", "CLIP_VISION_OUTPUT", "STYLE_MODEL")
    + ("UPSCALE_MODEL", "GUIDER", "SAMPLER", "SIGMAS", "NOISE", "MASK", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    + ("DCI_CONCEPT", "DCI_MASKS", "DCI_STRENGTH_SCHEDULE")
)
"""Types that a picture does not come through; those of other packs may hold anything."""
MODELS = frozenset(("MODEL", "GUIDER"))


def signature_of(graph: Graph, node: str) -> str:
    """Return a hash of what a node is given and of all that leads to it, whatever the ids are.

    Args:
        graph: that holds the node and all its links lead to.
        node: its id.
    """
    known: dict[str, str] = {}

    def signature(name: str) -> str:
        if name not in known:
            inputs = graph[name]["inputs"]
            given = {key: [signature(value[0]), value[1]] if is_link(value) else value for key, value in inputs.items()}
            text = json.dumps([graph[name]["class_type"], given], sort_keys=True, default=repr)
            known[name] = hashlib.sha256(text.encode()).hexdigest()
        return known[name]

    return signature(node)


def lineage_of(graph: Graph, node: str, type_of: TypeOf) -> list[Ancestor] | None:
    """Return the nodes that lead to the pictures of a node's input ``image``, nearest first, or None if they are not known.

    Args:
        graph: that is queued.
        node: id of the node whose inputs are ``image`` and ``masks``.
        type_of: the outputs of node classes.
    """
    links: Mapping[str, Any] = graph[node]["inputs"] if node in graph else {}
    image: Any = links.get("image")
    masks: Any = links.get("masks")
    if not is_link(image) or not is_link(masks):
        return None

    def ancestor(name: str, sources: tuple[str, ...]) -> Ancestor:
        models = _upwards(graph, name, lambda kind: kind in MODELS, type_of)
        sampler = graph[name]["class_type"] if models[name] else ""
        return Ancestor(name, signature_of(graph, name), masks[0] in models, sources, sampler)

    pictures = _upwards(graph, image[0], lambda kind: kind not in NO_PICTURES, type_of)
    return [ancestor(name, sources) for name, sources in pictures.items()]


def classes_before(graph: Graph, node: str) -> set[str]:
    """Return the classes of a node of a graph and of all that leads to it."""
    return {graph[name]["class_type"] for name in _upwards(graph, node, lambda kind: True, lambda name, slot: "")}


def _upwards(graph: Graph, start: str, follows: Callable[[str], bool], type_of: TypeOf) -> dict[str, tuple[str, ...]]:
    """Return a node and all that leads to it through outputs of some types, nearest first, each with those it has them from."""
    found: dict[str, tuple[str, ...]] = {}
    waiting = [start]
    for name in waiting:
        links = [value for value in graph[name]["inputs"].values() if is_link(value)]
        found[name] = tuple(node for node, slot in links if follows(type_of(graph[node]["class_type"], slot)))
        waiting += [node for node in dict.fromkeys(found[name]) if node not in waiting]
    return found
