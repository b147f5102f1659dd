"""Make an IPAdapter and a CLIP vision model with random weights, for the demo model's layers."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from comfy_install import ROOT
from pack_cases import ADAPTER, VISION
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

DEMO_MODEL = ROOT / "demo_world" / "release" / "dci-demo.safetensors"
CONTEXT_TOKENS, EMBEDDING_WIDTH = 4, 768  # of the first IPAdapter for SD1, on ViT-L's embeddings
PLACES = [("input", n) for n in (1, 2, 4, 5, 7, 8)] + [
    ("output", n) for n in range(3, 12)
]  # SD1.5's, in the file's order
_LAYER = re.compile(
    r"model\.diffusion_model\.(input|output)_blocks\.(\d+)\.1\.transformer_blocks\.0\.attn2\.to_k\.weight"
)


def make_models(models: Path) -> None:
    """Write the adapter and the CLIP vision model (ViT-L, 600 MB) into a models folder."""
    torch.manual_seed(0)
    for folder, name, tensors in (("ipadapter", ADAPTER, adapter()), ("clip_vision", VISION, vision())):
        (models / folder).mkdir(parents=True)
        save_file(tensors, models / folder / name)


def adapter() -> dict[str, Tensor]:
    """Return an adapter's tensors; it acts on those of SD1.5's layer numbers that the demo model has."""
    shapes = layer_shapes()
    width = next(iter(shapes.values()))[1]
    tensors = {
        "image_proj.proj.weight": torch.randn(CONTEXT_TOKENS * width, EMBEDDING_WIDTH) * EMBEDDING_WIDTH**-0.5,
        "image_proj.proj.bias": torch.zeros(CONTEXT_TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for number, place in enumerate(PLACES):
        shape = shapes.get(place, (1, width))
        for kind in ("k", "v"):
            tensors[f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight"] = torch.randn(shape) * width**-0.5
    return tensors


def layer_shapes() -> dict[tuple[str, int], tuple[int, int]]:
    """Return the shape of to_k of the demo model's cross-attention layers, by block and number."""
    with safe_open(DEMO_MODEL, "pt") as file:
        found = {name: _LAYER.fullmatch(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
        return {
            (match[1], int(match[2])): tuple(file.get_slice(name).get_shape()) for name, match in found.items() if match
        }


def vision() -> dict[str, Tensor]:
    """Return the tensors of a CLIP ViT-L vision model."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        projection_dim=EMBEDDING_WIDTH,
    )
    tensors = CLIPVisionModelWithProjection(config).state_dict()
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
