"""What the end-to-end server is given: a checkpoint with random weights and reference images."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path

from workbench.pack import ROOT

SMALL_CHECKPOINT = "dci-small-sd1-layout-1.safetensors"
REFERENCES = 4


def make_small_checkpoint(comfyui: Path, python: Path, folder: Path) -> Path:
    """Return the small checkpoint, making it on first use (150 million random weights, 300 MB)."""
    path = folder / SMALL_CHECKPOINT
    if not path.is_file():
        command = [str(python), "-m", "workbench.small_checkpoint", str(path)]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "COMFYUI_PATH": str(comfyui)}, check=True)
    return path


def draw_references(folder: Path) -> list[str]:
    """Draw a striped ball on four backgrounds, as reference images, and return their file names."""
    from PIL import Image, ImageDraw

    names = []
    for index in range(REFERENCES):
        picture = Image.new("RGB", (256, 256), ((70, 120, 80), (200, 190, 160), (120, 150, 190), (90, 80, 100))[index])
        draw = ImageDraw.Draw(picture)
        center, radius = (112 + 10 * index, 140 - 8 * index), 70 + 5 * index
        box = [center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]
        draw.ellipse(box, (220, 60, 50))
        for stripe in range(-2, 3):
            height = stripe * radius // 3
            width = int(math.sqrt(radius**2 - height**2))
            line = [(center[0] - width, center[1] + height), (center[0] + width, center[1] + height)]
            draw.line(line, (250, 220, 80), 6)
        names.append(f"reference_{index + 1}.png")
        picture.save(folder / names[-1])
    return names


def make_small_lora(checkpoint: Path, path: Path) -> None:
    """Write a LoRA of rank 2 with random weights on keys and values of the checkpoint's cross-attention."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(16)
    tensors = {}
    with safe_open(checkpoint, "pt") as file:
        for name in sorted(file.keys()):
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
                layer = name.removeprefix("model.").removesuffix(".weight")
                rows, columns = file.get_slice(name).get_shape()
                tensors[f"{layer}.lora_up.weight"] = 0.1 * torch.randn(rows, 2, generator=generator)
                tensors[f"{layer}.lora_down.weight"] = 0.1 * torch.randn(2, columns, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
