"""Call nodes as the host does."""

from __future__ import annotations

from typing import Any

import torch
from comfyui_dci.nodes.ico_trainer import ICOTrainer

from workbench.tiny import tiny


def defaults(node: Any) -> dict[str, Any]:
    """Return the default of every widget, as a fresh node in the graph has them."""
    inputs = node.define_schema().inputs
    return {entry.id: entry.default for entry in inputs if getattr(entry, "default", None) is not None}


def required_defaults(node: Any) -> dict[str, Any]:
    """Return the default of every widget that a graph of the API must hold."""
    needed = {entry.id for entry in node.define_schema().inputs if not entry.optional}
    return {name: value for name, value in defaults(node).items() if name in needed}


def run(node: Any, **inputs: Any) -> Any:
    """Execute a node the way the host does: on its locked class clone, under inference mode, lists where declared."""
    return _executed(node, {**defaults(node), **inputs})


def run_bare(node: Any, **inputs: Any) -> Any:
    """Execute a node as a graph of the API does that leaves out whatever is optional."""
    return _executed(node, {**required_defaults(node), **inputs})


def _executed(node: Any, values: dict[str, Any]) -> Any:
    if node.define_schema().is_input_list:
        values = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    clone = node.PREPARE_CLASS_CLONE(None)
    with torch.inference_mode():
        return clone.EXECUTE_NORMALIZED(**values)


def trained(**inputs: Any) -> Any:
    """Return the model that two steps were trained on, and what the node gives."""
    base = tiny("sd1")
    images = [torch.rand(2, 64, 80, 3), torch.rand(1, 96, 64, 3)]
    return base, run(
        ICOTrainer, model=base.model, clip=base.clip, vae=base.vae, images=images, steps=2, resolution=64, **inputs
    )
