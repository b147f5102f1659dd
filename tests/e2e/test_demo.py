"""The demo graph in a real server: a subject is learned, the dial turned, and the pictures judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo_results import collect
from graphs import shipped

from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def test_the_demo_graph_leaves_everything_in_one_folder(server: ComfyServer, tmp_path: Path) -> None:
    graph = shipped("demo")
    short = {"ICOTrainer": {"steps": 3}, "DCILambdaSweep": {"steps": 4, "seed_count": 2}, "DCISampler": {"steps": 7}}
    for entry in graph.values():
        entry["inputs"] |= short.get(entry["class_type"], {})
    for old in (server.base / "output").glob("dci_*"):
        old.unlink()
    concepts = server.base / "models" / "dci_concepts"
    server.run(graph)
    assert (concepts / "demo.safetensors").is_file()
    collect(server.base, tmp_path / "out", graph, 12.0)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"concept.safetensors", "sweep.png", "masks.png", "loss.png", "summary.txt"}
    summary = (tmp_path / "out" / "summary.txt").read_text()
    assert '"photo of a V* car' in summary and "2 seeds" in summary and "12 s in all" in summary
    assert re.search(r"^ +likeness +umbrella +at night$", summary, re.MULTILINE)
    rows = re.findall(r"^(no DCI|λ \S+) +(\d\.\d\d) +(\d\.\d\d) +(\d\.\d\d)$", summary, re.MULTILINE)
    strengths = graph["24"]["inputs"]["injection_strengths"].split(",")
    assert [row[0] for row in rows] == ["no DCI", *(f"λ {value.strip()}" for value in strengths)]
    assert all(0 <= float(value) <= 1 for row in rows for value in row[1:])
    assert "steps active" in summary
