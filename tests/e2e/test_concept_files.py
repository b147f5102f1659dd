"""Saving into a linked subfolder, wiring the file to Load Concept, and what the list and the tidying node show of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graphs import small

from workbench.comfy_client import RunFailed
from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def choices(server: ComfyServer) -> list[str]:
    info: Any = server.get("/object_info/DCILoadConcept")
    kind, facts = info["DCILoadConcept"]["input"]["optional"]["name"]
    return facts["options"] if kind == "COMBO" else kind


def test_one_graph_trains_saves_on_another_disk_loads_the_file_and_lists_the_run(
    server: ComfyServer, tmp_path: Path
) -> None:
    folder = server.base / "models" / "dci_concepts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "disk").symlink_to(tmp_path)
    graph = small("train", DCISaveConcept={"name": "disk/wired", "precision": "float32"}, ICOTrainer={"seed": 15})
    (saver,) = (name for name, node in graph.items() if node["class_type"] == "DCISaveConcept")
    graph["50"] = {"class_type": "DCILoadConcept", "inputs": {"file_name": [saver, 1]}}
    again = {"concept": ["50", 0], "name": "disk/again", "precision": "float32", "overwrite": False}
    graph["51"] = {"class_type": "DCISaveConcept", "inputs": again}
    tidying = {"1": {"class_type": "DCITidyTrainings", "inputs": {"action": "show"}}}
    before = server.run(tidying)["outputs"]["1"]["text"][0]
    server.run(graph)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.safetensors", "wired.safetensors"]
    assert {"disk/again.safetensors", "disk/wired.safetensors"} < set(choices(server))
    runs = [choice for choice in choices(server) if choice.endswith("/finished.safetensors")]
    assert runs and all(choice.startswith("toy · ") for choice in runs)
    shown = server.run(tidying)["outputs"]["1"]["text"][0]
    heading, *lines = shown.splitlines()
    assert shown.count("\n") == before.count("\n") + 1  # it is never taken from the cache
    assert f"{len(lines)} run" in heading and all(" MB" in line and line.startswith("toy · ") for line in lines)
    for name, reason in (
        ("n/" + "猫" * 80, "240 bytes, and 238 are allowed"),
        ("disk/again.safetensors/x", "Not a dir"),
    ):
        graph[saver]["inputs"]["name"] = name
        with pytest.raises(RunFailed, match=reason):
            server.run(graph)
    (folder / "disk").unlink()
