"""A concept exported on a real server: the stock nodes make Apply Concept's picture of it, and it comes back as a concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import CHECKPOINT, SIZE, small
from server_pictures import saved_pictures

from workbench.comfy_server import ComfyServer, RunFailed

pytestmark = pytest.mark.usefixtures("queue_is_empty")

NAME = "exchanged"


def exported(server: ComfyServer) -> str:
    """Train a concept, save it and export it; return what the node says."""
    graph = small("train", DCISaveConcept={"name": NAME, "precision": "float32"}, ICOTrainer={"seed": 17})
    given = {"concept": [trainer_of(graph), 0], "name": NAME, "layout": "lora_and_embedding", "precision": "float32"}
    graph["60"] = {"class_type": "DCIExportConcept", "inputs": given}
    return server.run(graph)["outputs"]["60"]["text"][0]


def trainer_of(graph: dict[str, Any]) -> str:
    (node,) = (name for name, node in graph.items() if node["class_type"] == "ICOTrainer")
    return node


def picture(server: ComfyServer, between: dict[str, Any], prompt: str) -> np.ndarray:
    """Return the picture of the stock KSampler, with nodes between the checkpoint and it; the last one is called "9"."""
    text = {"class_type": "CLIPTextEncode"}
    sampled = {"seed": 1, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["9", 0], "positive": ["10", 0], "negative": ["11", 0], "latent_image": ["12", 0]}
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        **between,
        "10": {**text, "inputs": {"clip": ["9", 1], "text": prompt}},
        "11": {**text, "inputs": {"clip": ["9", 1], "text": "blurry"}},
        "12": {"class_type": "EmptyLatentImage", "inputs": {"width": SIZE, "height": SIZE, "batch_size": 1}},
        "13": {"class_type": "KSampler", "inputs": {**sampled, **links}},
        "14": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["1", 2]}},
        "15": {"class_type": "SaveImage", "inputs": {"images": ["14", 0], "filename_prefix": "exchange"}},
    }
    (found,) = saved_pictures(server, server.run(graph), "15")
    return found


def applied(loader: dict[str, Any], strength: float = 1.0) -> dict[str, Any]:
    """Return a node that gives a concept, and Apply Concept."""
    given = {"model": ["1", 0], "clip": ["1", 1], "concept": ["8", 0], "strength": strength}
    return {"8": loader, "9": {"class_type": "DCIApplyConcept", "inputs": given}}


def test_an_exported_concept_serves_the_stock_nodes_and_comes_back(server: ComfyServer) -> None:
    told = exported(server)
    assert f"exported {NAME}: models/loras/{NAME}.safetensors, " in told and "no bit is lost" in told
    ours = {"class_type": "DCILoadConcept", "inputs": {"name": f"{NAME}.safetensors"}}
    expected = picture(server, applied(ours), "a V* toy")
    files = {"lora_name": f"{NAME}.safetensors", "strength_model": 1.0, "strength_clip": 1.0}
    stock = {"9": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], **files}}}
    assert np.array_equal(picture(server, stock, f"a embedding:{NAME} toy"), expected)
    given = {"weights": "none", "embedding": f"{NAME}.safetensors", "class_noun": "toy"}
    again = {"class_type": "DCIImportConcept", "inputs": {"model": ["1", 0], "clip": ["1", 1], **given}}
    words_alone = picture(server, applied(ours, 0.0), "a V* toy")
    assert np.array_equal(picture(server, applied(again), "a V* toy"), words_alone)
    assert not np.array_equal(words_alone, expected)
    again["inputs"]["embedding"] = "gone.safetensors"
    with pytest.raises(RunFailed, match=r"There is no file 'gone.safetensors' in models/embeddings"):
        picture(server, applied(again), "a V* toy")
