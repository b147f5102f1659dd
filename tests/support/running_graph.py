"""A node at work in a queued graph, as the host's server tells of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import nodes as host_nodes
import pytest
import torch
from comfy_api.latest import io
from comfy_execution.utils import CurrentNodeContext
from node_runs import defaults


def register(monkeypatch: pytest.MonkeyPatch, *node_classes: Any) -> None:
    """Let the host know nodes of the pack, as it does after start."""
    for node in node_classes:
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.define_schema().node_id, node)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, graph: dict[str, Any], node: str, place: int = 0) -> Iterator[None]:
    """Make a node of a graph the one that the host is running."""
    queue = SimpleNamespace(get_current_queue_volatile=lambda: ([(0, "another", {}), (1, "job", graph)], []))
    with monkeypatch.context() as patched:
        instance = SimpleNamespace(prompt_queue=queue)
        patched.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
        with CurrentNodeContext("job", node, place):
            yield


def run_in(monkeypatch: pytest.MonkeyPatch, graph: dict[str, Any], node_id: str, node: Any, **inputs: Any) -> Any:
    """Execute a node of a graph the way the host does, with what it hands over unseen."""
    clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.prompt: graph, io.Hidden.unique_id: node_id}})
    with running(monkeypatch, graph, node_id), torch.inference_mode():
        return clone.EXECUTE_NORMALIZED(**{**defaults(node), **inputs})
