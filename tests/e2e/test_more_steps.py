"""More steps in a queued graph: the server goes on from the finished run, says so on the node, and makes the same concept."""

from __future__ import annotations

from typing import Any

import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept
from graphs import SIZE, small

from workbench.comfy_server import ComfyServer

TRAINER = "10"
SEED = 77  # of no other test's runs


def train(server: ComfyServer, name: str, **inputs: Any) -> tuple[Concept, list[int], list[str]]:
    """Return the saved concept, the steps that were taken, and what the node said."""
    steps: list[int] = []
    texts: list[str] = []

    def watch(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data.get("node") == TRAINER and data["value"]:
            steps.append(data["value"])
        if kind == "text" and data.get("node") == TRAINER:
            texts.append(data["text"])

    trainer = {"resolution": SIZE, "batch_size": 1, "checkpoint_every": 2, "seed": SEED, **inputs}
    server.run(small("train", ICOTrainer=trainer, DCISaveConcept={"name": name, "precision": "float32"}), watch)
    return load_concept(server.base / "models" / "dci_concepts" / f"{name}.safetensors"), steps, texts


def test_more_steps_go_on_and_make_the_concept_that_all_steps_at_once_make(server: ComfyServer) -> None:
    train(server, "five", steps=5)
    more, steps, texts = train(server, "seven", steps=7)
    assert min(steps) > 5 and max(steps) == 7
    begins, goes_on = texts[0], texts[1].split("\n")[-1]
    assert begins.startswith("preset with_dci") and goes_on.startswith("Going on from step 5 of training/toy-")
    assert all(goes_on in text for text in texts[1:])
    folder = goes_on.removeprefix("Going on from step 5 of training/").rstrip(".")
    assert f"The state of training/{folder} was deleted, as this run's takes its place" in texts[-1]
    root = server.base / "models" / "dci_concepts" / "training"
    assert (root / folder / "finished.safetensors").is_file() and not list((root / folder).glob("*.resume"))
    once, all_steps, _ = train(server, "once", steps=7, reuse=False)
    assert min(all_steps) < 5
    assert once.info == more.info
    for ours, theirs in ((once.deltas, more.deltas), (once.tokens, more.tokens)):
        assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
