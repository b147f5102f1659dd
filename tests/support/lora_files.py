"""LoRA and LyCORIS files with random weights for the tiny models, as trainers of other people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import torch
from safetensors.torch import save_file

RANK = 4
KINDS = ("lora", "loha", "lokr")
PARTS = {
    "lora": (("lora_up.weight", "out", RANK), ("lora_down.weight", RANK, "in")),
    "loha": (
        ("hada_w1_a", "out", RANK),
        ("hada_w1_b", RANK, "in"),
        ("hada_w2_a", "out", RANK),
        ("hada_w2_b", RANK, "in"),
    ),
    "lokr": (("lokr_w1", 2, 2), ("lokr_w2_a", "out/2", RANK), ("lokr_w2_b", RANK, "in/2")),
}
"""The tensors of a layer by kind, each with its rows and columns."""


def write_lora(path: Path, model: Any, clip: Any, kind: str = "lora", seed: int = 0, strength: float = 0.3) -> Path:
    """Write a file that changes every attention of a tiny model and of its text encoders, under kohya's names.

    Args:
        path: of the file.
        model: a host MODEL.
        clip: its CLIP.
        kind: one of ``KINDS``.
        seed: of the random weights.
        strength: typical size of the change, in shares of the weights' own.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in _layers(model, clip).items():
        sizes = {"out": weight.shape[0], "in": weight.shape[1], RANK: RANK, 2: 2}
        sizes |= {"out/2": weight.shape[0] // 2, "in/2": weight.shape[1] // 2}
        drawn = {
            f"{name}.{part}": torch.randn(sizes[rows], sizes[columns], generator=generator)
            for part, rows, columns in PARTS[kind]
        }
        first = f"{name}.{PARTS[kind][0][0]}"
        drawn[first] *= strength * weight.float().std() / RANK**0.5
        tensors |= {key: value.contiguous() for key, value in drawn.items()}
        tensors[f"{name}.alpha"] = torch.tensor(float(RANK))
    save_file(tensors, path)
    return path


def _layers(model: Any, clip: Any) -> dict[str, torch.Tensor]:
    """Return the weights that such a file changes, by kohya's name of the layer."""
    unet = comfy.lora.model_lora_keys_unet(model.model, {})
    text = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    weights = {**model.model.state_dict(), **clip.cond_stage_model.state_dict()}
    chosen: dict[str, str] = {}  # one name for each weight: the first that begins as kohya's do
    for name, key in [*unet.items(), *text.items()]:
        of_attention = name.startswith(("lora_unet_", "lora_te")) and ("attn" in key)
        if of_attention and key not in chosen and weights[key].ndim == 2:
            chosen[key] = name
    return {name: weights[key] for key, name in chosen.items()}
