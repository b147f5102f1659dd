"""What files say of a training: Save Concept's choice, and ComfyUI's flag --disable-metadata, which wins everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.cli_args import args
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.nodes.concepts import LoadConcept, SaveConcept
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from node_runs import run
from safetensors.torch import save_file

from workbench.tiny import Tiny, tiny

PRIVATE = {
    *("settings", "dataset_hash", "versions", "seed", "package_version", "modelspec.thumbnail", "modelspec.resolution"),
}
LEAST = {
    *("format", "format_version", "content_hash", "family", "class_noun", "placeholder", "prefix", "suffix"),
    *("concept_vectors", "steps", "base_hash", "prediction", "clip_layer", "model_patches", "clip_patches"),
}


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("mini")


@pytest.fixture
def disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(args, "disable_metadata", True)


def train(base: Tiny, **inputs: Any) -> Any:
    images = [torch.linspace(0, 1, 3 * 64 * 64 * 3).reshape(3, 64, 64, 3)]
    given = {"images": images, "steps": 3, "resolution": 64, "evaluate_every": 2, **inputs}
    return run(ICOTrainer, model=base.model, clip=base.clip, vae=base.vae, **given)


def saved(concepts: Path, concept: Concept, **inputs: Any) -> tuple[dict[str, str], str]:
    """What the file's metadata are, and what the node says."""
    output = run(SaveConcept, concept=concept, name="cat", overwrite=True, **inputs)
    (loaded,) = run(LoadConcept, name=output[1]).result
    assert torch.equal(loaded.tokens["clip_l"], concept.tokens["clip_l"])
    return read_tensors(concepts / output[1])[1], output.ui.as_dict()["text"][0]


def test_save_concept_leaves_out_what_it_is_told_to(base: Tiny, concepts: Path) -> None:
    concept = train(base)[0]
    usual, said = saved(concepts, concept)
    assert usual.keys() >= PRIVATE | LEAST | {"history", "training_key"} and said.endswith("MB")
    assert saved(concepts, concept, metadata="all") == (usual, said)
    without, said = saved(concepts, concept, metadata="no picture")
    assert without == {name: value for name, value in usual.items() if name != "modelspec.thumbnail"}
    assert said.endswith("metadata: no picture")
    least, said = saved(concepts, concept, metadata="least")
    assert least.pop("content_hash") and least == {name: usual[name] for name in LEAST - {"content_hash"}}
    assert said.endswith("metadata: least")


@pytest.mark.usefixtures("disabled")
@pytest.mark.parametrize("metadata", ["all", "no picture", "least"])
def test_the_hosts_flag_wins(base: Tiny, concepts: Path, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(args, "disable_metadata", False)
    concept = train(base)[0]
    monkeypatch.setattr(args, "disable_metadata", True)
    found, said = saved(concepts, concept, metadata=metadata)
    assert found.keys() == LEAST and said.endswith("metadata: least (--disable-metadata)")


@pytest.mark.usefixtures("disabled")
def test_the_trainers_own_files_obey_the_flag_and_are_still_reused(base: Tiny, concepts: Path) -> None:
    concept, losses, curve = train(base, checkpoint_every=2, save_best=True)
    files = sorted((concepts / "training").rglob("*.safetensors"))
    assert [file.name for file in files] == ["best.safetensors", "finished.safetensors", "step_000002.safetensors"]
    for file in files:
        assert not read_tensors(file)[1].keys() & PRIVATE
    again, same_losses, same_curve = train(base, checkpoint_every=2, save_best=True)
    assert len(losses["loss"]) == 3 and same_losses == losses and torch.equal(same_curve, curve)
    assert again.info == concept.info and again.info.history["loss"] == losses["loss"]
    assert all(torch.equal(again.deltas[name], delta) for name, delta in concept.deltas.items())


def test_a_run_that_another_program_took_the_history_of_is_trained_again(base: Tiny, concepts: Path) -> None:
    _, losses, _ = train(base)
    (file,) = (concepts / "training").rglob("finished.safetensors")
    concept = load_concept(file)
    save_concept(replace(concept, info=replace(concept.info, history={})), file, "float32")
    assert train(base)[1] == losses
    assert load_concept(file).info.history["loss"] == losses["loss"]


def test_load_concept_says_what_it_could_not_read(
    base: Tiny, concepts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(SaveConcept, concept=train(base)[0], name="cat")
    tensors, metadata = read_tensors(concepts / "cat.safetensors")
    save_file(tensors, concepts / "cat.safetensors", {**metadata, "history": "lost", "settings": "[]", "seed": "1"})
    texts: list[str] = []
    monkeypatch.setattr("comfyui_dci.nodes.concepts.text_of_node", lambda node: texts.append)
    (loaded,) = run(LoadConcept, name="cat.safetensors").result
    assert (loaded.info.history, loaded.info.settings, loaded.info.seed) == ({}, {}, 1)
    (text,) = texts
    assert [line.split(" in its metadata")[0] for line in text.split("\n")] == [
        "cat.safetensors: settings",
        "cat.safetensors: history",
    ]
    assert text in caplog.text
