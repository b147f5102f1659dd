"""Call nodes as the host does."""

from __future__ import annotations

from typing import Any

import torch


def defaults(node: Any) -> dict[str, Any]:
    """Return the default of every widget, as a fresh node in the graph has them."""
    inputs = node.define_schema().inputs
    return {entry.id: entry.default for entry in inputs if getattr(entry, "default", None) is not None}


def run(node: Any, **inputs: Any) -> Any:
    """Execute a node the way the host does: on its locked class clone, under inference mode, lists where declared."""
    values = {**defaults(node), **inputs}
    if node.define_schema().is_input_list:
        values = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    clone = node.PREPARE_CLASS_CLONE(None)
    with torch.inference_mode():
        return clone.EXECUTE_NORMALIZED(**values)
