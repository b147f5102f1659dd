"""The shipped API-format graphs, sized for the small checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

API = Path(__file__).resolve().parents[2] / "workflows" / "api"
CHECKPOINT = "dci-small-sd1-layout-1.safetensors"
SIZE = 64


def shipped(name: str) -> dict[str, Any]:
    """Return a shipped graph."""
    return json.loads((API / f"{name}.json").read_text())


def small(name: str, **changes: dict[str, Any]) -> dict[str, Any]:
    """Return a shipped graph for the small checkpoint: few steps, small images.

    Args:
        name: of the graph.
        changes: inputs to set, by node type.
    """
    graph = shipped(name)
    usual = {
        "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
        "DCIClassImages": {"count": 2, "steps": 2, "resolution": SIZE},
        "ICOTrainer": {"steps": 4, "resolution": SIZE, "batch_size": 1, "learning_rate": 1e-4},
        "EmptyLatentImage": {"width": SIZE, "height": SIZE},
        "DCISampler": {"steps": 6, "active_fraction": 0.3, "injection_strength": 1.0},
    }
    for node in graph.values():
        node["inputs"] |= usual.get(node["class_type"], {})
        node["inputs"] |= changes.get(node["class_type"], {})
    return graph
