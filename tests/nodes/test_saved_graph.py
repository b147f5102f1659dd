"""A saved concept brings back the graph that trained it when ComfyUI's canvas gets its file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.nodes.concepts import LoadConcept, SaveConcept
from concept_files import small_concept
from node_runs import defaults, run

MOST_BYTES_READ = 4 * 1024 * 1024
"""By the canvas, of a file that is dropped on it."""
WORKFLOW = {"nodes": [{"id": 11, "type": "DCISaveConcept", "title": "Speichern für später 猫"}], "version": 0.4}
PROMPT: dict[str, Any] = {
    "2": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "is_changed": [float("nan")]},
    "10": {"class_type": "ICOTrainer", "inputs": {"images": ["2", 0], "class_noun": "cat"}},
    "11": {"class_type": "DCISaveConcept", "inputs": {"concept": ["10", 0]}, "_meta": {"title": "Save Concept"}},
    "20": {"class_type": "DCILoadConcept", "inputs": {"name": "old.safetensors"}, "is_changed": ["1-2"]},
    "21": {"class_type": "DCISaveConcept", "inputs": {"concept": ["20", 0]}},
}
PLAIN = {name: {part: node[part] for part in node if part != "is_changed"} for name, node in PROMPT.items()}


def save(
    concepts: Path,
    node: str,
    concept: Any = None,
    prompt: Mapping[str, Any] | None = PROMPT,
    workflow: Any = WORKFLOW,
    **inputs: Any,
) -> Path:
    """Run Save Concept as a node of a graph, as the host does; return its file."""
    hidden = {
        io.Hidden.prompt: prompt,
        io.Hidden.unique_id: node,
        io.Hidden.extra_pnginfo: workflow and {"workflow": workflow},
    }
    clone = SaveConcept.PREPARE_CLASS_CLONE({"hidden_inputs": hidden})
    values = {**defaults(SaveConcept), "concept": concept or small_concept(), "name": "cat", **inputs}
    with torch.inference_mode():
        return concepts / clone.EXECUTE_NORMALIZED(**values)[1]


def dropped(file: Path) -> dict[str, str]:
    """What the canvas reads of a file: getLatentMetadata of its pnginfo.ts."""
    start = file.read_bytes()[:MOST_BYTES_READ]
    length = int.from_bytes(start[:4], "little")
    return json.loads(start[8 : 8 + length])["__metadata__"]


def test_the_canvas_finds_the_graph_that_trained_the_concept(concepts: Path) -> None:
    found = dropped(save(concepts, "11"))
    assert json.loads(found["workflow"]) == WORKFLOW and json.loads(found["prompt"]) == PLAIN


def test_a_graph_of_the_api_is_found_too(concepts: Path) -> None:
    found = dropped(save(concepts, "11", workflow=None))
    assert "workflow" not in found and json.loads(found["prompt"]) == PLAIN


def test_the_host_hands_the_graph_to_the_node() -> None:
    hidden = set(SaveConcept.GET_SCHEMA().hidden)
    assert hidden >= {io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id}


def test_the_same_concept_and_graph_give_the_same_bytes_whenever_files_were_changed(concepts: Path) -> None:
    later = {name: {**node, "is_changed": ["later"]} for name, node in PROMPT.items()}
    one, other = save(concepts, "11"), save(concepts, "11", prompt=later)
    assert one != other and one.read_bytes() == other.read_bytes()


def test_the_graph_changes_nothing_but_two_keys(concepts: Path) -> None:
    with_graph, without = save(concepts, "11"), save(concepts, "11", prompt=None, workflow=None)
    found = dropped(with_graph)
    assert {name: value for name, value in found.items() if name not in ("prompt", "workflow")} == dropped(without)
    one, other = load_concept(with_graph), load_concept(without)
    assert one.info == other.info and not other.graph
    assert all(one.deltas[name].equal(other.deltas[name]) for name in other.deltas)


def test_a_graph_that_did_not_train_the_concept_is_not_taken_for_the_one_that_did(concepts: Path) -> None:
    assert not dropped(save(concepts, "21")).keys() & {"prompt", "workflow"}


def test_a_concept_that_is_loaded_and_saved_keeps_the_graph_of_its_training(concepts: Path) -> None:
    first = save(concepts, "11")
    (loaded,) = run(LoadConcept, name=first.name).result
    again = dropped(save(concepts, "21", loaded, workflow={"nodes": []}, rank=2))
    assert again["workflow"] == dropped(first)["workflow"] and again["prompt"] == dropped(first)["prompt"]


def test_a_node_that_another_one_has_made_is_behind_any_trainer_of_the_graph(concepts: Path) -> None:
    assert "prompt" in dropped(save(concepts, "7.0.0.11"))
    without = {name: PROMPT[name] for name in ("20", "21")}
    assert "prompt" not in dropped(save(concepts, "7.0.0.11", prompt=without))


@pytest.mark.parametrize("metadata", ["all", "no picture", "least"])
@pytest.mark.parametrize("disabled", [False, True])
def test_the_switches_leave_the_graph_out(
    concepts: Path, monkeypatch: pytest.MonkeyPatch, metadata: str, disabled: bool
) -> None:
    monkeypatch.setattr(args, "disable_metadata", disabled)
    (loaded,) = run(LoadConcept, name=save(concepts, "11", name="first").name).result
    for concept in (small_concept(), replace(loaded, graph={"workflow": "{}"})):
        found = dropped(save(concepts, "11", concept, metadata=metadata))
        assert ("workflow" in found) == (not disabled and metadata != "least")


def test_room_is_asked_for_the_graph_as_well(concepts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "comfyui_dci.nodes.host.concepts.saving.check_room", lambda folder, size, what: asked.append(size)
    )
    large = {"nodes": ['"' * 2_000_000]}
    file = save(concepts, "11", workflow=large)
    assert asked[-1] >= file.stat().st_size > 4_000_000


def test_the_canvas_of_this_comfyui_reads_these_names_from_a_safetensors_file() -> None:
    package = importlib.util.find_spec("comfyui_frontend_package")
    assert package is not None and package.origin is not None
    scripts = (
        file.read_text(encoding="utf-8") for file in (Path(package.origin).parent / "static" / "assets").glob("*.js")
    )
    (reader,) = [text for text in scripts if "__metadata__" in text]
    assert "slice(0,1024*1024*4)" in reader and "getUint32(0,!0)" in reader
    _, _, dispatch = reader.partition("async function getWorkflowDataFromFile")
    assert ".endsWith(`.safetensors`))return await getLatentMetadata(" in dispatch
    _, _, handler = reader.partition("async handleFile(")
    assert "{workflow:" in handler[:300] and ",prompt:" in handler[:300]
