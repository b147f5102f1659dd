"""What the host lets files say of how they were made: its flag --disable-metadata, and the graph that it runs."""

from __future__ import annotations

import json
from typing import Any

from comfy.cli_args import args

from .lineage import classes_before

TRAINER = "ICOTrainer"

_PARTS_OF_NODE = ("inputs", "class_type", "_meta")
"""Of a node in a prompt; beside them the host notes when files were changed."""


def is_metadata_disabled() -> bool:
    """Return whether the server was started with --disable-metadata."""
    return bool(args.disable_metadata)


def graph_of(hidden: Any) -> dict[str, str]:
    """Return the graph that a node stands in, if it trains what the node is given, as JSON under the names that the canvas reads.

    Args:
        hidden: inputs of the node: its id, and the graph for the API and as it was drawn, each where the host knows it.
    """
    prompt = hidden.prompt or {}
    is_there = hidden.unique_id in prompt  # not where another node has made it while the graph runs
    before = classes_before(prompt, hidden.unique_id) if is_there else {node["class_type"] for node in prompt.values()}
    if TRAINER not in before:
        return {}
    plain = {name: {part: node[part] for part in _PARTS_OF_NODE if part in node} for name, node in prompt.items()}
    graph = {"prompt": plain, "workflow": (hidden.extra_pnginfo or {}).get("workflow")}
    return {name: json.dumps(value) for name, value in graph.items() if value}
