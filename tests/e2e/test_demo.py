"""The demo graph in a real server: a subject is learned, the dial turned, and the pictures judged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo_graphs import with_saved_references
from demo_results import RunFacts, collect
from graphs import shipped

from demo_world.judge import load_judge
from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def test_the_demo_graph_leaves_everything_in_one_folder(server: ComfyServer, tmp_path: Path) -> None:
    graph = with_saved_references(shipped("demo"))
    short = {"ICOTrainer": {"steps": 3}, "DCILambdaSweep": {"steps": 4, "seed_count": 2}, "DCISampler": {"steps": 7}}
    for entry in graph.values():
        entry["inputs"] |= short.get(entry["class_type"], {})
    for old in (server.base / "output").glob("dci_*"):
        old.unlink()
    concepts = server.base / "models" / "dci_concepts"
    server.run(graph)
    assert (concepts / "demo.safetensors").is_file()
    output = tmp_path / "out"
    collect(server.base, output, graph, RunFacts(12.0), load_judge())
    names = {file.name for file in output.iterdir()}
    assert names == {
        *(
            "index.html",
            "demo.png",
            "concept.safetensors",
            "sweep.png",
            "masks.png",
            "loss.png",
            "summary.txt",
            "pictures",
        ),
    }
    labels = ["no DCI", *(f"λ {value.strip()}" for value in graph["24"]["inputs"]["injection_strengths"].split(","))]
    pictures = [file.name for file in (output / "pictures").iterdir()]
    assert len([name for name in pictures if name.startswith("seed_")]) == 2 * len(labels)
    assert len([name for name in pictures if name.startswith("reference_")]) == 6
    summary = (output / "summary.txt").read_text(encoding="utf-8")
    assert f'"{graph["21"]["inputs"]["prompt"]}"' in summary and "Mean of 2 pictures" in summary
    assert re.search(r"^ +likeness +obedience", summary, re.MULTILINE) and "12 s in all" in summary
    rows = re.findall(r"^(no DCI|λ \S+)((?: +\d\.\d\d)+)$", summary, re.MULTILINE)
    assert [label for label, _ in rows] == labels
    assert all(0 <= float(value) <= 1 for _, values in rows for value in values.split())
    assert "steps active" in summary
