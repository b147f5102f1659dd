"""A server that runs with --disable-metadata: Save Concept says only what is needed to use the concept, whatever is chosen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.tensor_file import read_tensors
from concept_files import small_concept

from workbench.comfy_server import ComfyServer


def test_a_saved_file_does_not_say_how_it_was_trained(comfyui: Path, tmp_path: Path) -> None:
    concepts = tmp_path / "models" / "dci_concepts"
    concept = small_concept()
    history, thumbnail = {"loss": [0.1]}, "data:image/jpeg;base64,AAAA"
    save_concept(
        replace(concept, info=replace(concept.info, history=history, thumbnail=thumbnail)), concepts / "a.safetensors"
    )
    graph = {
        "1": {"class_type": "DCILoadConcept", "inputs": {"name": "a.safetensors"}},
        "2": {
            "class_type": "DCISaveConcept",
            "inputs": {"concept": ["1", 0], "name": "b", "precision": "float32", "overwrite": False, "metadata": "all"},
        },
    }
    with ComfyServer(comfyui, Path(sys.executable), tmp_path, ["--disable-metadata"]) as server:
        entry = server.run(graph)
    assert "metadata: least (--disable-metadata)" in str(entry["outputs"]["2"])
    said = {name for file in ("a", "b") for name in read_tensors(concepts / f"{file}.safetensors")[1]}
    assert {"settings", "history", "modelspec.thumbnail"} <= said
    left = read_tensors(concepts / "b.safetensors")[1]
    assert not left.keys() & {"settings", "history", "seed", "package_version", "modelspec.thumbnail"}
    assert load_concept(concepts / "b.safetensors").info.class_noun == concept.info.class_noun
