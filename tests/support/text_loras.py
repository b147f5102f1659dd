"""A LoRA of text encoders alone."""

from __future__ import annotations

from typing import Any

import comfy.sd
import torch


def text_lora(clip: Any, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    file = {}
    for key, weight in clip.cond_stage_model.state_dict().items():
        if key.endswith("v_proj.weight"):
            rows, columns = weight.shape
            name = f"text_encoders.{key.removesuffix('.weight')}"
            file[f"{name}.lora_up.weight"] = torch.randn(rows, 4, generator=generator)
            file[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
    return file


def with_text_lora(clip: Any, strength: float) -> Any:
    return comfy.sd.load_lora_for_models(None, clip, text_lora(clip), 0.0, strength)[1]
