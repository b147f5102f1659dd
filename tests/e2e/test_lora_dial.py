"""A concept of ours on a real server, used by the stock loaders as LoRA and embedding: the picture of Apply Concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import small
from server_pictures import saved_pictures

from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")

NAME = "dial"


def picture(server: ComfyServer, entry: dict[str, Any]) -> np.ndarray:
    """Return the image that a shipped graph saves."""
    (found,) = saved_pictures(server, entry, "26")
    return found


def trained(server: ComfyServer) -> np.ndarray:
    """Train and save a concept, and put its file among the LoRAs and embeddings too; return its picture with V*."""
    graph = small(
        "train_and_generate",
        ICOTrainer={"seed": 16},
        DCISaveConcept={"name": NAME, "overwrite": True},
        AuxPromptBuilder={"auxiliary_noun": "dog"},
    )
    del graph["8"]
    graph["10"]["inputs"] = {k: v for k, v in graph["10"]["inputs"].items() if not k.startswith("regularization")}
    server.run(graph)
    models = server.base / "models"
    for kind in ("loras", "embeddings"):
        (models / kind).mkdir(exist_ok=True)
        (models / kind / f"{NAME}.safetensors").symlink_to(models / "dci_concepts" / f"{NAME}.safetensors")
    names = {"DCILoadConcept": {"name": f"{NAME}.safetensors"}, "AuxPromptBuilder": {"auxiliary_noun": "dog"}}
    return picture(server, server.run(small("generate", **names)))


def by_stock_loaders(strength: float = 1.0) -> dict[str, Any]:
    """Return the shipped graph with a LoraLoader in place of Apply Concept."""
    subject = f"embedding:{NAME} toy"
    words = {"auxiliary_noun": "dog", "prompt": f"a {subject} in times square", "subject": subject}
    graph = small("generate", AuxPromptBuilder={**words, "auxiliary_lora_strength": strength})
    del graph["2"]
    files = {"lora_name": f"{NAME}.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
    graph["20"] = {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], **files}}
    return graph


def test_a_lora_and_an_embedding_give_the_picture_of_apply_concept(server: ComfyServer) -> None:
    expected = trained(server)
    texts: dict[str, str] = {}

    def listen(kind: str, data: dict[str, Any]) -> None:
        if kind == "text":
            texts[data["node"]] = data["text"]

    assert np.array_equal(picture(server, server.run(by_stock_loaders(), listen)), expected)
    assert "auxiliary prompt: a dog in times square" in texts["21"]
    assert "steps 1 to 2 of 6" in texts["24"]
    weaker = picture(server, server.run(by_stock_loaders(0.5), listen))
    assert not np.array_equal(weaker, expected)
