"""A small concept, and what its file holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

LAYERS = (
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2",
    "diffusion_model.middle_block.1.transformer_blocks.0.attn2",
)


KEY, VALUE = f"{LAYERS[0]}.to_k", f"{LAYERS[0]}.to_v"


TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def small_info() -> ConceptInfo:
    return ConceptInfo(
        family="sdxl",
        class_noun="tortoise plushy",
        placeholder="<my-tortoise>",
        prefix=4,
        suffix=2,
        concept_vectors=2,
        steps=123,
        seed=2**63,
        base_hash="0f" * 32,
        settings={"learning_rate": 2e-5, "flip": False, "note": 'a "quoted" \\ übung', "size": [512, 512], "vae": None},
        package_version="9.8.7",
    )


def small_concept() -> Concept:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Concept(
        deltas={f"{layer}.to_{kind}": draw(4, 6) / 100 for layer in LAYERS for kind in "kv"},
        tokens={"clip_l": draw(2, 8), "clip_g": draw(2, 12)},
        info=small_info(),
        contexts={"clip_l": draw(3, 6, 8), "clip_g": draw(3, 6, 12)},
    )


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118 (the file is no mapping)


COVERED = {
    *(
        "format",
        "format_version",
        "family",
        "class_noun",
        "placeholder",
        "prefix",
        "suffix",
        "concept_vectors",
        "steps",
    ),
    *("base_hash", "training_key", "prediction", "clip_layer", "model_patches", "clip_patches"),
}


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The format's checksum, written out again: a file of today must be readable for ever."""
    covered = set(metadata) - {"content_hash"} if metadata.get("format_version") == "1" else COVERED
    stated = {name: value for name, value in metadata.items() if name in covered}
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()))
    return digest.hexdigest()


def rewrite(path: Path, tensors: Mapping[str, Tensor | None], metadata: Mapping[str, str | None]) -> None:
    """Change entries (None takes one out) and state the checksum that belongs to the result."""
    old_tensors, old_metadata = contents(path)
    new_tensors = {name: value for name, value in (old_tensors | dict(tensors)).items() if value is not None}
    new_metadata = {name: value for name, value in (old_metadata | dict(metadata)).items() if value is not None}
    new_metadata["content_hash"] = checksum(new_tensors, new_metadata)
    save_file(new_tensors, str(path), metadata=new_metadata)


def refusal_of(path: Path) -> str:
    with pytest.raises(UserInputError) as refusal:
        load_concept(path)
    assert path.name in str(refusal.value)
    return str(refusal.value)
